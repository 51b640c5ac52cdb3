"""Conditional writes and their decisions, against Cassandra's own Paxos."""

import dataclasses
import uuid
from datetime import UTC, date, datetime

import pytest

from iot_pipeline.clients.ledger_store import CassandraLedgerStore
from iot_pipeline.core.ingest.stopped import Stop
from iot_pipeline.core.ledger.chain import (
    Applied,
    Commit,
    Counts,
    Fenced,
    LedgerEntry,
    Outcome,
    Rebased,
    decide_commit,
    find_flaws,
)
from iot_pipeline.core.reading.offsets import Checkpoint
from iot_pipeline.errors import CheckpointWentBackError
from iot_pipeline.stages.ledger.commits import commit_all
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services

ME, OTHER = uuid.uuid4(), uuid.uuid4()


@pytest.fixture
def ledger(pipeline: Pipeline) -> CassandraLedgerStore:
    pipeline.connections.ledger.first_contact(pipeline.topic, [Checkpoint(0, 100, 0, "uuid")])
    return pipeline.connections.ledger


def commit_of(pipeline: Pipeline, expected: int, end: int, run_start: int = 100) -> Commit:
    counts = Counts(
        stored=end - run_start - 1,
        holes=1,
        stored_by_day={date(2024, 12, 29): end - run_start - 1},
        first_record_ms=1_735_444_918_316,
        last_record_ms=1_735_444_918_317,
    )
    place = pipeline.topic, 0, 0, "uuid", run_start, expected, end
    return Commit(*place, "run-1", ME, counts, declaration="5fa3")


def settle(ledger: CassandraLedgerStore, commit: Commit) -> Applied | Fenced | Rebased:
    ((_, outcome),) = commit_all(ledger, [commit], 5.0)
    return outcome


def test_a_commit_moves_the_checkpoint_and_extends_the_runs_row_at_once(
    pipeline: Pipeline, ledger: CassandraLedgerStore
) -> None:
    first, second = commit_of(pipeline, 100, 150), commit_of(pipeline, 150, 200)
    assert settle(ledger, first) is Applied.YES
    assert settle(ledger, second) is Applied.YES
    (entry,) = ledger.read_entries(pipeline.topic, [0])
    assert dataclasses.replace(entry, updated_at=None) == LedgerEntry(
        *(pipeline.topic, 0, 0, 100, 200, Outcome.INGESTED, "run-1", ME, second.counts),
        declaration="5fa3",
    )
    checkpoints = ledger.read_checkpoints(pipeline.topic, [0, 1])
    assert checkpoints == {0: Checkpoint(0, 200, 0, "uuid")}
    assert find_flaws([entry], checkpoints.values()) == []
    assert ledger.partitions(pipeline.topic) == [0]


def test_a_first_contact_never_moves_a_checkpoint_that_is_there(
    pipeline: Pipeline, ledger: CassandraLedgerStore
) -> None:
    ledger.first_contact(pipeline.topic, [Checkpoint(0, 7, 3, "another")])
    assert ledger.read_checkpoints(pipeline.topic, [0]) == {0: Checkpoint(0, 100, 0, "uuid")}


def test_a_partition_that_has_a_checkpoint_and_no_row_has_no_entry(
    pipeline: Pipeline, ledger: CassandraLedgerStore
) -> None:
    assert ledger.read_entries(pipeline.topic, [0, 1]) == []


def test_a_commit_that_was_applied_and_is_sent_again_counts_as_applied(
    pipeline: Pipeline, ledger: CassandraLedgerStore
) -> None:
    first = commit_of(pipeline, 100, 150)
    assert settle(ledger, first) is Applied.YES
    assert settle(ledger, first) is Applied.YES
    assert ledger.read_checkpoints(pipeline.topic, [0])[0].next_offset == 150


def test_an_applied_commit_is_known_even_when_somebody_went_on_from_it(
    pipeline: Pipeline, ledger: CassandraLedgerStore
) -> None:
    mine = commit_of(pipeline, 100, 150)
    assert settle(ledger, mine) is Applied.YES
    theirs = dataclasses.replace(
        commit_of(pipeline, 150, 170, run_start=150), writer_id=OTHER, run_id="run-2"
    )
    assert settle(ledger, theirs) is Applied.YES
    assert decide_commit(mine, ledger.read_state(mine)) is Applied.YES


