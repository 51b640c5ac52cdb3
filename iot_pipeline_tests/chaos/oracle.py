"""The one judge of what faults left behind: pure, and no code of the package under test.

`chaos.reading.collect` reads topic, dead letters, rows and ledger; `judge` compares them with what
the load knows of its own sends. It knows the promise (docs/guarantees.md), not how it is kept:

- every acknowledged record is in the topic, or was there until Kafka deleted it (`known`);
- every key's row is the record that wins it, whole: values and write time; a key without a row is
  a loss, and a row without a record a stranger. Where records tell a reading in parts, each value
  is that of the record that wins it among those that tell it;
- every bad record has a dead letter with its bytes, and nothing else has one;
- the ledger tiles each partition from its start to the checkpoint, to the end of the topic, and
  each entry's counts are those of the records it covers;
- what no client can read is in the ledger as a loss, and nothing else is called unreadable;
- where a log was cut back and has grown again, what lies before the new epoch was read in the old.

Records that the ledger says were left unread, and those of a log that became another one before
they were ingested, need not have a row: where one is there it must be theirs.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

_SHOWN = 5
# What of the log was left unread, by the ledger: these records need no row.
LOSSES = ("expired", "skipped", "unreadable")

# (device_id, milliseconds since 1970)
Key = tuple[str, int]
# By (epoch, partition), in order.
_Offsets = defaultdict[tuple[int, int], list[int]]


@dataclass(frozen=True)
class Attempt:
    """A message that the load tried to send; `reading` is None where it is meant to be bad.

    It is the device, the millisecond, and each value; None where the message does not tell it.
    """

    value: bytes | None
    reading: tuple[str, int, *tuple[float | None, ...]] | None


@dataclass(frozen=True)
class Found:
    """A record as the topic has it."""

    partition: int
    offset: int
    produced_ms: int
    number: int
    value: bytes | None
    epoch: int = 0

    @property
    def place(self) -> tuple[int, int, int]:
        return self.epoch, self.partition, self.offset

    @property
    def write_time_us(self) -> int:
        return self.produced_ms * 1000 + self.offset % 62 * 16 + self.partition % 16


@dataclass(frozen=True)
class Stretch:
    """Offsets [start, end) that no client can read."""

    epoch: int
    partition: int
    start: int
    end: int

    def overlap(self, start: int, end: int) -> int:
        return max(0, min(self.end, end) - max(self.start, start))


@dataclass(frozen=True)
class Row:
    """A row as the table has it: values and their write times; None where a cell is missing."""

    values: tuple[float | None, ...]
    times_us: tuple[int | None, ...]
    day: date


@dataclass(frozen=True)
class Entry:
    """One row of the ledger."""

    partition: int
    epoch: int
    start: int
    end: int
    outcome: str
    stored: int
    superseded: int
    repeated: int
    rejected: int
    ignored: int
    aged_out: int
    holes: int


@dataclass
class Facts:
    """All that there is to judge, as it was found."""

    attempted: Mapping[int, Attempt]
    acknowledged: frozenset[int]
    records: list[Found] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    letters: list[tuple[int, int, bytes | None]] = field(default_factory=list)
    rows: dict[Key, Row] = field(default_factory=dict)
    devices: set[tuple[date, str]] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    checkpoints: dict[int, int] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    unreadable: list[Stretch] = field(default_factory=list)

    def epoch_of(self, partition: int) -> int:
        """That of the log that Kafka has now."""
        return self.epochs.get(partition, 0)

    def owing(self) -> Callable[[Found], bool]:
        """Whether the ledger says that a record was ingested, or somebody still has to do it."""
        lost: defaultdict[tuple[int, int], list[Entry]] = defaultdict(list)
        reached: defaultdict[tuple[int, int], int] = defaultdict(int)
        for entry in self.entries:
            chain = entry.epoch, entry.partition
            if entry.outcome in LOSSES:
                lost[chain].append(entry)
            reached[chain] = max(reached[chain], entry.end)

        def is_owed(record: Found) -> bool:
            chain = record.epoch, record.partition
            if any(entry.start <= record.offset < entry.end for entry in lost[chain]):
                return False
            is_current = record.epoch == self.epoch_of(record.partition)
            return is_current or record.offset < reached[chain]

        return is_owed


@dataclass
class Verdict:
    """What is wrong, by kind; empty when every promise was kept."""

    faults: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    records: int = 0
    rows: int = 0

    @property
    def is_clean(self) -> bool:
        return not self.faults

    @property
    def kinds(self) -> set[str]:
        return set(self.faults)

    def __str__(self) -> str:
        lines = [
            f"{kind}: {len(found)}, first {found[:_SHOWN]}" for kind, found in self.faults.items()
        ]
        return "\n".join(lines) or f"clean: {self.records} records, {self.rows} rows"


def judge(facts: Facts) -> Verdict:
    """Say which promises are broken; pure."""
    verdict = Verdict(records=len(facts.records), rows=len(facts.rows))
    _judge_topic(facts, verdict)
    _judge_rows(facts, verdict)
    _judge_letters(facts, verdict)
    _judge_ledger(facts, verdict)
    return verdict


def _judge_topic(facts: Facts, verdict: Verdict) -> None:
    found = set()
    for record in facts.records:
        attempt = facts.attempted.get(record.number)
        if attempt is None or attempt.value != record.value:
            verdict.faults["never attempted"].append(f"{record}")
        found.add(record.number)
    for number in sorted(facts.acknowledged - found):
        verdict.faults["acknowledged and gone from the topic"].append(str(number))


# (write time, offset and partition, the smaller the better) of a record that has a cell.
_Rank = tuple[int, int, int]
# A key, and the number of a quantity.
_Cell = tuple[Key, int]


def _judge_rows(facts: Facts, verdict: Verdict) -> None:
    winners: dict[_Cell, tuple[_Rank, Found]] = {}
    is_owed = facts.owing()
    possible: defaultdict[_Cell, list[tuple[_Rank, Found]]] = defaultdict(list)
    for record in facts.records:
        attempt = facts.attempted.get(record.number)
        if attempt is None or attempt.reading is None:
            continue
        device_id, ms, *values = attempt.reading
        rank = (record.write_time_us, -record.offset, -record.partition)
        for number, value in enumerate(values):
            cell = (device_id, ms), number
            if value is None:
                continue
            if not is_owed(record):
                possible[cell].append((rank, record))
            elif cell not in winners or rank > winners[cell][0]:
                winners[cell] = (rank, record)
    for key, row in facts.rows.items():
        # One that nobody owes, and that is there all the same: written before it expired.
        for cell in ((key, number) for number in range(len(row.values))):
            for rank, record in possible[cell]:
                is_higher = cell not in winners or rank > winners[cell][0]
                if is_higher and _is_cell_of(row, cell[1], record, facts):
                    winners[cell] = (rank, record)
    lost: set[Key] = set()
    for (key, number), (_, record) in winners.items():
        found = facts.rows.get(key)
        if found is None:
            if key not in lost:
                verdict.faults["lost"].append(f"{key} of {record.partition}@{record.offset}")
            lost.add(key)
        elif not _is_cell_of(found, number, record, facts):
            reading = facts.attempted[record.number].reading
            wanted = f"{reading} of {record.partition}@{record.offset} at {record.write_time_us}"
            verdict.faults["not its winner"].append(f"{key}: {found}, expected {wanted}")
    owned = {key for key, _ in winners}
    for key, row in facts.rows.items():
        if key not in owned:
            verdict.faults["stray"].append(f"{key}: {row}")
            continue
        for number, value in enumerate(row.values):
            if value is not None and (key, number) not in winners:
                verdict.faults["stray"].append(f"{key}: quantity {number} of {row}")
        if row.day != _day_of(key[1]):
            verdict.faults["under a wrong day"].append(f"{key}: {row.day}")
        if (row.day, key[0]) not in facts.devices:
            verdict.faults["device not noted"].append(f"{key[0]} on {row.day}")


def _is_cell_of(row: Row, number: int, record: Found, facts: Facts) -> bool:
    reading = facts.attempted[record.number].reading
    assert reading is not None
    told = reading[2 + number], record.write_time_us
    return (row.values[number], row.times_us[number]) == told


def _judge_letters(facts: Facts, verdict: Verdict) -> None:
    # Coordinates may come again in the next incarnation of a topic: each with a value of its own.
    bad = [
        record
        for record in facts.records
        if record.number in facts.attempted and facts.attempted[record.number].reading is None
    ]
    is_owed = facts.owing()
    sent = {(record.partition, record.offset, record.value) for record in bad}
    delivered = set()
    for partition, offset, value in facts.letters:
        if (partition, offset, value) not in sent:
            verdict.faults["a letter of no bad record"].append(f"{partition}@{offset}")
        delivered.add((partition, offset, value))
    for record in bad:
        place = (record.partition, record.offset, record.value)
        if place not in delivered and is_owed(record):
            verdict.faults["no dead letter"].append(f"{record.partition}@{record.offset}")


def _judge_ledger(facts: Facts, verdict: Verdict) -> None:
    all_at: _Offsets = defaultdict(list)
    bad_at: _Offsets = defaultdict(list)
    repeats_at, differing_at = _find_rivals(facts)
    for record in sorted(facts.records, key=lambda record: record.place):
        all_at[record.epoch, record.partition].append(record.offset)
        attempt = facts.attempted.get(record.number)
        if attempt is not None and attempt.reading is None:
            bad_at[record.epoch, record.partition].append(record.offset)
    chains: defaultdict[tuple[int, int], list[Entry]] = defaultdict(list)
    for entry in sorted(facts.entries, key=lambda entry: (entry.epoch, entry.start)):
        chains[entry.epoch, entry.partition].append(entry)
    for partition in facts.ends:
        chains.setdefault((facts.epoch_of(partition), partition), [])
    for (epoch, partition), chain in chains.items():
        reached = _start_of(epoch, partition, chain, facts, verdict)
        for entry in chain:
            if entry.start != reached:
                kind = "ledger gap" if entry.start > reached else "ledger overlap"
                verdict.faults[kind].append(f"{partition}: {reached}, then {entry}")
            reached = entry.end
            at = epoch, partition
            _judge_sums(entry, all_at[at], bad_at[at], verdict)
            _judge_unreadable(entry, facts, verdict)
            # Who lost to whom inside a micro-batch is not known here, only who can have.
            for fate, possible in (("repeated", repeats_at[at]), ("superseded", differing_at[at])):
                most = bisect_left(possible, entry.end) - bisect_left(possible, entry.start)
                if getattr(entry, fate) > most:
                    verdict.faults["ledger sums"].append(f"{entry}: {most} can be {fate}")
        if epoch != facts.epoch_of(partition):
            continue
        checkpoint = facts.checkpoints.get(partition, 0)
        if checkpoint != reached:
            verdict.faults["checkpoint off the chain"].append(
                f"{partition}: chain ends at {reached}, checkpoint {checkpoint}"
            )
        if checkpoint != facts.ends[partition]:
            verdict.faults["not drained"].append(
                f"{partition}: {checkpoint} of {facts.ends[partition]}"
            )


def _start_of(
    epoch: int, partition: int, chain: list[Entry], facts: Facts, verdict: Verdict
) -> int:
    """Where the epoch begins; what lies before it must have been read in an earlier one.

    The first epoch begins at 0, and so does that of a topic that was made again.
    """
    if epoch == 0 or not chain:
        return 0
    start = chain[0].start
    before = [e.end for e in facts.entries if (e.partition, e.epoch) == (partition, epoch - 1)]
    reached = max(before, default=0)
    read: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)
    for record in facts.records:
        if record.partition == partition and record.offset < start:
            read[record.epoch].add((record.offset, record.number))
    unread = {place for place in read[epoch] if place[0] >= reached}
    for offset, _ in sorted(unread | (read[epoch] - read[epoch - 1])):
        verdict.faults["passed over by a new epoch"].append(f"{partition}@{offset}")
    return start


def _judge_unreadable(entry: Entry, facts: Facts, verdict: Verdict) -> None:
    covered = sum(
        stretch.overlap(entry.start, entry.end)
        for stretch in facts.unreadable
        if (stretch.epoch, stretch.partition) == (entry.epoch, entry.partition)
    )
    if entry.outcome == "unreadable" and covered != entry.end - entry.start:
        verdict.faults["called unreadable"].append(f"{entry}: {covered} of them are")
    if entry.outcome not in LOSSES and covered:
        verdict.faults["unreadable and not lost"].append(f"{entry}: {covered} cannot be read")


def _find_rivals(facts: Facts) -> tuple["_Offsets", "_Offsets"]:
    """Records all of which others of their key repeat, and those that others contradict."""
    of_key: defaultdict[Key, list[tuple[Found, tuple[float | None, ...]]]] = defaultdict(list)
    for record in sorted(facts.records, key=lambda record: record.place):
        attempt = facts.attempted.get(record.number)
        if attempt is not None and attempt.reading is not None:
            device_id, ms, *values = attempt.reading
            of_key[device_id, ms].append((record, tuple(values)))
    repeats: _Offsets = defaultdict(list)
    differing: _Offsets = defaultdict(list)
    for rivals in of_key.values():
        # Of each quantity, how many told which value.
        told = [
            Counter(value for value in column if value is not None)
            for column in zip(*(values for _, values in rivals), strict=True)
        ]
        for record, of_record in rivals:
            at = record.epoch, record.partition
            pairs = zip(told, of_record, strict=True)
            cells = [(counts, value) for counts, value in pairs if value is not None]
            if all(counts[value] > 1 for counts, value in cells):
                repeats[at].append(record.offset)
            is_told_again = all(counts.total() > 1 for counts, _ in cells)
            if is_told_again and any(counts[value] < counts.total() for counts, value in cells):
                differing[at].append(record.offset)
    for found in (repeats, differing):
        for offsets in found.values():
            offsets.sort()
    return repeats, differing


def _judge_sums(entry: Entry, offsets: list[int], bad: list[int], verdict: Verdict) -> None:
    span = entry.end - entry.start
    lost_key = entry.superseded + entry.repeated
    accounted = sum(
        (entry.stored, lost_key, entry.rejected, entry.ignored, entry.aged_out, entry.holes)
    )
    if entry.outcome in LOSSES and accounted:
        verdict.faults["ledger sums"].append(f"{entry}: left unread, and {accounted} counted")
    if entry.outcome not in ("ingested", "folded"):
        return
    rejected = bisect_left(bad, entry.end) - bisect_left(bad, entry.start)
    holes = span - (bisect_left(offsets, entry.end) - bisect_left(offsets, entry.start))
    if accounted != span or entry.rejected != rejected or entry.holes != holes or entry.aged_out:
        verdict.faults["ledger sums"].append(
            f"{entry}: span {span}, {rejected} rejected and {holes} holes there"
        )


def _day_of(ms: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).date()
