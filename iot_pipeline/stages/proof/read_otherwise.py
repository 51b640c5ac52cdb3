"""Which offsets were ingested by another declaration than the present one."""

from collections import Counter
from collections.abc import Mapping, Sequence

from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, PartitionState
from iot_pipeline.stages.ledger.chain import read_present
from iot_pipeline.stages.ports import LedgerStore


def read_otherwise(
    ledger: LedgerStore,
    topic: str,
    checkpoints: Mapping[int, Checkpoint],
    states: Mapping[int, PartitionState],
    ranges: Sequence[OffsetRange],
    declaration: str,
) -> Counter[str]:
    """Offsets of these ranges by the fingerprint of the declaration they were ingested by.

    Only of other declarations; ledger entries from before there were any name none.
    """
    asked = {item.partition for item in ranges}
    entries = read_present(
        ledger,
        topic,
        {partition: found for partition, found in checkpoints.items() if partition in asked},
        {partition: state.low for partition, state in states.items()},
    )
    found: Counter[str] = Counter()
    for entry in entries:
        if not entry.outcome.is_ingested or entry.declaration in ("", declaration):
            continue
        for item in ranges:
            inside = min(item.end, entry.end_offset) - max(item.start, entry.start_offset)
            if item.partition == entry.partition and inside > 0:
                found[entry.declaration] += inside
    return found


def say_read_otherwise(others: Mapping[str, int], declaration: str) -> str:
    """The same in words."""
    said = ", ".join(f"{offsets:,} by {name}" for name, offsets in sorted(others.items()))
    return f"offsets were ingested by other declarations ({said}; the present one is {declaration})"
