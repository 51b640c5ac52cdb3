"""The chain of ranges that runs leave behind, its sums, and who may extend it.

Every offset below the checkpoint is in exactly one entry, and for what was ingested
`span = stored + superseded + repeated + rejected + ignored + aged_out + holes`.
"""

import enum
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from operator import add, attrgetter, sub
from typing import NamedTuple
from uuid import UUID

from iot_pipeline.core.reading.fingerprints import Fingerprint
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, check_moved_forward

# What becomes of an offset that was ingested: the names of its count, wherever it is counted.
FATES = ("stored", "superseded", "repeated", "rejected", "ignored", "aged_out", "holes")
# Fates that a table names only where an offset has them.
_RARE = ("ignored",)
_fates_of = attrgetter(*FATES)


def told_fates(counts: Mapping[str, int]) -> list[str]:
    """The fates that a person is told of these counts: all, but for rare ones of which is none."""
    return [fate for fate in FATES if fate not in _RARE or counts[fate]]


class Outcome(enum.StrEnum):
    """What happened to a range of the log."""

    INGESTED = "ingested"
    EXPIRED = "expired"
    SKIPPED = "skipped"
    UNREADABLE = "unreadable"
    REBASED = "rebased"
    FOLDED = "folded"

    @property
    def is_ingested(self) -> bool:
        return self in (Outcome.INGESTED, Outcome.FOLDED)

    @property
    def is_loss(self) -> bool:
        return self in LOSSES


# Offsets below the checkpoint whose records were not read: Kafka deleted them before, a person
# passed over them with `iot rebase`, or Kafka could not hand them out. Red until acknowledged.
LOSSES = (Outcome.EXPIRED, Outcome.SKIPPED, Outcome.UNREADABLE)


@dataclass(frozen=True, slots=True)
class Counts:
    """The fates of the offsets of a range; `stored_by_day` counts stored rows per UTC day.

    `cells_by_day` counts the cells of these that are their own, of all quantities.

    `superseded` lost their key to a record with other values, `repeated` to one with the same. A
    record that loses its key to one of a later micro-batch stays stored here; an audit calls it
    superseded, and counts the rows that there are. `ignored` are known and no readings, by the
    declaration.

    `first_record_ms` and `last_record_ms` are Kafka timestamps; None when there was no record.
    """

    stored: int = 0
    superseded: int = 0
    repeated: int = 0
    rejected: int = 0
    ignored: int = 0
    aged_out: int = 0
    holes: int = 0
    stored_by_day: Mapping[date, int] = field(default_factory=dict)
    cells_by_day: Mapping[date, int] = field(default_factory=dict)
    first_record_ms: int | None = None
    last_record_ms: int | None = None

    @property
    def accounted(self) -> int:
        return sum(_fates_of(self))

    def by_fate(self) -> dict[str, int]:
        """How many offsets had each fate; every one has exactly one."""
        return dict(zip(FATES, _fates_of(self), strict=True))

    def __str__(self) -> str:
        told = self.by_fate()
        return " + ".join(f"{told[fate]:,} {fate.replace('_', ' ')}" for fate in told_fates(told))

    def __add__(self, other: "Counts") -> "Counts":
        firsts = [ms for ms in (self.first_record_ms, other.first_record_ms) if ms is not None]
        lasts = [ms for ms in (self.last_record_ms, other.last_record_ms) if ms is not None]
        return replace(
            Counts(*map(add, _fates_of(self), _fates_of(other))),
            stored_by_day=_added(self.stored_by_day, other.stored_by_day),
            cells_by_day=_added(self.cells_by_day, other.cells_by_day),
            first_record_ms=min(firsts, default=None),
            last_record_ms=max(lasts, default=None),
        )

    def since(self, earlier: "Counts") -> "Counts":
        """What came after `earlier`, counts of the same range when it was shorter.

        Its first record arrived no sooner than the last one of `earlier`.
        """
        grew = self.accounted > earlier.accounted
        first = self.first_record_ms if earlier.last_record_ms is None else earlier.last_record_ms
        return replace(
            Counts(*map(sub, _fates_of(self), _fates_of(earlier))),
            stored_by_day=_subtracted(self.stored_by_day, earlier.stored_by_day),
            cells_by_day=_subtracted(self.cells_by_day, earlier.cells_by_day),
            first_record_ms=first if grew else None,
            last_record_ms=self.last_record_ms if grew else None,
        )


def _added(one: Mapping[date, int], other: Mapping[date, int]) -> dict[date, int]:
    by_day = Counter(one)
    by_day.update(other)
    return dict(by_day)


def _subtracted(all_of: Mapping[date, int], some: Mapping[date, int]) -> dict[date, int]:
    left = {day: count - some.get(day, 0) for day, count in all_of.items()}
    return {day: count for day, count in left.items() if count}


def sum_counts(items: Iterable[Counts]) -> Counts:
    return sum(items, Counts())


