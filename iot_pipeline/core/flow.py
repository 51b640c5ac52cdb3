"""What moved through the pipeline when: rows per second and how far behind, from the ledger alone.

Belongs here: sums over ledger entries. Does not belong here: reading the ledger
(`stages.ledger`), drawing (`artifacts.flow_pictures`).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from iot_pipeline.core.ledger import LedgerEntry, Outcome

_SLICES = 60


@dataclass(frozen=True, slots=True)
class RunEnd:
    """A run, when it committed last, and how long its newest record had been in Kafka by then."""

    ended_ms: int
    behind_seconds: float


@dataclass(frozen=True, slots=True)
class Flow:
    """Rows per second in equal slices of time from `since_ms` on, and the runs in it by time.

    A run's rows are counted when it committed last: a run that follows the topic for minutes is
    one peak.
    """

    since_ms: int
    slice_ms: float
    rows_per_second: tuple[float, ...]
    runs: tuple[RunEnd, ...]
    stored: int
    rejected: int


def measure_flow(entries: Iterable[LedgerEntry], since: datetime, now: datetime) -> Flow:
    """Sum up what was ingested in [since, now).

    Args:
        entries: of any Kafka partitions, in any order; others than ingested ones are left out.
        since: aware.
        now: aware, later.
    """
    begin, end = since.timestamp() * 1000, now.timestamp() * 1000
    width = (end - begin) / _SLICES
    stored = [0] * _SLICES
    rejected = 0
    by_run: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for entry in entries:
        if entry.outcome is not Outcome.INGESTED or entry.updated_at is None:
            continue
        at = entry.updated_at.timestamp() * 1000
        if not begin <= at < end:
            continue
        stored[min(_SLICES - 1, int((at - begin) / width))] += entry.counts.stored
        rejected += entry.counts.rejected
        if entry.counts.last_record_ms is not None:
            by_run[entry.run_id].append((at, max(0.0, at - entry.counts.last_record_ms) / 1000))
    runs = sorted(
        (
            RunEnd(int(max(at for at, _ in ends)), min(s for _, s in ends))
            for ends in by_run.values()
        ),
        key=lambda run: run.ended_ms,
    )
    return Flow(
        int(begin),
        width,
        tuple(rows / (width / 1000) for rows in stored),
        tuple(runs),
        sum(stored),
        rejected,
    )
