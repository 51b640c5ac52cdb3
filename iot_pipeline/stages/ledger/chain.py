"""Read the ledger as one picture: entries and checkpoints that belong together."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Generic, TypeVar

from iot_pipeline.core.ledger.chain import (
    ChainLink,
    Flaw,
    LedgerEntry,
    Outcome,
    find_flaws,
    of_current_epoch,
    of_present_log,
)
from iot_pipeline.core.reading.offsets import Checkpoint
from iot_pipeline.stages.ports.ledger import LedgerStore

# Of a topic that was never rebased.
FIRST_EPOCH = 0

_ATTEMPTS = 5
_E = TypeVar("_E", LedgerEntry, ChainLink)


@dataclass(frozen=True, slots=True)
class Chain(Generic[_E]):
    """Every entry of some Kafka partitions, their checkpoints, and where the chain does not hold.

    Entries are newest first within each partition.
    """

    entries: list[_E]
    checkpoints: dict[int, Checkpoint]
    flaws: list[Flaw]


def read_chain(ledger: LedgerStore, topic: str, partitions: Sequence[int]) -> Chain[LedgerEntry]:
    """The ledger of these partitions, walked."""
    return _read_whole(ledger, topic, partitions, ledger.read_entries)


def walk_chain(ledger: LedgerStore, topic: str, partitions: Sequence[int]) -> Chain[ChainLink]:
    """As `read_chain`, the links alone, for a quarter of the cost."""
    return _read_whole(ledger, topic, partitions, ledger.read_links)


def read_present(
    ledger: LedgerStore,
    topic: str,
    checkpoints: Mapping[int, Checkpoint],
    lows: Mapping[int, int],
    *,
    outcomes: Collection[Outcome] = (),
    day: date | None = None,
) -> list[LedgerEntry]:
    """Entries about the log that Kafka has now, of every partition that has a checkpoint.

    Args:
        checkpoints: of the partitions that are meant.
        lows: their low watermarks.
        outcomes, day: as of `read_entries`. Of a partition that was rebased all entries are read
            and given out: where its log begins is known by all of them alone.
    """
    never = [p for p, checkpoint in checkpoints.items() if checkpoint.epoch == FIRST_EPOCH]
    rebased = [partition for partition in checkpoints if partition not in never]
    found = ledger.read_entries(topic, never, outcomes=outcomes, day=day)
    return [
        *of_current_epoch(found, checkpoints),
        *of_present_log(ledger.read_entries(topic, rebased), checkpoints, lows),
    ]


def first_present(ledger: LedgerStore, topic: str, checkpoint: Checkpoint, low: int) -> int:
    """Where the ledger of the present log begins: older offsets were never ours to store."""
    partition = checkpoint.partition
    if checkpoint.epoch == FIRST_EPOCH:
        first = ledger.first_offset(topic, partition, checkpoint.epoch)
        return checkpoint.next_offset if first is None else first
    entries = read_present(ledger, topic, {partition: checkpoint}, {partition: low})
    return min((entry.start_offset for entry in entries), default=checkpoint.next_offset)


def _read_whole(
    ledger: LedgerStore,
    topic: str,
    partitions: Sequence[int],
    read: Callable[[str, Sequence[int]], list[_E]],
) -> Chain[_E]:
    """All that `read` gives.

    A run that commits meanwhile is no flaw: a partition whose checkpoint moved while its entries
    were read is read again, and after some times its end is left to the next look.
    """
    chain: list[_E] = []
    checkpoints: dict[int, Checkpoint] = {}
    settled: list[Checkpoint] = []
    absent: set[int] = set()
    pending = list(partitions)
    for attempt in range(_ATTEMPTS):
        before = ledger.read_checkpoints(topic, pending)
        entries = read(topic, pending)
        after = ledger.read_checkpoints(topic, pending)
        moved = [p for p in pending if before.get(p) != after.get(p)]
        keep = set(pending) if attempt == _ATTEMPTS - 1 else set(pending) - set(moved)
        chain += [entry for entry in entries if entry.partition in keep]
        checkpoints |= {p: found for p, found in after.items() if p in keep}
        settled += [found for p, found in after.items() if p not in moved]
        absent |= {p for p in pending if p not in after and p not in moved}
        pending = [p for p in pending if p not in keep]
        if not pending:
            break
    chain.sort(key=lambda entry: entry.partition)
    return Chain(chain, checkpoints, find_flaws(chain, settled, absent))
