"""What is kept of the ledger's sums: one cell per Kafka partition."""

from typing import Any

from iot_pipeline.clients.cassandra import by_day
from iot_pipeline.clients.table import Table
from iot_pipeline.core.ledger.sums import EntryPlace, LedgerSum, LossPlace

_TABLE = "{ks}.ledger_sums"
_READ = f"SELECT kafka_partition, kept FROM {_TABLE} WHERE topic = ?"


class CassandraLedgerSums(Table):
    """A `LedgerSums`."""

    def read_sums(self, topic: str) -> dict[int, LedgerSum]:
        rows = self._run(_READ, (topic,), doing=f"reading the kept sums of {topic}")
        return {row.kafka_partition: _sum_of(row.kafka_partition, *row.kept) for row in rows}

    def write_sum(self, topic: str, kept: LedgerSum) -> None:
        value = (*kept.until, dict(kept.stored_by_day), [tuple(loss) for loss in kept.losses])
        self._insert(
            _TABLE,
            {"topic": topic, "kafka_partition": kept.partition, "kept": value},
            doing=f"keeping the sum of {topic}[{kept.partition}]",
        )


def _sum_of(partition: int, epoch: int, start: int, stored: Any, losses: Any) -> LedgerSum:
    return LedgerSum(
        partition,
        EntryPlace(epoch, start),
        by_day(stored),
        tuple(LossPlace(*loss) for loss in losses or ()),
    )
