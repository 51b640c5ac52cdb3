"""The checkpoint, the ledger and its kept sums, in memory."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

from iot_pipeline.core.ingest.run_costs import Place, RunCost
from iot_pipeline.core.ledger.chain import (
    ChainLink,
    Commit,
    Counts,
    LedgerEntry,
    LedgerState,
    Outcome,
)
from iot_pipeline.core.ledger.declared import DeclaredReplay
from iot_pipeline.core.ledger.losses import Recovery
from iot_pipeline.core.ledger.sums import EntryPlace, LedgerSum, place_of
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange
from iot_pipeline.core.rollups.days import IngestedPart, ReplayedPart
from iot_pipeline_tests.stages.fakes import NOW_MS, FakePending


def link_of(entry: LedgerEntry) -> ChainLink:
    """What of an entry a walk along the chain needs."""
    place = entry.partition, entry.epoch, entry.start_offset, entry.end_offset
    return ChainLink(*place, entry.outcome, entry.run_id, *entry.counts.by_fate().values())


@dataclass(slots=True)
class FakeLedger:
    """Checkpoints and rows with the ledger's conditional write."""

    journal: list[tuple[str, Any]] = field(default_factory=list)
    checkpoints: dict[tuple[str, int], Checkpoint] = field(default_factory=dict)
    entries: dict[tuple[str, int, int, int], LedgerEntry] = field(default_factory=dict)
    replays: list[tuple[str, datetime, str, list[OffsetRange], Counts]] = field(
        default_factory=list
    )
    declared: dict[tuple[str, datetime, str], DeclaredReplay] = field(default_factory=dict)
    looks_until_answered: int = 0
    commits: list[Commit] = field(default_factory=list)
    keyspace: str = "iot_data"
    topic_of_keyspace: str | None = None

    def owner(self) -> str | None:
        return self.topic_of_keyspace

    def read_checkpoints(self, topic: str, partitions: Sequence[int]) -> dict[int, Checkpoint]:
        return {p: self.checkpoints[topic, p] for p in partitions if (topic, p) in self.checkpoints}

    def first_contact(self, topic: str, checkpoints: Sequence[Checkpoint]) -> None:
        for checkpoint in checkpoints:
            self.checkpoints.setdefault((topic, checkpoint.partition), checkpoint)

    def send_commit(self, commit: Commit) -> FakePending:
        self.commits.append(commit)
        place = (commit.topic, commit.partition)
        expected = Checkpoint(commit.partition, commit.expected, commit.epoch, commit.topic_id)
        applied = self.checkpoints.get(place) == expected
        if applied:
            known = self.checkpoints[place].fingerprint
            self.checkpoints[place] = replace(
                expected, next_offset=commit.end, fingerprint=commit.fingerprint or known
            )
            self.entries[*place, commit.epoch, commit.run_start] = LedgerEntry(
                commit.topic,
                commit.partition,
                commit.epoch,
                commit.run_start,
                commit.end,
                commit.outcome,
                commit.run_id,
                commit.writer_id,
                commit.counts,
                datetime.fromtimestamp(NOW_MS / 1000, UTC),
                commit.cause,
                commit.declaration,
            )
            self.journal.append(("commit", (commit.partition, commit.end)))
        return FakePending(applied, looks=self.looks_until_answered)

    def send_rebase(
        self, old: Checkpoint, new: Checkpoint, entries: Sequence[LedgerEntry]
    ) -> FakePending:
        place = (entries[0].topic, old.partition)
        applied = self.checkpoints.get(place) == old
        if applied:
            self.checkpoints[place] = new
            self._write(entries)
        return FakePending(applied, looks=self.looks_until_answered)

    def send_recovery(self, recovery: Recovery) -> FakePending:
        loss = recovery.loss
        found = self.entries.get((loss.topic, loss.partition, *place_of(loss)))
        applied = found is not None and (found.outcome, found.end_offset) == (
            loss.outcome, loss.end_offset,
        )  # fmt: skip
        if applied:
            self._write(recovery.entries)
        return FakePending(applied, looks=self.looks_until_answered)

    def _write(self, entries: Sequence[LedgerEntry]) -> None:
        for entry in entries:
            self.entries[entry.topic, entry.partition, *place_of(entry)] = entry

    def read_state(self, commit: Commit, timeout_seconds: float | None = None) -> LedgerState:
        entries = self.read_entries(commit.topic, [commit.partition])
        return LedgerState(
            self.checkpoints.get((commit.topic, commit.partition)),
            self.entries.get((commit.topic, commit.partition, commit.epoch, commit.run_start)),
            entries[0] if entries else None,
        )

    def read_entries(
        self,
        topic: str,
        partitions: Sequence[int],
        since: datetime | None = None,
        *,
        places: Mapping[int, EntryPlace] | None = None,
        outcomes: Collection[Outcome] = (),
        day: date | None = None,
        limit: int | None = None,
    ) -> list[LedgerEntry]:
        found: list[LedgerEntry] = []
        for partition in sorted(partitions):
            own = [
                entry
                for entry in self.entries.values()
                if (entry.topic, entry.partition) == (topic, partition)
                and (since is None or entry.updated_at is None or entry.updated_at >= since)
                and (not outcomes or entry.outcome in outcomes)
                and (day is None or day in entry.counts.stored_by_day)
                and (not places or partition not in places or place_of(entry) >= places[partition])
            ]
            found += sorted(own, key=place_of, reverse=True)[:limit]
        return found

    def first_offset(self, topic: str, partition: int, epoch: int) -> int | None:
        places = [key[3] for key in self.entries if key[:3] == (topic, partition, epoch)]
        return min(places, default=None)

    def read_links(
        self, topic: str, partitions: Sequence[int], since: datetime | None = None
    ) -> list[ChainLink]:
        return [link_of(entry) for entry in self.read_entries(topic, partitions, since)]

    def read_at(
        self, topic: str, partition: int, places: Collection[EntryPlace]
    ) -> list[LedgerEntry]:
        found = [self.entries.get((topic, partition, *place)) for place in places]
        return [entry for entry in found if entry is not None]

    def stored_by_day(
        self,
        topic: str,
        partitions: Sequence[int],
        days: Sequence[date],
        since: Mapping[int, EntryPlace] | None = None,
        *,
        of_cells: bool = False,
    ) -> Iterator[dict[date, int]]:
        counts = [e.counts for e in self.read_entries(topic, partitions, places=since)]
        for item in [*counts, *(counts for _, counts in self._newest_replays(topic).values())]:
            by_day = item.cells_by_day if of_cells else item.stored_by_day
            yield {day: by_day.get(day, 0) for day in days}

    def ingested_parts(self, topic: str) -> Iterator[IngestedPart]:
        for entry in self.entries.values():
            if entry.topic == topic:
                yield IngestedPart(
                    OffsetRange(entry.partition, entry.start_offset, entry.end_offset),
                    entry.counts.stored_by_day,
                    entry.counts.first_record_ms,
                )

    def replayed_parts(self, topic: str) -> list[ReplayedPart]:
        return [
            ReplayedPart(
                f"replay {place} {ranges} {counts}", ranges, counts.stored, counts.stored_by_day
            )
            for place, (ranges, counts) in self._newest_replays(topic).items()
        ]

    def _newest_replays(
        self, topic: str
    ) -> dict[tuple[datetime, str], tuple[Sequence[OffsetRange], Counts]]:
        return {
            (started_at, run_id): (ranges, counts)
            for name, started_at, run_id, ranges, counts in self.replays
            if name == topic
        }

    def write_fold(self, folded: LedgerEntry) -> None:
        place = (folded.topic, folded.partition, folded.epoch)
        for key in [*self.entries]:
            if key[:3] == place and folded.start_offset <= key[3] < folded.end_offset:
                del self.entries[key]
        self.entries[*place, folded.start_offset] = folded

    def record_replay(
        self,
        topic: str,
        started_at: datetime,
        run_id: str,
        ranges: Sequence[OffsetRange],
        counts: Counts,
        declared: DeclaredReplay | None = None,
    ) -> None:
        self.replays.append((topic, started_at, run_id, list(ranges), counts))
        if declared is not None:
            kept = replace(
                declared,
                ranges=list(ranges),
                started_at=started_at,
                stored_by_day=counts.stored_by_day,
                cells_by_day=counts.cells_by_day,
            )
            self.declared[topic, started_at, run_id] = kept

    def declared_replays(self, topic: str) -> list[DeclaredReplay]:
        return [self.declared[place] for place in sorted(self.declared) if place[0] == topic]

    def wait(self, timeout_seconds: float) -> None:
        pass


@dataclass(slots=True)
class FakeLedgerSums:
    """A `LedgerSums`."""

    kept: dict[tuple[str, int], LedgerSum] = field(default_factory=dict)

    def read_sums(self, topic: str) -> dict[int, LedgerSum]:
        return {partition: kept for (name, partition), kept in self.kept.items() if name == topic}

    def write_sum(self, topic: str, kept: LedgerSum) -> None:
        self.kept[topic, kept.partition] = kept


@dataclass(slots=True)
class FakeRunCosts:
    """A `RunCosts`."""

    kept: dict[tuple[str, Place], list[RunCost]] = field(default_factory=dict)

    def read_costs(
        self, topic: str, places: Sequence[Place], most: int
    ) -> dict[Place, Sequence[RunCost]]:
        return {place: self.kept.get((topic, place), [])[:most] for place in places}

    def keep_cost(self, topic: str, place: Place, cost: RunCost) -> None:
        by_run = {(one.ended_at, one.run_id): one for one in self.kept.get((topic, place), ())}
        by_run[cost.ended_at, cost.run_id] = cost
        newest = sorted(by_run.values(), key=lambda one: one.ended_at, reverse=True)
        self.kept[topic, place] = newest
