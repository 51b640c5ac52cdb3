"""Rows of a micro-batch that the store refused, and the Kafka partitions that this stops.

One or two refused rows are wrong data: their records become dead letters. More mean that the table
or Cassandra's limits do not fit: those Kafka partitions stop, and the others go on.
"""

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.reading.write_times import Row
from iot_pipeline.errors import PipelineError, RowsRefusedError

_MOST_ROWS = 10
_MOST_OF = 100  # one of so many


@dataclass(slots=True)
class Refusals:
    """What the store refused of one micro-batch.

    `rows` are all of them; those of `stopped` partitions are not complete: past the limit they are
    not looked for any more.
    """

    batch: MicroBatch
    rows: list[Row] = field(default_factory=list)
    stopped: dict[int, RowsRefusedError] = field(default_factory=dict)
    _refused: Counter[int] = field(default_factory=Counter)
    _all: Counter[int] = field(default_factory=Counter)

    def add(self, row: Row, error: RowsRefusedError) -> None:
        """Take one refused row in; its partition stops when it is one too many."""
        if not self._all:
            self._all.update(self.batch.groups.rows_by_partition())
        self.rows.append(row)
        partition = row[2]
        self._refused[partition] += 1
        if _are_too_many(self._refused[partition], self._all[partition]):
            self._stop([partition], error)
            return
        # A few of each of many partitions are no wrong row or two either.
        going_on = {p: count for p, count in self._refused.items() if p not in self.stopped}
        if _are_too_many(sum(going_on.values()), self._all.total()):
            self._stop(going_on, error)

    def _stop(self, partitions: Iterable[int], error: RowsRefusedError) -> None:
        for partition in partitions:
            refused, rows = self._refused[partition], self._all[partition]
            text = (
                f"{error}. {refused} of {rows} rows of Kafka partition {partition} in this "
                "micro-batch were refused: the table or Cassandra's limits do not fit, not the "
                "data. Nothing of this partition moved; compare the table with `iot setup`, then "
                "run again"
            )
            self.stopped.setdefault(partition, RowsRefusedError(text))

    def without_stopped(self, rows: RowSlice) -> RowSlice:
        """Those of the rows that are still to be written."""
        return rows.without_partitions(list(self.stopped)) if self.stopped else rows


def _are_too_many(refused: int, rows: int) -> bool:
    return refused > max(_MOST_ROWS, rows // _MOST_OF)


def find_bereft(batch: MicroBatch, stopped: Container[int]) -> dict[int, int]:
    """Partitions of which a record lost to one of a stopped partition, and that partition.

    Counted as superseded it would have no row: none of it is stored yet.
    """
    found: dict[int, int] = {}
    all_losers = batch.losers()
    is_new = True
    while is_new:
        is_new = False
        for (winner, _), losers in all_losers.items():
            if winner not in stopped and winner not in found:
                continue
            for loser in losers:
                partition = loser.row[2]
                if partition not in stopped and partition not in found:
                    found[partition] = winner
                    is_new = True
    return found


def leave_out(batch: MicroBatch, partitions: Iterable[int]) -> None:
    """Take all that is of these Kafka partitions out of a micro-batch: none of it is committed."""
    gone = set(partitions) & batch.ends.keys()
    if not gone:
        return
    batch.groups = batch.groups.without_partitions(list(gone))
    batch.dead_letters[:] = [
        letter for letter in batch.dead_letters if letter.record.partition not in gone
    ]
    for partition in gone:
        for by_partition in (batch.starts, batch.ends, batch.counts, batch.fingerprints):
            by_partition.pop(partition, None)


def lost_to(topic: str, partition: int, winner: int) -> PipelineError:
    """Why a partition stops of which a record lost to one of the stopped partition `winner`."""
    return RowsRefusedError(
        f"writing {topic}[{partition}]: a reading of it has the key of one of partition {winner}, "
        "which wins and was not stored: Cassandra refused too many rows of that partition. Nothing "
        "of this micro-batch's part of the partition moved; it goes on when that one does"
    )
