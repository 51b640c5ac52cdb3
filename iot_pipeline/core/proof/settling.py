"""Why a day has fewer rows than the ledger stored: settled piece by piece of the log.

A reading that is sent again in a later micro-batch is counted as stored twice and makes one row: no
write can know of the first. An audit of the day's offsets does: where every record has its own row
or a later one's, the missing rows are readings that were sent again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import NamedTuple

from iot_pipeline.core.ledger.chain import LedgerEntry
from iot_pipeline.core.reading.offsets import OffsetRange, join_ranges, subtract_ranges

# Offsets that are compared, and remembered, together.
PIECE_OFFSETS = 250_000
# Of no piece: remembered of a log of before a rebase.
_LEFT, _PRESENT = "former: rows left", "former: stored since"
# Of no piece either: what the ledger had stored when the day was as it is to be.
_SUM_THEN = "ledger: stored then"


class Piece(NamedTuple):
    """A part of the log, inside one epoch, that has readings of the day.

    `added` is what replays have added to it and its neighbours since: as it grows it is another
    piece, of which nothing is remembered.
    """

    epoch: int
    offsets: OffsetRange
    added: int = 0

    def __str__(self) -> str:
        more = f" and {self.added} added" if self.added else ""
        return f"{self.epoch}:{self.offsets}{more}"


class AddedOn(NamedTuple):
    """Rows of a day, or cells, that a replay by a later declaration added to ranges of the log."""

    epoch: int
    ranges: Sequence[OffsetRange]
    added: int


@dataclass(frozen=True, slots=True)
class KeptSettlement:
    """What is remembered of a day.

    `pieces` has the rows that are of a piece's records, by its name; `explained` says how many rows
    fewer than the ledger stored are known to be records sent again; 0: as many rows as it stored
    were counted. `settled_at` is when that was so, None until everything was compared once.
    """

    pieces: Mapping[str, int] = field(default_factory=dict)
    explained: int = 0
    settled_at: datetime | None = None

    def at_sum(self, stored: int) -> "KeptSettlement":
        """The same, of a day of which the ledger has stored `stored` rows."""
        return replace(self, pieces={**self.pieces, _SUM_THEN: stored})

    def explains(self, stored: int) -> int:
        """Rows that may be fewer, when the ledger has stored `stored`: no more than came since."""
        then = self.pieces.get(_SUM_THEN)
        return 0 if then is None else self.explained + max(0, stored - then)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is known of a day's missing rows after a look.

    Args:
        missing: rows fewer than the ledger stored.
        explained: of them, records whose row a later one has; known when all was compared.
        compared: offsets, of `offsets` that have readings of the day.
        defects: records without a row, or with a torn one, that this look found.
        unverifiable: offsets whose record Kafka does not have any more.
        problem: why it could not look, in words.
        as_of: of a look before this one: what came since was not compared.
        former: readings that were stored of another log, before a rebase.
        was_counted: the look of `as_of` was a count that found no row missing.
    """

    day: date
    missing: int
    explained: int = 0
    compared: int = 0
    offsets: int = 0
    defects: int = 0
    unverifiable: int = 0
    problem: str = ""
    as_of: datetime | None = None
    former: int = 0
    was_counted: bool = False

    @property
    def is_settled(self) -> bool:
        return self.defects == 0 and self.missing <= self.explained


@dataclass(frozen=True, slots=True)
class Former:
    """What is left of another log, of before a rebase: rows that no record of this one has.

    They get fewer as what this log has of them (a mirror) is ingested, and by nothing else.

    Args:
        stored: readings that the ledger stored of the former log.
        present: readings that it stored of this one.
    """

    stored: int
    present: int

    def rows_left(self, kept: Mapping[str, int], rows: int) -> int:
        """How many rows may be of it, of `rows` that are not of this log's records.

        Args:
            kept: what `keep` gave at the look before; of nothing at the first one.
        """
        least = kept.get(_LEFT, 0) - (self.present - kept.get(_PRESENT, 0)) if self.stored else 0
        return max(0, least, min(self.stored, rows))

    def keep(self, kept: Mapping[str, int], left: int | None) -> dict[str, int]:
        """To be remembered beside the pieces; what was `kept` where `left` is not known."""
        if left is None:
            return {name: kept[name] for name in (_LEFT, _PRESENT) if name in kept}
        return {_LEFT: left, _PRESENT: self.present} if self.stored else {}


def pieces_of(
    entries: Iterable[LedgerEntry], day: date, replays: Sequence[AddedOn] = ()
) -> list[Piece]:
    """The log's parts that have readings of the day, cut at multiples of PIECE_OFFSETS.

    Ordered so that those of the newest offsets come first: what is sent again is sent soon.
    """
    by_epoch: dict[int, list[OffsetRange]] = {}
    for entry in entries:
        if entry.counts.stored_by_day.get(day):
            by_epoch.setdefault(entry.epoch, []).append(entry.offsets)
    for replay in replays:
        by_epoch.setdefault(replay.epoch, []).extend(replay.ranges)
    pieces = []
    for epoch, ranges in by_epoch.items():
        for item in join_ranges(ranges):
            start = item.start
            while start < item.end:
                end = min(item.end, (start // PIECE_OFFSETS + 1) * PIECE_OFFSETS)
                offsets = OffsetRange(item.partition, start, end)
                added = sum(
                    replay.added
                    for replay in replays
                    if replay.epoch == epoch
                    and subtract_ranges([offsets], replay.ranges) != [offsets]
                )
                pieces.append(Piece(epoch, offsets, added))
                start = end
    return sorted(pieces, key=lambda piece: (-piece.offsets.end, piece.offsets.partition))
