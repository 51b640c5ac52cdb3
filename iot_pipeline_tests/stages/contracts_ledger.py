"""What every ledger store and every store of its sums must do."""

import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from uuid import uuid4

import pytest

from iot_pipeline.core.ingest.run_costs import Mode, Place, RunCost
from iot_pipeline.core.ledger.chain import (
    LOSSES,
    Applied,
    Commit,
    Counts,
    Fenced,
    Outcome,
    decide_commit,
)
from iot_pipeline.core.ledger.declared import DeclaredReplay
from iot_pipeline.core.ledger.losses import recover
from iot_pipeline.core.ledger.sums import EntryPlace, LedgerSum, LossPlace, place_of
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange
from iot_pipeline.stages.ports.ingest import RunCosts
from iot_pipeline.stages.ports.ledger import LedgerStore
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.stages.contracts import COUNTS
from iot_pipeline_tests.stages.fake_ledger import link_of


class LedgerWorld(Protocol):
    ledger: LedgerStore
    topic: str


# The ledger.


def settle_commit(ledger: LedgerStore, commit: Commit, deadline_seconds: float = 30.0) -> bool:
    """Whether the condition held."""
    sent = ledger.send_commit(commit)
    give_up_at = until(deadline_seconds)
    while not sent.done:
        assert time.monotonic() < give_up_at
        ledger.wait(0.1)
    assert sent.error is None
    return sent.applied


