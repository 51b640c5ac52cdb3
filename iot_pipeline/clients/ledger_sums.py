"""What is kept of the ledger's sums: one cell per Kafka partition."""

from typing import Any

from iot_pipeline.clients.cassandra_answers import by_day
from iot_pipeline.clients.table import Table
from iot_pipeline.core.ledger.sums import EntryPlace, LedgerSum, LossPlace

_TABLE = "{ks}.ledger_sums"
_READ = f"SELECT kafka_partition, summed FROM {_TABLE} WHERE topic = ?"


class CassandraLedgerSums(Table):
    """A `LedgerSums`."""

    def read_sums(self, topic: str) -> dict[int, LedgerSum]:
        rows = self._run(_READ, (topic,), doing=f"reading the kept sums of {topic}")
        return {
            row.kafka_partition: _sum_of(row.kafka_partition, *row.summed)
            for row in rows
            if row.summed
        }

    def write_sum(self, topic: str, kept: LedgerSum) -> None:
        counted = dict(kept.stored_by_day), dict(kept.cells_by_day)
        value = (*kept.until, *counted, [tuple(loss) for loss in kept.losses])
        self._insert(
            _TABLE,
            {"topic": topic, "kafka_partition": kept.partition, "summed": value},
            doing=f"keeping the sum of {topic}[{kept.partition}]",
        )


def _sum_of(
    partition: int, epoch: int, start: int, stored: Any, cells: Any, losses: Any
) -> LedgerSum:
    return LedgerSum(
        partition,
        EntryPlace(epoch, start),
        by_day(stored),
        by_day(cells),
        tuple(LossPlace(*loss) for loss in losses or ()),
    )
