"""What moved through the pipeline when: readings per second and how far behind, by the ledger.

Belongs here: sums over ledger entries. Does not belong here: reading the ledger
(`stages.ledger.chain`), drawing (`artifacts.fleet_pictures`).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from iot_pipeline.core.ledger.chain import LedgerEntry, Outcome

_SLICES = 60
# A plot of less time than this says nothing.
_LEAST_MS = 600_000


@dataclass(frozen=True, slots=True)
class RunEnd:
    """A run, when it committed last, and how long its newest record had been in Kafka by then."""

    ended_ms: int
    behind_seconds: float


@dataclass(frozen=True, slots=True)
class Flow:
    """Rows per second in equal slices of time from `since_ms` on, and the runs in it by time.

    Rows are counted when their records arrived, evenly between the first and the last of a run: a
    run that follows the topic for hours, and goes on, is in every slice of them.
    """

    since_ms: int
    slice_ms: float
    rows_per_second: tuple[float, ...]
    runs: tuple[RunEnd, ...]
    stored: int
    rejected: int


def measure_flow(entries: Iterable[LedgerEntry], since: datetime, now: datetime) -> Flow:
    """Sum up what was ingested of the records that arrived since then.

    Args:
        entries: of any Kafka partitions, in any order; others than ingested ones are left out.
        since: aware; the slices begin later where nothing arrived before.
        now: aware, later; a run that goes on may have ingested more by the time it is asked.
    """
    begin, end = since.timestamp() * 1000, now.timestamp() * 1000
    arrived: list[tuple[float, float, LedgerEntry]] = []
    by_run: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for entry in entries:
        first_ms, last_ms = entry.counts.first_record_ms, entry.counts.last_record_ms
        if entry.outcome is not Outcome.INGESTED or entry.updated_at is None or last_ms is None:
            continue
        at = entry.updated_at.timestamp() * 1000
        if begin <= at:
            by_run[entry.run_id].append((at, max(0.0, at - last_ms) / 1000))
        if begin <= last_ms:
            # What arrived after `now`, while the ledger was read, is in the last slice.
            end = max(end, last_ms)
            arrived.append((float(first_ms or last_ms), float(last_ms), entry))
    first = max(begin, min((first for first, _, _ in arrived), default=begin))
    first = max(begin, min(first, end - _LEAST_MS))
    width = (end - first) / _SLICES
    stored, rejected = [0.0] * _SLICES, 0.0
    for since_ms, until_ms, entry in arrived:
        inside = _spread(stored, (since_ms - first) / width, (until_ms - first) / width, entry)
        rejected += entry.counts.rejected * inside
    runs = sorted(
        (
            RunEnd(int(max(at for at, _ in ends)), min(s for _, s in ends))
            for ends in by_run.values()
        ),
        key=lambda run: run.ended_ms,
    )
    return Flow(
        int(first),
        width,
        tuple(rows / (width / 1000) for rows in stored),
        tuple(runs),
        round(sum(stored)),
        round(rejected),
    )


def _spread(slices: list[float], begin: float, end: float, entry: LedgerEntry) -> float:
    """Add an entry's rows to the slices [begin, end] that they arrived in; the share inside."""
    rows = entry.counts.stored
    length = max(end - begin, 1e-9)
    inside = 0.0
    for number in range(max(0, int(begin)), min(len(slices) - 1, int(end)) + 1):
        share = (min(end, number + 1) - max(begin, number)) / length
        if length <= 1e-9:
            share = 1.0
        slices[number] += rows * share
        inside += share
    return inside