class LedgerStoreContract:
    """`LedgerStore`: the conditional write and what can be read of it."""

    @pytest.fixture
    def commit(self, ledger_world):
        """The first commit of a run over 0:100-110, the checkpoint being there."""
        ledger_world.ledger.first_contact(ledger_world.topic, [Checkpoint(0, 100, 0, "uuid")])
        return Commit(
            ledger_world.topic, 0, 0, "uuid", 100, 100, 110, "run-a", uuid4(), COUNTS
        )  # fmt: skip

    def test_a_ledger_that_never_saw_a_topic_has_nothing(self, ledger_world):
        assert ledger_world.ledger.read_checkpoints(ledger_world.topic, [0, 1]) == {}
        assert ledger_world.ledger.read_entries(ledger_world.topic, [0, 1]) == []

    def test_of_a_long_ledger_one_day_and_its_beginning_can_be_asked_for(
        self, ledger_world: LedgerWorld
    ) -> None:
        ledger, topic = ledger_world.ledger, ledger_world.topic
        ledger.first_contact(topic, [Checkpoint(1, 0, 0, "uuid")])
        assert ledger.first_offset(topic, 1, 0) is None
        days = [date(2024, 12, 28), date(2024, 12, 29)]
        for at in range(4):
            counts = Counts(stored=10, stored_by_day={days[at % 2]: 10})
            commit = Commit(
                topic, 1, 0, "uuid", 10 * at, 10 * at, 10 * at + 10, "run", uuid4(), counts
            )
            assert settle_commit(ledger, commit)
        found = ledger.read_entries(topic, [1], day=days[0])
        assert [entry.start_offset for entry in found] == [20, 0]
        assert ledger.first_offset(topic, 1, 0) == 0
        assert ledger.first_offset(topic, 1, 1) is None

    def test_first_contact_is_made_once_and_the_first_stands(self, ledger_world):
        ledger, topic = ledger_world.ledger, ledger_world.topic
        ledger.first_contact(topic, [Checkpoint(1, 7, 2, "uuid")])
        ledger.first_contact(topic, [Checkpoint(1, 0, 0, "other")])
        assert ledger.read_checkpoints(topic, range(3)) == {1: Checkpoint(1, 7, 2, "uuid")}
        assert ledger.read_entries(topic, [1]) == [], "a checkpoint alone is no entry"
        assert ledger.read_links(topic, [1]) == []
        assert ledger.read_entries(topic, [1], limit=1) == []

    def test_a_commit_moves_the_checkpoint_and_writes_the_runs_row(self, ledger_world, commit):
        assert settle_commit(ledger_world.ledger, commit)
        assert ledger_world.ledger.read_checkpoints(commit.topic, [0, 1]) == {
            0: Checkpoint(0, 110, 0, "uuid")
        }
        (entry,) = ledger_world.ledger.read_entries(commit.topic, [0])
        assert (entry.partition, entry.epoch, entry.start_offset, entry.end_offset) == (
            0, 0, 100, 110,
        )  # fmt: skip
        assert (entry.run_id, entry.writer_id) == ("run-a", commit.writer_id)
        assert entry.outcome == "ingested"
        assert entry.counts == COUNTS
        assert entry.updated_at is not None
        assert entry.updated_at.tzinfo is not None

    def test_the_next_commit_of_the_run_extends_its_row(self, ledger_world, commit):
        assert settle_commit(ledger_world.ledger, commit)
        longer = replace(commit, expected=110, end=130, counts=COUNTS + COUNTS)
        assert settle_commit(ledger_world.ledger, longer)
        (entry,) = ledger_world.ledger.read_entries(commit.topic, [0])
        assert (entry.start_offset, entry.end_offset) == (100, 130)
        assert entry.counts == COUNTS + COUNTS

    def test_a_day_that_left_the_counts_leaves_the_row(self, ledger_world, commit):
        assert settle_commit(ledger_world.ledger, commit)
        fewer = replace(COUNTS, stored_by_day={date(2024, 12, 29): 4})
        assert settle_commit(
            ledger_world.ledger, replace(commit, expected=110, end=111, counts=fewer)
        )
        (entry,) = ledger_world.ledger.read_entries(commit.topic, [0])
        assert entry.counts.stored_by_day == {date(2024, 12, 29): 4}

    @pytest.mark.parametrize(
        "changes", [{"expected": 99}, {"expected": 101}, {"topic_id": "other"}, {"epoch": 1}]
    )
    def test_a_commit_whose_condition_does_not_hold_changes_nothing(
        self, ledger_world, commit, changes
    ):
        assert not settle_commit(ledger_world.ledger, replace(commit, **changes))
        assert ledger_world.ledger.read_checkpoints(commit.topic, [0]) == {
            0: Checkpoint(0, 100, 0, "uuid")
        }
        assert ledger_world.ledger.read_entries(commit.topic, [0]) == []

    def test_without_a_checkpoint_nothing_is_committed(self, ledger_world, commit):
        assert not settle_commit(ledger_world.ledger, replace(commit, partition=1))
        assert ledger_world.ledger.read_checkpoints(commit.topic, [1]) == {}

    def test_a_commit_sent_twice_is_applied_once_and_decided_as_applied(self, ledger_world, commit):
        assert settle_commit(ledger_world.ledger, commit)
        assert not settle_commit(ledger_world.ledger, commit)
        state = ledger_world.ledger.read_state(commit)
        assert decide_commit(commit, state) is Applied.YES
        assert len(ledger_world.ledger.read_entries(commit.topic, [0])) == 1

    def test_what_was_never_sent_is_decided_as_to_be_sent_again(self, ledger_world, commit):
        state = ledger_world.ledger.read_state(commit)
        assert state.entry is None
        assert decide_commit(commit, state) is Applied.SEND_AGAIN

    def test_an_overtaken_commit_is_decided_as_fenced_by_the_newest_run(self, ledger_world, commit):
        theirs = replace(commit, writer_id=uuid4(), run_id="run-b")
        assert settle_commit(ledger_world.ledger, theirs)
        newest = replace(theirs, run_start=110, expected=110, end=115, run_id="run-c")
        assert settle_commit(ledger_world.ledger, newest)
        assert not settle_commit(ledger_world.ledger, commit)
        state = ledger_world.ledger.read_state(commit)
        assert decide_commit(commit, state) == Fenced(0, "run-c", 115)

    def test_of_commits_sent_at_once_exactly_one_is_applied(self, ledger_world, commit):
        rivals = [replace(commit, writer_id=uuid4(), run_id=f"run-{n}") for n in range(4)]
        sent = [ledger_world.ledger.send_commit(rival) for rival in rivals]
        for pending in sent:
            while not pending.done:
                ledger_world.ledger.wait(0.1)
        decisions = [
            Applied.YES
            if pending.error is None and pending.applied
            else decide_commit(rival, ledger_world.ledger.read_state(rival))
            for pending, rival in zip(sent, rivals, strict=True)
        ]
        assert decisions.count(Applied.YES) == 1
        assert sum(isinstance(decision, Fenced) for decision in decisions) == 3

    def test_entries_are_newest_first_within_each_partition(self, ledger_world, commit):
        ledger_world.ledger.first_contact(commit.topic, [Checkpoint(1, 0, 0, "uuid")])
        for start, end in ((100, 110), (110, 120), (120, 125)):
            assert settle_commit(
                ledger_world.ledger,
                replace(commit, run_start=start, expected=start, end=end),
            )
        other = replace(commit, partition=1, run_start=0, expected=0, end=10)
        assert settle_commit(ledger_world.ledger, other)
        entries = ledger_world.ledger.read_entries(commit.topic, [0, 1])
        by_partition = {
            p: [entry.start_offset for entry in entries if entry.partition == p] for p in (0, 1)
        }
        assert by_partition == {0: [120, 110, 100], 1: [0]}
        assert [e.partition for e in ledger_world.ledger.read_entries(commit.topic, [1])] == [1]

        newest = ledger_world.ledger.read_entries(commit.topic, [0, 1], limit=2)
        assert newest == [entry for entry in entries if entry.start_offset != 100]
        assert ledger_world.ledger.read_entries(commit.topic, [0], limit=1) == newest[:1]

        links = ledger_world.ledger.read_links(commit.topic, [0, 1])
        assert links == [link_of(entry) for entry in entries]

    def test_what_entries_stored_is_summed_by_day_with_replays_from_a_place_on(
        self, ledger_world, commit
    ):
        ledger, topic = ledger_world.ledger, commit.topic
        for start, end in ((100, 110), (110, 120)):
            assert settle_commit(ledger, replace(commit, run_start=start, expected=start, end=end))
        ledger.record_replay(topic, datetime.now(UTC), "run-r", [], COUNTS)
        # More days than one question takes.
        days = [date(2024, 12, 29) - timedelta(days=back) for back in range(45)]

        def total(since=None, **options):
            summed = Counter()
            for part in ledger.stored_by_day(topic, [0, 1], days, since, **options):
                summed.update(part)
            return {day: rows for day, rows in summed.items() if rows}

        of_one = COUNTS.stored_by_day
        assert total() == {day: 3 * rows for day, rows in of_one.items()}
        cells = COUNTS.cells_by_day
        assert total(of_cells=True) == {day: 3 * count for day, count in cells.items()}
        assert total({0: EntryPlace(0, 110)}) == {day: 2 * rows for day, rows in of_one.items()}
        assert total({0: EntryPlace(0, 111)}) == of_one
        parts = sorted(ledger.ingested_parts(topic), key=lambda part: part.offsets)
        assert [part.offsets for part in parts] == [
            OffsetRange(0, 100, 110),
            OffsetRange(0, 110, 120),
        ]
        assert {part.first_record_ms for part in parts} == {COUNTS.first_record_ms}

    def test_entries_are_found_from_a_place_at_a_place_and_by_their_outcome(
        self, ledger_world, commit
    ):
        ledger, topic = ledger_world.ledger, commit.topic
        outcomes = (Outcome.INGESTED, Outcome.EXPIRED, Outcome.INGESTED)
        for start, outcome in zip((100, 110, 120), outcomes, strict=True):
            commit = replace(
                commit, run_start=start, expected=start, end=start + 10, outcome=outcome,
                cause="retention" if outcome.is_loss else "",
            )  # fmt: skip
            assert settle_commit(ledger, commit)
        newest, expired, oldest = ledger.read_entries(topic, [0])
        assert ledger.read_entries(topic, [0]) == [newest, expired, oldest]
        assert ledger.read_entries(topic, [0], places={0: EntryPlace(0, 110)}) == [newest, expired]
        newer = {0: EntryPlace(0, 110)}
        assert ledger.read_entries(topic, [0], places=newer, limit=1) == [newest]
        places = [EntryPlace(0, 110), EntryPlace(0, 111), EntryPlace(0, 120)]
        found = ledger.read_at(topic, 0, places)
        assert sorted(found, key=place_of) == [expired, newest]
        assert ledger.read_at(topic, 0, places[1:2]) == []
        assert expired.cause == "retention"
        assert ledger.read_entries(topic, [0, 1], outcomes=LOSSES) == [expired]
        assert ledger.read_entries(topic, [0, 1], outcomes=[Outcome.SKIPPED]) == []
        newer = {0: EntryPlace(0, 120)}
        assert ledger.read_entries(topic, [0], places=newer, outcomes=LOSSES) == []

    def test_a_fold_takes_the_place_of_what_starts_within_it(self, ledger_world, commit):
        ledger, topic = ledger_world.ledger, commit.topic
        for start in (100, 110, 120):
            commit = replace(commit, run_start=start, expected=start, end=start + 10)
            assert settle_commit(ledger, commit)
        newest, _, oldest = ledger.read_entries(topic, [0])
        folded = replace(oldest, end_offset=120, outcome=Outcome.FOLDED, counts=COUNTS + COUNTS)
        ledger.write_fold(folded)
        assert ledger.read_entries(topic, [0]) == [newest, folded]

    def test_a_rebase_begins_an_epoch_and_leaves_a_seam(self, ledger_world, commit):
        ledger, topic = ledger_world.ledger, commit.topic
        assert settle_commit(ledger, commit)
        old, new = Checkpoint(0, 110, 0, "uuid"), Checkpoint(0, 3, 1, "other")
        for at, is_applied in ((replace(old, next_offset=100), False), (old, True), (old, False)):
            seam = replace(ledger.read_entries(topic, [0])[-1], counts=Counts())
            seam = replace(seam, start_offset=110, outcome=Outcome.REBASED)
            skipped = replace(
                seam, epoch=1, start_offset=0, end_offset=3, outcome=Outcome.SKIPPED, cause="x"
            )
            sent = ledger.send_rebase(at, new, [seam, skipped])
            while not sent.done:
                ledger.wait(0.1)
            assert (sent.error, sent.applied) == (None, is_applied)
        assert ledger.read_checkpoints(topic, [0]) == {0: new}
        found, seam = ledger.read_entries(topic, [0], limit=2)
        assert found == skipped
        assert (seam.epoch, seam.start_offset, seam.end_offset) == (0, 110, 110)
        assert (seam.outcome, seam.counts) == (Outcome.REBASED, Counts())

    def test_a_loss_gives_way_to_what_was_ingested_of_it_once(self, ledger_world, commit):
        ledger, topic = ledger_world.ledger, commit.topic
        lost = replace(commit, outcome=Outcome.SKIPPED, counts=Counts(), cause="why")
        assert settle_commit(ledger, lost)
        (loss,) = ledger.read_entries(topic, [0])
        counts = Counts(stored=2, repeated=1)
        now = loss.updated_at

        def send(recovery):
            sent = ledger.send_recovery(recovery)
            while not sent.done:
                ledger.wait(0.1)
            assert sent.error is None
            return sent.applied

        middle = recover(loss, OffsetRange(0, 103, 106), counts, "run-b", uuid4(), now)
        assert send(middle)
        assert not send(middle), "the loss is not as it was"
        whole = recover(loss, loss.offsets, Counts(stored=10), "run-b", uuid4(), now)
        assert not send(whole)
        entries = ledger.read_entries(topic, [0])
        assert entries == list(middle.entries)[::-1]
        assert [(e.start_offset, e.end_offset, e.outcome, e.cause) for e in entries] == [
            (106, 110, Outcome.SKIPPED, "why"),
            (103, 106, Outcome.INGESTED, ""),
            (100, 103, Outcome.SKIPPED, "why"),
        ]
        assert entries[1].counts == counts
        assert ledger.read_checkpoints(topic, [0])[0].next_offset == 110

    def test_entries_may_be_asked_since_a_time(self, ledger_world, commit):
        assert settle_commit(ledger_world.ledger, commit)
        ledger, topic = ledger_world.ledger, commit.topic
        long_ago, never = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
        (entry,) = ledger.read_entries(topic, [0], long_ago)
        assert ledger.read_links(topic, [0], long_ago) == [link_of(entry)]
        assert ledger.read_entries(topic, [0], never) == []
        assert ledger.read_links(topic, [0], never) == []

    def test_a_replay_is_recorded_beside_the_ledger(self, ledger_world, commit):
        at = datetime(2024, 12, 30, tzinfo=UTC)
        names = []
        for ranges in ([OffsetRange(0, 1, 5)], [OffsetRange(0, 1, 9)]):
            ledger_world.ledger.record_replay(commit.topic, at, "run-r", ranges, COUNTS)
            (part,) = ledger_world.ledger.replayed_parts(commit.topic)
            assert (part.ranges, part.stored) == (ranges, COUNTS.stored)
            assert part.stored_by_day == COUNTS.stored_by_day
            names.append(part.name)
        assert names[0] != names[1], "it has gone on"
        assert ledger_world.ledger.read_entries(commit.topic, [0]) == []
        assert ledger_world.ledger.read_checkpoints(commit.topic, [0])[0].next_offset == 100

    def test_replays_by_another_declaration_come_back_in_their_order(self, ledger_world, commit):
        ledger, topic = ledger_world.ledger, commit.topic
        ranges = [OffsetRange(0, 1, 5), OffsetRange(1, 0, 9)]
        for hour, run_id, name in ((2, "run-b", "b"), (1, "run-a", "a"), (3, "run-c", None)):
            at = datetime(2024, 12, 30, hour, tzinfo=UTC)
            by = DeclaredReplay("uuid", name) if name else None
            ledger.record_replay(topic, at, run_id, ranges, COUNTS, by)
        found = ledger.declared_replays(topic)
        assert [(one.declaration, one.topic_id) for one in found] == [("a", "uuid"), ("b", "uuid")]
        assert [list(one.ranges) for one in found] == [ranges, ranges]
        counted = [(one.stored_by_day, one.cells_by_day) for one in found]
        assert counted == [(COUNTS.stored_by_day, COUNTS.cells_by_day)] * 2


