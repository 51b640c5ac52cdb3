"""Losses that a person has seen."""

from datetime import UTC, datetime
from typing import Any

from iot_pipeline.clients.cassandra import Table, aware
from iot_pipeline.core.ledger.losses import Acknowledgement

_LOSSES = "{ks}.acknowledged_losses"
_READ = f"SELECT loss_id, acknowledged_at, reason, acknowledged_by FROM {_LOSSES} WHERE topic = ?"
_WRITE = (
    f"INSERT INTO {_LOSSES} (topic, loss_id, acknowledged_at, reason, acknowledged_by) "
    "VALUES (?, ?, ?, ?, ?) IF NOT EXISTS"
)


class CassandraAcknowledgedLosses(Table):
    """An `Acknowledgements`."""

    def acknowledge_loss(self, topic: str, loss_id: str, reason: str, by: str) -> Acknowledgement:
        now = datetime.now(UTC)
        (row,) = self._run(
            _WRITE,
            (topic, loss_id, now, reason, by),
            doing=f"acknowledging the loss {loss_id}",
        )
        return Acknowledgement(now, reason, by) if row[0] else _acknowledgement(row)

    def acknowledged_losses(self, topic: str) -> dict[str, Acknowledgement]:
        rows = self._run(_READ, (topic,), doing="reading acknowledged losses")
        return {row.loss_id: _acknowledgement(row) for row in rows}


def _acknowledgement(row: Any) -> Acknowledgement:
    return Acknowledgement(aware(row.acknowledged_at), row.reason, row.acknowledged_by)
