"""Who wins a key: the write time of a row, made from where its record is in the log.

The one owner of how a write time is made and read, and of the order in which rows win. A write time
is in microseconds: the broker's millisecond, and three digits that name the record inside it,

    (offset % 62) * 16 + partition % 16

which are 0 to 991; 992 to 999 belong to no record, and 992 is `iot mend`'s. So the same record
always writes the same cells, one of a later millisecond wins, and a person's DELETE (now) beats
them all. Inside a millisecond the order is fixed, and it is not that of arrival.

Two records of one millisecond share a write time only where their offsets differ by a multiple of
62 in one partition, or their partitions' numbers differ by a multiple of 16. In one partition the
lowest offset wins: what has been written stays, wherever a range ended between the two. Across such
partitions that holds only inside one micro-batch; else the row may be torn, and `iot mend` helps.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    # Nothing here needs it at run time, and commands that read no row start without it.
    import numpy as np
    import numpy.typing as npt

_IntOrInts = TypeVar("_IntOrInts", int, "npt.NDArray[np.int64]")

US_PER_MS = 1000
# How many offsets, and partitions, have digits of their own inside one millisecond.
_OFFSETS_APART = 62
_PARTITIONS_APART = 16

# (write time, offset, partition, then the values of the quantities)
Row = tuple[int, int, int, *tuple[Any, ...]]
# timestamp_ms -> row, for one (device_id, day)
RowsByTime = dict[int, Row]


def write_time_us(produced_ms: int, offset: int, partition: int) -> int:
    """The CQL write time of the row that a record makes, in microseconds since 1970.

    It is also the row's provenance: it names the record while Kafka keeps it.
    """
    digits = offset % _OFFSETS_APART * _PARTITIONS_APART + partition % _PARTITIONS_APART
    return produced_ms * US_PER_MS + digits


def write_times_us(
    produced_ms: Sequence[int], offsets: Sequence[int], partitions: Sequence[int]
) -> list[int]:
    return [
        ms * US_PER_MS + offset % _OFFSETS_APART * _PARTITIONS_APART + partition % _PARTITIONS_APART
        for ms, offset, partition in zip(produced_ms, offsets, partitions, strict=True)
    ]


def write_times_of_partition(
    produced_ms: "npt.NDArray[np.int64]", offsets: "npt.NDArray[np.int64]", partition: int
) -> "npt.NDArray[np.int64]":
    """`write_time_us` of records of one Kafka partition."""
    digits = offsets % _OFFSETS_APART * _PARTITIONS_APART + partition % _PARTITIONS_APART
    return produced_ms * US_PER_MS + digits


def arrived_ms(write_time_us: _IntOrInts) -> _IntOrInts:
    """When the record of a row with this write time arrived in Kafka."""
    return write_time_us // US_PER_MS


def may_be_of(write_time_us: int, partition: int) -> bool:
    """Whether a record of this Kafka partition can make a row with this write time."""
    digits = write_time_us % US_PER_MS
    is_records = digits < _OFFSETS_APART * _PARTITIONS_APART
    return is_records and digits % _PARTITIONS_APART == partition % _PARTITIONS_APART


def first_us(produced_ms: int) -> int:
    """The lowest write time that a record of this broker millisecond can have."""
    return produced_ms * US_PER_MS


def mended_us(produced_ms: int) -> int:
    """The write time of a row that `iot mend` writes: above every record's of this millisecond."""
    return produced_ms * US_PER_MS + _OFFSETS_APART * _PARTITIONS_APART


def rank(row: Row) -> tuple[int, int, int]:
    """Of rows with one key the one with the lowest rank wins; no two records have the same."""
    return -row[0], row[1], row[2]


def rank_columns(
    written_us: "npt.NDArray[np.int64]",
    offsets: "npt.NDArray[np.int64]",
    partitions: "npt.NDArray[np.int32]",
) -> "tuple[npt.NDArray[Any], ...]":
    """`rank` of many rows, as `numpy.lexsort` takes it: what counts most is last."""
    return partitions, offsets, -written_us


def winner_of(rows: Iterable[Row]) -> Row:
    """The row that wins over the others; of records with one key, at least one."""
    return min(rows, key=rank)


def record_of(row: Row) -> tuple[int, int]:
    """(partition, offset) of the record that makes a row."""
    return row[2], row[1]