class ChainLink(NamedTuple):
    """What a walk along the chain needs of a `LedgerEntry`; a year of runs is 70,000 of them."""

    partition: int
    epoch: int
    start_offset: int
    end_offset: int
    outcome: Outcome
    run_id: str
    stored: int
    superseded: int
    repeated: int
    rejected: int
    ignored: int
    aged_out: int
    holes: int

    @property
    def span(self) -> int:
        return self.end_offset - self.start_offset

    @property
    def accounted(self) -> int:
        return sum(_fates_of(self))


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One row of the ledger: what one run did to offsets [start_offset, end_offset).

    `cause` says why a loss was one, in words; empty for all else. `declaration` is the fingerprint
    of that by which an ingested range was read; empty where that is not known.
    """

    topic: str
    partition: int
    epoch: int
    start_offset: int
    end_offset: int
    outcome: Outcome
    run_id: str
    writer_id: UUID | None
    counts: Counts
    updated_at: datetime | None = None
    cause: str = ""
    declaration: str = ""

    @property
    def offsets(self) -> OffsetRange:
        return OffsetRange(self.partition, self.start_offset, self.end_offset)

    @property
    def span(self) -> int:
        return self.end_offset - self.start_offset

    @property
    def accounted(self) -> int:
        return self.counts.accounted


@dataclass(frozen=True, slots=True)
class Commit:
    """One conditional write: the checkpoint from `expected` to `end`, and the run's row with it.

    `counts` are those of the whole row [run_start, end), not of the micro-batch alone.
    `fingerprint` is of the last record below `end`; None: what the ledger has of it stays.
    """

    topic: str
    partition: int
    epoch: int
    topic_id: str
    run_start: int
    expected: int
    end: int
    run_id: str
    writer_id: UUID
    counts: Counts
    outcome: Outcome = Outcome.INGESTED
    cause: str = ""
    fingerprint: Fingerprint | None = None
    declaration: str = ""


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What a serial read finds after a commit of unknown outcome.

    `checkpoint` is None when the ledger has none; `entry` is the row at (epoch, run_start), if
    any; `ahead` is the newest row of the partition, which names who moved the checkpoint.
    """

    checkpoint: Checkpoint | None
    entry: LedgerEntry | None
    ahead: LedgerEntry | None


class Applied(enum.Enum):
    """The commit took effect, or nothing happened and it may be sent again."""

    YES = "applied"
    SEND_AGAIN = "send again"


@dataclass(frozen=True, slots=True)
class Fenced:
    """Another run moved the checkpoint first; ours stops, and nothing is wrong."""

    partition: int
    by_run_id: str
    at_offset: int

    def __str__(self) -> str:
        return f"partition {self.partition}: run {self.by_run_id} is at offset {self.at_offset}"


@dataclass(frozen=True, slots=True)
class Rebased:
    """The topic's incarnation in the ledger is no longer the one this run read."""

    partition: int
    epoch: int
    topic_id: str

    def __str__(self) -> str:
        return (
            f"partition {self.partition}: the ledger is in epoch {self.epoch}, "
            f"topic {self.topic_id}"
        )


def decide_commit(commit: Commit, state: LedgerState) -> Applied | Fenced | Rebased:
    """Say what became of a commit that was not applied, or whose answer never came.

    The order matters. The row with this process's writer_id is proof that it was applied even
    when another run has moved the checkpoint on since; only then does the checkpoint itself decide.

    Raises:
        CheckpointWentBackError: the checkpoint is gone, or lower than expected.
    """
    found = state.checkpoint
    if found is not None and (found.epoch != commit.epoch or found.topic_id != commit.topic_id):
        return Rebased(commit.partition, found.epoch, found.topic_id)
    entry = state.entry
    if entry is not None and entry.writer_id == commit.writer_id and entry.end_offset >= commit.end:
        return Applied.YES
    next_offset = None if found is None else found.next_offset
    if next_offset == commit.expected:
        return Applied.SEND_AGAIN
    check_moved_forward(commit.topic, commit.partition, next_offset, commit.expected)
    assert next_offset is not None
    ahead = state.ahead
    return Fenced(commit.partition, ahead.run_id if ahead else "unknown", next_offset)


@dataclass(frozen=True, slots=True)
class Flaw:
    """A place where the chain does not hold, in words."""

    partition: int
    offset: int
    problem: str

    def __str__(self) -> str:
        return f"partition {self.partition} at {self.offset}: {self.problem}"


