"""The rows of readings, by device and day, and how the messages were declared."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Protocol

from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.read_back import StoredRow
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.kept_declaration import KeptDeclaration
from iot_pipeline.core.reading.spans import (
    Counted,
    PieceCount,
    PieceMean,
    Place,
    PlainRow,
    Span,
    Summed,
)
from iot_pipeline.core.times import Window
from iot_pipeline.stages.ports.answers import Answer, Pending

if TYPE_CHECKING:
    # Its numpy is a tenth of a second for commands that write no row.
    from iot_pipeline.core.reading.row_groups import RowSlice


class ReadingStore(Protocol):
    """Rows of readings, idempotent: the same row again changes nothing."""

    def send_rows(self, rows: "RowSlice") -> Pending:
        """Start writing rows of one Cassandra partition, or of a few, all of them in one batch.

        Slices of one `RowGroups` cost least when they are sent in its order.
        """

    def send_devices(self, day_number: int, devices: Mapping[str, int]) -> Pending:
        """Start noting that these devices have rows on this day; device_id -> produced_ms."""

    def wait(self, timeout_seconds: float) -> None:
        """Until some answer has come since the last call, or the time is over."""


# One page each: the second page of an answer would be a second wait.
MAX_ROWS_PER_READ = 5_000
MAX_TIMES_PER_READ = 100


class SensorData(Protocol):
    """The table of readings: asked by the Cassandra partition, (device_id, day_number).

    A `limit` is at most MAX_ROWS_PER_READ. Cassandra gives up on a statement that meets 100,000
    deleted or expired cells, or that takes too long: `stages.reading.slices` asks so that none
    does, and is what everything else stands on.
    """

    def start_range(self, span: Span, limit: int) -> Answer[Sequence[tuple[int, StoredRow]]]:
        """Start reading (timestamp_ms, row) with the write time of each cell, newest first."""

    def start_times(
        self, device_id: str, day_number: int, times_ms: Sequence[int]
    ) -> Answer[Sequence[tuple[int, StoredRow]]]:
        """The same of rows with exactly these timestamps, at most MAX_TIMES_PER_READ."""

    def start_page(
        self, span: Span, limit: int, *, newest_first: bool = False
    ) -> Answer[Sequence[PlainRow]]:
        """Start reading rows without their write times, the oldest first unless it says."""

    def start_sums(self, span: Span) -> Answer[Summed]:
        """Start adding up the newest part of a span; ask on with the rest."""

    def start_count(self, span: Span) -> Answer[Counted]:
        """Start counting the newest part of a span; ask on with the rest.

        Rows; their cells where readings may be told in parts.
        """

    def start_counts(self, span: Span, piece_ms: int) -> Answer[Sequence[PieceCount]]:
        """Start counting by pieces of whole seconds, oldest first; only pieces with any."""

    def start_means(self, span: Span, piece_ms: int) -> Answer[Sequence[PieceMean]]:
        """Start averaging the first quantity by such pieces, oldest first."""

    def all_places(self) -> Iterator[Place]:
        """Every partition, by reading the table's keys: slow, and misses nothing."""

    def delete_rows(self, deletion: Deletion, day_number: int) -> None:
        """Delete the rows of one day that the deletion covers."""

    def wait(self, timeout_seconds: float) -> None: ...


class DeviceDays(Protocol):
    """Which devices have rows on which UTC days."""

    def days(self) -> list[date]:
        """Those on which any device has, oldest first."""

    def devices(self, day: date) -> list[str]:
        """Those that have rows on that day, by name."""

    def walk(self, day: date, since: str = "") -> Iterator[str]:
        """The same from the name `since` on, found as they are taken: a day may have millions."""

    def count(self, day: date) -> int:
        """How many there are."""

    def days_of(self, device_id: str, window: Window | None = None) -> Iterator[date]:
        """Those of one device that the window touches, newest first, found as they are taken."""


class Declarations(Protocol):
    """Each declaration of readings that the ledger names, whole, by its fingerprint."""

    def keep_declaration(self, declaration: Declaration) -> None:
        """Before the ledger names it; of one that is kept the first time stays."""

    def read_declarations(self) -> Sequence[KeptDeclaration]:
        """All of them, the latest first."""
