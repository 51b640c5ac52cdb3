"""Records that Kafka deleted before they were read: written into the ledger, seen by a person."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from iot_pipeline.core.ledger.chain import LedgerEntry, Outcome


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    acknowledged_at: datetime
    reason: str
    acknowledged_by: str


@dataclass(frozen=True, slots=True)
class Loss:
    """A range of the log that expired unread; `loss_id` names it for good."""

    loss_id: str
    entry: LedgerEntry
    acknowledgement: Acknowledgement | None


def find_losses(
    entries: Iterable[LedgerEntry], acknowledged: Mapping[str, Acknowledgement]
) -> list[Loss]:
    """Every expired range of the ledger, newest first."""
    losses = []
    for entry in entries:
        if entry.outcome is not Outcome.EXPIRED:
            continue
        loss_id = f"{entry.epoch}:{entry.partition}:{entry.start_offset}-{entry.end_offset}"
        losses.append(Loss(loss_id, entry, acknowledged.get(loss_id)))
    losses.sort(key=lambda loss: (-loss.entry.epoch, loss.entry.partition, -loss.entry.end_offset))
    return losses