def find_flaws(
    entries: Sequence[LedgerEntry] | Sequence[ChainLink],
    checkpoints: Iterable[Checkpoint],
    without_checkpoint: Collection[int] = (),
) -> list[Flaw]:
    """Walk neighbours, per partition and epoch: gaps, overlaps, sums that do not add up.

    Minimum and maximum would hide a gap, so nothing here uses them. The newest entry of the
    current epoch must end at the checkpoint, and no epoch may be newer than its checkpoint's.

    Args:
        entries: in any order.
        checkpoints: those known; the ends of other chains are not judged.
        without_checkpoint: partitions that certainly have none, and so no entry.
    """
    flaws: list[Flaw] = []
    chains: defaultdict[tuple[int, int], list[LedgerEntry | ChainLink]] = defaultdict(list)
    for entry in entries:
        chains[entry.partition, entry.epoch].append(entry)
        counted = entry.accounted
        if entry.outcome.is_ingested and counted != entry.span:
            problem = f"{entry.span} offsets up to {entry.end_offset}, but {counted} accounted for"
            flaws.append(Flaw(entry.partition, entry.start_offset, problem))
        elif counted and entry.outcome.is_loss:
            problem = f"{entry.outcome} up to {entry.end_offset}, but {counted} accounted for"
            flaws.append(Flaw(entry.partition, entry.start_offset, problem))
    for (partition, epoch), chain in chains.items():
        chain.sort(key=lambda entry: entry.start_offset)
        reached = chain[0].start_offset
        for entry in chain:
            if entry.start_offset > reached:
                missing = entry.start_offset - reached
                flaws.append(Flaw(partition, reached, f"a gap of {missing} offsets"))
            elif entry.start_offset < reached:
                doubled = min(reached, entry.end_offset) - entry.start_offset
                flaws.append(Flaw(partition, entry.start_offset, f"{doubled} offsets twice"))
            # The furthest end, not the neighbour's: a long entry may hold several later ones.
            reached = max(reached, entry.end_offset)
        if partition in without_checkpoint:
            problem = f"{len(chain)} entries of epoch {epoch}, but no checkpoint"
            flaws.append(Flaw(partition, chain[0].start_offset, problem))
    for checkpoint in checkpoints:
        for (partition, epoch), chain in chains.items():
            if partition == checkpoint.partition and epoch > checkpoint.epoch:
                problem = f"entries of epoch {epoch}, the checkpoint is of {checkpoint.epoch}"
                flaws.append(Flaw(partition, chain[0].start_offset, problem))
        current = chains.get((checkpoint.partition, checkpoint.epoch), [])
        chain_end = max((entry.end_offset for entry in current), default=checkpoint.next_offset)
        if chain_end != checkpoint.next_offset:
            problem = f"the chain ends here, the checkpoint is {checkpoint.next_offset}"
            flaws.append(Flaw(checkpoint.partition, chain_end, problem))
    return flaws


def of_current_epoch(
    entries: Iterable[LedgerEntry], checkpoints: Mapping[int, Checkpoint]
) -> list[LedgerEntry]:
    """Those of the topic's present incarnation, by the checkpoints of their partitions."""
    return [
        entry
        for entry in entries
        if entry.partition in checkpoints and entry.epoch == checkpoints[entry.partition].epoch
    ]


def of_present_log(
    entries: Iterable[LedgerEntry],
    checkpoints: Mapping[int, Checkpoint],
    lows: Mapping[int, int],
) -> list[LedgerEntry]:
    """Those about the log that Kafka has now: of the current epoch, and what older ones read of it.

    A log that was cut back keeps its beginning: the new epoch begins behind it. That of another
    topic begins with its log, so nothing older is left.

    Args:
        lows: the low watermarks, by partition.

    Returns:
        Entries in no order; those of older epochs end where the next one begins, their counts are
        still of all that they were.
    """
    found = of_current_epoch(entries, checkpoints)
    begins = {partition: checkpoint.next_offset for partition, checkpoint in checkpoints.items()}
    for entry in found:
        begins[entry.partition] = min(begins[entry.partition], entry.start_offset)
    older = [
        entry
        for entry in entries
        if entry.partition in checkpoints and entry.epoch < checkpoints[entry.partition].epoch
    ]
    for entry in sorted(older, key=lambda entry: (-entry.epoch, -entry.start_offset)):
        begin = begins[entry.partition]
        end = min(entry.end_offset, begin)
        if max(entry.start_offset, lows.get(entry.partition, 0)) < end:
            found.append(replace(entry, end_offset=end))
            begins[entry.partition] = entry.start_offset
    return found


def ingested_from(entries: Iterable[LedgerEntry], epoch: int, before: OffsetRange) -> int:
    """The offset from which on all were ingested up to the start of a range.

    Args:
        entries: of any partitions, each partition's newest first.
        epoch: that of the partition's checkpoint.
        before: the range; its start itself is the answer where nothing before it was ingested.
    """
    start = before.start
    for entry in entries:
        is_chained = (entry.partition, entry.epoch) == (before.partition, epoch)
        is_ingested = is_chained and entry.outcome.is_ingested
        if is_ingested and entry.start_offset < start <= entry.end_offset:
            start = entry.start_offset
    return start
