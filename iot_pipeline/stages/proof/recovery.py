"""Losses of the ledger that are read after all: what was passed over, or came back to Kafka.

Their rows are written and their dead letters delivered before the ledger says so, by one
conditional write: a crash between leaves a loss, and the same again makes the same cells.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.ledger.chain import (
    Counts,
    LedgerEntry,
    Outcome,
    of_current_epoch,
    sum_counts,
)
from iot_pipeline.core.ledger.losses import recover
from iot_pipeline.core.reading.offsets import OffsetRange, join_ranges
from iot_pipeline.stages.ingest.config import Ports
from iot_pipeline.stages.ingest.planning import Plan
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.requests import retry_transient

# Offsets of a loss that one conditional write turns into what was ingested.
RECOVERED_AT_ONCE = 1_000_000


def lost_parts(entries: Iterable[LedgerEntry], ranges: Sequence[OffsetRange]) -> list[OffsetRange]:
    """The parts of ranges that are losses of the ledger, in order, none of them too long.

    Each becomes an entry of its own when it is through; one that is cut off is read again whole.
    """
    found = []
    for entry in entries:
        if not entry.outcome.is_loss:
            continue
        for item in join_ranges(ranges):
            start = max(item.start, entry.start_offset)
            end = min(item.end, entry.end_offset)
            if item.partition == entry.partition:
                found += [
                    OffsetRange(item.partition, at, min(at + RECOVERED_AT_ONCE, end))
                    for at in range(start, end, RECOVERED_AT_ONCE)
                ]
    return sorted(found)


@dataclass(slots=True)
class Recovering:
    """A part of a loss that is read after all."""

    plan: Plan
    ports: Ports
    run: Run
    retry_seconds: float
    declaration: str
    _counts: Counts = field(default_factory=Counts)
    _was: Outcome = Outcome.SKIPPED

    def take_in(self, batch: MicroBatch) -> None:
        """Deliver its dead letters, and count; its rows are acknowledged and read back."""
        topic = self.plan.topic
        if batch.dead_letters:
            retry_transient(
                lambda: self.ports.dead_letters.deliver(
                    topic.name, topic.topic_id, batch.dead_letters
                ),
                give_up_after_seconds=self.retry_seconds,
            )
        self._counts += sum_counts(batch.counts.values())

    def finish(self, part: OffsetRange) -> list[tuple[OffsetRange, Outcome]]:
        """Say it in the ledger, when all of the part was taken in.

        Returns:
            The part, with what it was; empty when another run did the same before.
        """
        return retry_transient(lambda: self._turn(part), give_up_after_seconds=self.retry_seconds)

    def _turn(self, part: OffsetRange) -> list[tuple[OffsetRange, Outcome]]:
        ledger, topic = self.ports.ledger, self.plan.topic.name
        entries = ledger.read_entries(topic, [part.partition])
        mine = [e for e in entries if e.writer_id == self.run.writer_id and e.offsets == part]
        if mine:
            return [(part, self._was)]  # the answer to the write before was lost
        loss = next(
            (
                entry
                for entry in of_current_epoch(entries, self.plan.checkpoints)
                if entry.outcome.is_loss
                and entry.start_offset <= part.start
                and part.end <= entry.end_offset
            ),
            None,
        )
        if loss is None:
            return []
        self._was = loss.outcome
        recovery = recover(
            loss,
            part,
            self._counts,
            self.run.run_id,
            self.run.writer_id,
            datetime.now(UTC),
            self.declaration,
        )
        sent = ledger.send_recovery(recovery)
        while not sent.done:
            ledger.wait(0.1)
        if sent.error is not None:
            raise sent.error
        return [(part, loss.outcome)] if sent.applied else self._turn(part)
