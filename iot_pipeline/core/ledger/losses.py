"""Records that were not read and never will be by themselves: in the ledger, seen by a person."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from iot_pipeline.core.ledger.chain import Counts, LedgerEntry, Outcome
from iot_pipeline.core.reading.offsets import OffsetRange

# What became of "up to N records", said of a loss.
LOST_HOW = {
    Outcome.EXPIRED: "deleted by Kafka before they were read",
    Outcome.SKIPPED: "passed over by `iot rebase`",
    Outcome.UNREADABLE: "not readable in Kafka",
}


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    acknowledged_at: datetime
    reason: str
    acknowledged_by: str


@dataclass(frozen=True, slots=True)
class Loss:
    """A range of the log that was left unread; `loss_id` names it for good."""

    loss_id: str
    entry: LedgerEntry
    acknowledgement: Acknowledgement | None


def find_losses(
    entries: Iterable[LedgerEntry], acknowledged: Mapping[str, Acknowledgement]
) -> list[Loss]:
    """Every loss of the ledger, newest first.

    An acknowledgement holds for all that it covered: a loss of which a part was ingested later has
    another ID, and need not be acknowledged again.
    """
    covered = [(_parse_id(loss_id), said) for loss_id, said in acknowledged.items()]
    losses = []
    for entry in entries:
        if not entry.outcome.is_loss:
            continue
        epoch, partition, start, end = (
            entry.epoch, entry.partition, entry.start_offset, entry.end_offset
        )  # fmt: skip
        seen = next(
            (
                said
                for (seen_epoch, seen_partition, first, last), said in covered
                if (seen_epoch, seen_partition) == (epoch, partition)
                and first <= start
                and end <= last
            ),
            None,
        )
        losses.append(Loss(f"{epoch}:{partition}:{start}-{end}", entry, seen))
    losses.sort(key=lambda loss: (-loss.entry.epoch, loss.entry.partition, -loss.entry.end_offset))
    return losses


@dataclass(frozen=True, slots=True)
class Recovery:
    """A loss, of which `ingested` was read after all, and the entries that take its place.

    They tile it; the first begins where it did. What is left of the loss stays one.
    """

    loss: LedgerEntry
    ingested: LedgerEntry
    entries: tuple[LedgerEntry, ...]


def recover(
    loss: LedgerEntry,
    part: OffsetRange,
    counts: Counts,
    run_id: str,
    writer_id: UUID,
    now: datetime,
    declaration: str = "",
) -> Recovery:
    """Turn a part of a loss, or all of it, into what was ingested.

    Args:
        loss: as the ledger has it.
        part: inside of it.
        counts: the fates of all offsets of the part.
        declaration: the fingerprint of that by which it was read.
    """
    assert loss.start_offset <= part.start < part.end <= loss.end_offset
    assert counts.accounted == part.span, f"{part}: {counts}"
    ingested = replace(
        loss,
        start_offset=part.start,
        end_offset=part.end,
        outcome=Outcome.INGESTED,
        run_id=run_id,
        writer_id=writer_id,
        counts=counts,
        updated_at=now,
        cause="",
        declaration=declaration,
    )
    before = [replace(loss, end_offset=part.start)] if loss.start_offset < part.start else []
    after = [replace(loss, start_offset=part.end)] if part.end < loss.end_offset else []
    return Recovery(loss, ingested, (*before, ingested, *after))


def sum_losses(losses: Iterable[Loss]) -> dict[Outcome, int]:
    """Offsets by what became of them; only what there is."""
    total: dict[Outcome, int] = {}
    for loss in losses:
        outcome = loss.entry.outcome
        total[outcome] = total.get(outcome, 0) + loss.entry.span
    return total


def say_losses(offsets: Mapping[Outcome, int]) -> str:
    """How many records were lost how, such as "up to 50 passed over by `iot rebase`"."""
    return ", ".join(
        f"up to {offsets[outcome]:,} {how}"
        for outcome, how in LOST_HOW.items()
        if outcome in offsets
    )


def _parse_id(loss_id: str) -> tuple[int, int, int, int]:
    epoch, partition, offsets = loss_id.split(":")
    start, end = offsets.split("-")
    return int(epoch), int(partition), int(start), int(end)