def test_the_slower_of_two_runs_is_fenced_and_told_by_whom(
    pipeline: Pipeline, ledger: CassandraLedgerStore
) -> None:
    winner = dataclasses.replace(commit_of(pipeline, 100, 170), writer_id=OTHER, run_id="run-2")
    assert settle(ledger, winner) is Applied.YES
    assert settle(ledger, commit_of(pipeline, 100, 150)) == Fenced(0, "run-2", 170)
    (entry,) = ledger.read_entries(pipeline.topic, [0])
    assert (entry.run_id, entry.end_offset) == ("run-2", 170)


def test_a_commit_of_another_incarnation_is_rebased_and_changes_nothing(
    pipeline: Pipeline, ledger: CassandraLedgerStore
) -> None:
    stranger = dataclasses.replace(commit_of(pipeline, 100, 150), topic_id="another")
    assert settle(ledger, stranger) == Rebased(0, 0, "uuid")
    later = dataclasses.replace(commit_of(pipeline, 100, 150), epoch=1)
    assert settle(ledger, later) == Rebased(0, 0, "uuid")
    assert ledger.read_checkpoints(pipeline.topic, [0])[0].next_offset == 100


@pytest.mark.parametrize("expected", [130, 101])
def test_a_checkpoint_lower_than_expected_stops_the_run(
    pipeline: Pipeline, ledger: CassandraLedgerStore, expected: int
) -> None:
    with pytest.raises(CheckpointWentBackError, match=f"at 100, expected {expected}"):
        settle(ledger, commit_of(pipeline, expected, 150))


def test_a_ledger_that_was_wiped_stops_the_run(pipeline: Pipeline) -> None:
    with pytest.raises(CheckpointWentBackError, match="gone, expected 100"):
        settle(pipeline.connections.ledger, commit_of(pipeline, 100, 150))


def test_a_second_writer_never_takes_over_the_row_of_a_range(
    pipeline: Pipeline, ledger: CassandraLedgerStore
) -> None:
    """Both start at 100; the slow one must not overwrite the row that the fast one made."""
    assert settle(ledger, commit_of(pipeline, 100, 150)) is Applied.YES
    slow = dataclasses.replace(commit_of(pipeline, 100, 120), writer_id=OTHER, run_id="slow")
    assert isinstance(settle(ledger, slow), Fenced)
    (entry,) = ledger.read_entries(pipeline.topic, [0])
    assert (entry.run_id, entry.writer_id, entry.end_offset) == ("run-1", ME, 150)


def test_checkpoints_that_are_asked_for_together_come_back_each_to_its_partition(
    pipeline: Pipeline, ledger: CassandraLedgerStore
) -> None:
    # More than are on their way at once, some of them missing.
    known = {
        partition: Checkpoint(partition, 1_000 + partition, partition % 3, f"uuid {partition}")
        for partition in range(1, 70)
        if partition % 7
    }
    ledger.first_contact(pipeline.topic, list(known.values()))
    found = ledger.read_checkpoints(pipeline.topic, range(1, 80))
    assert found == known
    assert ledger.read_checkpoints(pipeline.topic, [69, 3]) == {3: known[3], 69: known[69]}


def test_which_partitions_stand_still_is_kept_by_partition_the_newest_of_each(
    pipeline: Pipeline,
) -> None:
    stops, since = pipeline.connections.stops, datetime(2026, 3, 10, 12, tzinfo=UTC)
    assert stops.read_stops(pipeline.topic) == []
    first = Stop(2, 1, 500, since, "run-1", "reading t[2]: it's broken; é")
    for stop in (first, Stop(0, 0, 7, since, "run-1", "why"), dataclasses.replace(first, epoch=2)):
        stops.keep_stop(pipeline.topic, stop)
    assert stops.read_stops(pipeline.topic) == [
        Stop(0, 0, 7, since, "run-1", "why"),
        dataclasses.replace(first, epoch=2),
    ]
    assert stops.read_stops("another") == []
