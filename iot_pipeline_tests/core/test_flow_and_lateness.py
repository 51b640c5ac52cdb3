import uuid
from datetime import UTC, datetime, timedelta

import pytest

from iot_pipeline.core.devices import NewestRow, describe_device
from iot_pipeline.core.fleet_problems import find_problems
from iot_pipeline.core.flow import measure_flow
from iot_pipeline.core.lateness import EDGES, LABELS, Arrival, sum_up
from iot_pipeline.core.ledger import Counts, LedgerEntry, Outcome
from iot_pipeline.core.quality_limits import QualityLimits

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SINCE = NOW - timedelta(hours=1)


def entry(run, minutes_ago, stored=0, behind_seconds=1.0, outcome=Outcome.INGESTED, rejected=0):
    at = NOW - timedelta(minutes=minutes_ago)
    last = None if behind_seconds is None else round((at.timestamp() - behind_seconds) * 1000)
    counts = Counts(stored=stored, rejected=rejected, last_record_ms=last)
    return LedgerEntry("t", 0, 0, 0, stored, outcome, run, uuid.uuid4(), counts, at)


def test_rows_are_summed_in_slices_and_runs_are_as_far_behind_as_their_newest_record():
    flow = measure_flow(
        [
            entry("a", 59.5, 600, 7.0),
            entry("a", 59.5, 600, 3.0, rejected=5),
            entry("b", 0.5, 60, 0.25),
            entry("old", 61, 1_000),
            entry("lost", 5, 999, outcome=Outcome.EXPIRED),
            entry("empty", 5, 0, None),
        ],
        SINCE,
        NOW,
    )
    assert len(flow.rows_per_second) == 60
    assert flow.rows_per_second[0] == 20.0
    assert flow.rows_per_second[-1] == 1.0
    assert sum(flow.rows_per_second[1:-1]) == 0
    assert [run.behind_seconds for run in flow.runs] == pytest.approx([3.0, 0.25], abs=0.001)
    assert (flow.stored, flow.rejected) == (1260, 5)


def test_every_arrival_is_in_one_bin_and_the_edges_are_where_they_are_said_to_be():
    assert len(LABELS) == len(EDGES) + 1
    seconds = [-2.0, 0.0, 1.5, 3.0, 7.0, 20.0, 45.0, 120.0, 1000.0, 7200.0, 100_000.0]
    lateness = sum_up([Arrival(f"d{n}", late) for n, late in enumerate(seconds)])
    assert lateness.counts == (1,) * len(LABELS)
    assert (lateness.readings, lateness.devices, lateness.longest) == (11, 11, 100_000.0)
    assert lateness.p50 == 20.0
    assert sum_up([]).p95 == 0.0


def test_a_device_is_late_by_its_median_not_by_one_reading():
    arrivals = [Arrival("well", 0.5)] * 9 + [Arrival("well", 9000.0)]
    arrivals += [Arrival("late", 300.0)] * 6 + [Arrival("late", 0.1)] * 4
    arrivals += [Arrival("ahead", -30.0)] * 3
    lateness = sum_up(arrivals)
    assert lateness.late == (("late", 300.0),)
    assert lateness.ahead == (("ahead", -30.0),)


def device(name, age):
    rows = [NewestRow(round((NOW.timestamp() - age - n) * 1000), 1.0, 1.0, None) for n in range(9)]
    return describe_device(name, rows, None, NOW, QualityLimits())


def test_a_device_with_problems_is_named_once_with_what_is_worst():
    lateness = sum_up([Arrival("gone", 900.0), Arrival("late", 900.0), Arrival("clock", -60.0)])
    shares = {"gone": [0.0], "gaps": [1.0, 0.25, None], "well": [0.95, None], "none": [None]}
    devices = [device("gone", 7200), device("longer", 9000), device("well", 1)]
    problems = find_problems(devices, lateness, shares, NOW)
    assert [(problem.device_id, problem.word) for problem in problems] == [
        ("longer", "silent"),
        ("gone", "silent"),
        ("late", "late"),
        ("clock", "clock"),
        ("gaps", "gaps"),
    ]
    said = {problem.device_id: problem.sentence for problem in problems}
    assert said["gone"] == "no reading for 2 h, usually one every 1 s"
    assert said["late"] == "its readings reach Kafka 15 min after they were measured"
    assert said["clock"] == "its clock is 1 min ahead"
    assert said["gaps"] == "readings missing in 1 hour, 75% in the worst"
