"""Read the ledger as one picture: entries and checkpoints that belong together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from iot_pipeline.core.ledger.chain import ChainLink, Flaw, LedgerEntry, find_flaws
from iot_pipeline.core.reading.offsets import Checkpoint
from iot_pipeline.stages.ports import LedgerStore

_ATTEMPTS = 5
_E = TypeVar("_E", LedgerEntry, ChainLink)


@dataclass(frozen=True, slots=True)
class Chain:
    """Every entry of some Kafka partitions, their checkpoints, and where the chain does not hold.

    Entries are newest first within each partition.
    """

    entries: list[LedgerEntry]
    checkpoints: dict[int, Checkpoint]
    flaws: list[Flaw]


@dataclass(frozen=True, slots=True)
class Walk:
    """Every link of the chains of some Kafka partitions, and where they do not hold."""

    links: list[ChainLink]
    checkpoints: dict[int, Checkpoint]
    flaws: list[Flaw]


def read_chain(ledger: LedgerStore, topic: str, partitions: Sequence[int]) -> Chain:
    """The ledger of these partitions, walked.

    A run that commits meanwhile is no flaw: a partition whose checkpoint moved while its entries
    were read is read again, and after some times its end is left to the next look.
    """
    entries, checkpoints, settled, absent = _read_whole(
        ledger, topic, partitions, ledger.read_entries
    )
    return Chain(entries, checkpoints, find_flaws(entries, settled, absent))


def walk_chain(ledger: LedgerStore, topic: str, partitions: Sequence[int]) -> Walk:
    """As `read_chain`, every entry of it, for a quarter of the cost."""
    links, checkpoints, settled, absent = _read_whole(ledger, topic, partitions, ledger.read_links)
    return Walk(links, checkpoints, find_flaws(links, settled, absent))


def _read_whole(
    ledger: LedgerStore,
    topic: str,
    partitions: Sequence[int],
    read: Callable[[str, Sequence[int]], list[_E]],
) -> tuple[list[_E], dict[int, Checkpoint], list[Checkpoint], set[int]]:
    """All that `read` gives, the checkpoints, those that stood still, partitions without one."""
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
    return chain, checkpoints, settled, absent
