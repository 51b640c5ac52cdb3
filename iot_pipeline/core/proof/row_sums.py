"""Fingerprints of many rows: what records should have made, against what the table has."""

from array import array
from collections.abc import Iterable

from iot_pipeline.core.reading.spans import Place

# Of partitions of the table; few places share one.
BUCKETS = 1 << 16
_MASK = (1 << 64) - 1


def hash_row(place_hash: int, timestamp_ms: int, written_us: int, cell: int = 0) -> int:
    """Of a row, or of one of its cells where each is judged by itself."""
    return hash((place_hash, timestamp_ms, written_us, cell))


class RowSums:
    """A fingerprint of rows by bucket of places: equal ones mean the same rows, in any order.

    How many they are, and the sum of the write times of each quantity's cells: numbers that
    Cassandra adds up itself. Every row that a record made was compared with it one by one, so a
    missing row and one too many cancel each other out only if their write times are equal.
    """

    def __init__(self, cells: int) -> None:
        # Of each bucket: rows, and the write times of each quantity's cells.
        self._each = 1 + cells
        self._sums = array("Q", bytes(self._each * 8 * BUCKETS))

    @staticmethod
    def bucket_of(place: Place) -> int:
        return hash(place) % BUCKETS

    def add(self, place: Place, rows: int, *written_us: int) -> None:
        """Count rows of a place in, and the sum of the write times of each quantity's cells."""
        first, sums = self._each * self.bucket_of(place), self._sums
        for at, number in enumerate((rows, *written_us), start=first):
            sums[at] = (sums[at] + number) & _MASK

    def differing(self, other: "RowSums", among: Iterable[int] = range(BUCKETS)) -> set[int]:
        """Buckets in which the two do not hold the same rows."""
        each, mine, others = self._each, self._sums, other._sums
        return {
            at
            for at in among
            if mine[each * at : each * (at + 1)] != others[each * at : each * (at + 1)]
        }