class LedgerSumsContract:
    """`LedgerSums`; `sums_world` is one, and a topic that it never saw."""

    def test_a_kept_sum_comes_back_whole_and_the_last_one_counts(self, sums_world):
        sums, topic = sums_world
        assert sums.read_sums(topic) == {}
        days = {date(2024, 12, 28): 5, date(2024, 12, 29): 2**40}
        cells = {day: 2 * rows for day, rows in days.items()}
        losses = (LossPlace(0, 3, 5), LossPlace(1, 7, 9))
        older = LedgerSum(0, EntryPlace(1, 20), days, cells, losses)
        other = LedgerSum(1, EntryPlace(0, 0), {})
        for kept in (replace(older, stored_by_day={}, losses=()), other, older):
            sums.write_sum(topic, kept)
        assert sums.read_sums(topic) == {0: older, 1: other}
        assert sums.read_sums(topic + "_other") == {}


class RunCostsContract:
    """`costs_world` is a `RunCosts`, and a topic that it never saw."""

    def test_the_newest_of_each_lane_and_mode_come_first_and_each_once(
        self, costs_world: tuple[RunCosts, str]
    ) -> None:
        costs, topic = costs_world
        drains, follows = Place("0 of 2", Mode.DRAIN), Place("0 of 2", Mode.FOLLOW)
        at = datetime(2026, 3, 11, 12, tzinfo=UTC)
        kept = [
            RunCost(at + timedelta(minutes=n), f"run-{n}", 1000 * n, 2.5, cpu_seconds=1.25)
            for n in range(1, 5)
        ]
        for cost in [kept[2], *kept]:
            costs.keep_cost(topic, drains, cost)
        follow = RunCost(at, "run", 7, 10.0, p99_ms=17.5)
        costs.keep_cost(topic, follows, follow)
        other = Place("1 of 2", Mode.DRAIN)
        found = costs.read_costs(topic, [drains, follows, other], 3)
        assert {place: list(of) for place, of in found.items()} == {
            drains: kept[:0:-1],
            follows: [follow],
            other: [],
        }
        assert costs.read_costs(f"{topic}2", [drains], 3) == {drains: []}
