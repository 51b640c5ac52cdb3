"""Which days of readings an audit covered whole, and what it found of each.

A day is the UTC day on which something was measured. The ledger says which offsets have readings of
it, whenever they arrived; an audit that read all of these has covered the day.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from iot_pipeline.core.ledger.chain import LedgerEntry
from iot_pipeline.core.reading.offsets import OffsetRange, join_ranges, subtract_ranges
from iot_pipeline.core.words import counted


@dataclass(frozen=True, slots=True)
class AuditedDay:
    """One day of readings as an audit found it.

    Args:
        seen: what the ledgers said of the day before the audit read anything; another text now
            means that rows of it were written, written again or deleted since.
        stored: rows of it that the ledgers had counted.
        rows: rows of it that are their record's, by the audit.
        offsets: of the log, of all ranges that have readings of the day.
        unread: of these, offsets whose record was not compared with a row.
        elsewhere: stored rows, at most, whose record was not found in these ranges: it is of
            another log, before a rebase, or of dead letters that were replayed, or Kafka has
            compacted it away, or the present declaration ignores it.
        lost, torn, stray: defects of the day. Stray rows were looked for if `is_stray_judged`.
    """

    day: date
    audited_at: datetime
    audit_id: str
    seen: str
    stored: int
    rows: int
    offsets: int
    unread: int = 0
    elsewhere: int = 0
    lost: int = 0
    torn: int = 0
    stray: int = 0
    is_stray_judged: bool = False

    @property
    def defects(self) -> int:
        return self.lost + self.torn + self.stray

    @property
    def is_proven(self) -> bool:
        return not (self.defects or self.unread or self.elsewhere)

    @property
    def found(self) -> str:
        """What keeps it from being proven, and which rows are rightly not there, in words."""
        parts = [
            f"{count:,} {name}"
            for name, count in (("lost", self.lost), ("torn", self.torn), ("stray", self.stray))
            if count
        ]
        if self.unread:
            parts.append(f"{counted(self.unread, 'offset')} not compared")
        if self.elsewhere:
            parts.append(f"up to {counted(self.elsewhere, 'row')} whose record was not found")
        others = self.stored - self.rows - self.defects - self.unread - self.elsewhere
        if others > 0:
            parts.append(f"{others:,} without a row: superseded, deleted or aged out")
        return ", ".join(parts)


@dataclass(slots=True)
class LedgerDay:
    """What the ledger has of a day: its ranges in the log, and rows stored from them."""

    ranges: list[OffsetRange] = field(default_factory=list)
    stored: int = 0


@dataclass(slots=True)
class LedgerDays:
    """Ranges of the ledger by the days of which they stored readings; `whole` are all of them."""

    days: defaultdict[date, LedgerDay] = field(default_factory=lambda: defaultdict(LedgerDay))
    whole: list[OffsetRange] = field(default_factory=list)

    def add(self, item: OffsetRange, stored_by_day: Mapping[date, int]) -> None:
        """In any order. Neighbours are joined, so that a year of them takes little memory."""
        _add(self.whole, item)
        for day, stored in stored_by_day.items():
            if stored:
                _add(self.days[day].ranges, item)
                self.days[day].stored += stored

    def add_all(self, other: "LedgerDays") -> None:
        self.whole += other.whole
        for day, found in other.days.items():
            self.days[day].ranges += found.ranges
            self.days[day].stored += found.stored


def _add(ranges: list[OffsetRange], item: OffsetRange) -> None:
    last = ranges[-1] if ranges else None
    if last is not None and last.partition == item.partition and last.start == item.end:
        ranges[-1] = OffsetRange(item.partition, item.start, last.end)
    else:
        ranges.append(item)


def ranges_of_day(present: Iterable[LedgerEntry], day: date) -> list[OffsetRange]:
    """The offsets that have readings of the day, by these entries."""
    return [entry.offsets for entry in present if entry.counts.stored_by_day.get(day)]


@dataclass(frozen=True, slots=True)
class DaysBefore:
    """What the ledgers said of each day before an audit began.

    Args:
        seen: `DayFacts.touched`, by day.
        stored: rows of both ledgers, of every log that there was.
        ingested: those of the ingest ledger alone.
        of_partition: the whole ledger of each Kafka partition, of every log that there was.
    """

    seen: Mapping[date, str]
    stored: Mapping[date, int]
    ingested: Counter[date]
    of_partition: Mapping[int, LedgerDays]

    def covered(
        self, present: LedgerDays, audited: Sequence[OffsetRange]
    ) -> Iterator[tuple[date, LedgerDay]]:
        """The days of the present log whose ranges were audited, every offset of them."""
        for day, found in present.days.items():
            if day in self.seen and not subtract_ranges(found.ranges, audited):
                yield day, found

    def elsewhere(self, day: date, present: int, *, is_everything: bool) -> int:
        """Rows of the day, at most, that were stored of records in none of the day's ranges.

        Args:
            present: rows stored of the present log.
            is_everything: all of the present log was compared with all of the table: dead letters
                that were replayed are of this log, too.
        """
        former = max(0, self.ingested[day] - present)
        return former + (0 if is_everything else max(0, self.stored[day] - self.ingested[day]))


def inside(ranges: Iterable[OffsetRange], others: Iterable[OffsetRange]) -> int:
    """How many offsets of `ranges` are in one of `others` at least."""
    asked = join_ranges(ranges)
    left = subtract_ranges(asked, others)
    return sum(item.span for item in asked) - sum(item.span for item in left)
