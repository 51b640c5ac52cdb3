"""Rows over time as they arrived, and delays between fixed edges."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from iot_pipeline.artifacts.kept import LEAST_REST_SECONDS, LastDrawing
from iot_pipeline.core.fleet.delays import EDGES, LABELS, Delays, FleetRecord
from iot_pipeline.core.fleet.kept_states import decode, encode
from iot_pipeline.core.ledger.chain import Counts, LedgerEntry, Outcome
from iot_pipeline.core.ledger.flow import measure_flow

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SINCE = NOW - timedelta(hours=1)


def entry(run, since, until, stored=0, behind=1.0, outcome=Outcome.INGESTED, rejected=0):
    """Records that arrived between so many minutes ago, committed `behind` seconds later."""
    first, last = (round((NOW.timestamp() - 60 * ago) * 1000) for ago in (since, until))
    counts = Counts(stored=stored, rejected=rejected, first_record_ms=first, last_record_ms=last)
    at = datetime.fromtimestamp(last / 1000 + behind, UTC)
    return LedgerEntry("t", 0, 0, 0, stored, outcome, run, uuid.uuid4(), counts, at)


def test_rows_are_in_the_slices_they_arrived_in_and_runs_as_far_behind_as_their_newest_record():
    flow = measure_flow(
        [
            entry("a", 60, 59, 600, 7.0),
            entry("a", 60, 59, 600, 3.0, rejected=5),
            entry("b", 1, 0.5, 60, 0.25),
            entry("lost", 5, 4, 999, outcome=Outcome.EXPIRED),
        ],
        SINCE,
        NOW,
    )
    assert len(flow.rows_per_second) == 60
    assert flow.rows_per_second[0] == pytest.approx(20.0)
    assert flow.rows_per_second[-1] == pytest.approx(1.0)
    assert sum(flow.rows_per_second[1:-1]) == pytest.approx(0)
    assert [run.behind_seconds for run in flow.runs] == pytest.approx([3.0, 0.25], abs=0.001)
    assert (flow.stored, flow.rejected) == (1260, 5)


def test_a_run_that_follows_for_an_hour_and_goes_on_is_in_every_slice():
    flow = measure_flow([entry("follow", 60, 0.001, 36_000)], SINCE, NOW)
    assert flow.rows_per_second == pytest.approx([10.0] * 60, rel=0.01)


def test_what_a_run_ingested_while_it_was_asked_about_counts_too():
    flow = measure_flow([entry("follow", 30, -0.2, 3_000, rejected=7)], SINCE, NOW)
    assert (flow.stored, flow.rejected) == (3_000, 7)
    assert [run.behind_seconds for run in flow.runs] == pytest.approx([1.0], abs=0.001)


def test_a_day_with_ten_minutes_of_readings_is_drawn_as_ten_minutes():
    flow = measure_flow([entry("a", 12, 0.1, 720)], NOW - timedelta(days=1), NOW)
    assert flow.since_ms == (NOW - timedelta(minutes=12)).timestamp() * 1000
    assert min(flow.rows_per_second[:-1]) > 0.9


def test_every_delay_is_in_one_bin_and_the_edges_are_where_they_are_said_to_be():
    seconds = [-2.0, 0.0, 1.5, 3.0, 7.0, 20.0, 45.0, 120.0, 1000.0, 7200.0, 100_000.0]
    delays = Delays.of(round(1000 * late) for late in seconds)
    assert len(LABELS) == len(delays.shown())
    assert delays.shown() == [1] * len(LABELS)
    assert delays.total == sum(delays.counts) == len(seconds)
    assert list(EDGES) == sorted(EDGES)


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
def test_a_percentile_is_within_its_bin_and_never_above_the_largest(share):
    delays = Delays.of(range(1, 50_001))
    true = 50.0 * share
    assert delays.percentile(share) == pytest.approx(true, rel=0.05)
    assert Delays().percentile(share) == 0.0
    assert Delays.of([70]).percentile(share) <= 0.07


def test_what_is_kept_of_the_fleet_is_of_a_day_and_reads_back_equal():
    record = FleetRecord()
    for hour in range(500_000, 500_040):
        record.add(hour, Delays.of([40]))
    assert len(record.hours) == 25
    assert record.since(500_039 * 3_600_000).total == 1
    assert record.since(0).total == 25
    assert decode(FleetRecord, encode(record)) == record


def test_pictures_rest_for_a_minute_and_longer_after_what_took_long():
    now = 10_000_000
    assert LastDrawing().is_over(now)
    assert not LastDrawing(now - 59_000, "r", 0.1).is_over(now)
    assert LastDrawing(now - round(1000 * LEAST_REST_SECONDS), "r", 0.1).is_over(now)
    assert not LastDrawing(now - 200_000, "r", 2.0).is_over(now), "two seconds, four minutes"
    assert LastDrawing(now + 1, "r", 2.0).is_over(now), "a clock that was set back"
