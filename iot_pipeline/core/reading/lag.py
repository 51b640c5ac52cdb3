"""How far ingestion is behind, in offsets and in seconds."""

from collections.abc import Iterable
from dataclasses import dataclass

from iot_pipeline.core.reading.offsets import PartitionState


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """What one Kafka partition still has for us.

    `checkpoint` is None before the first contact. `lag_offsets` is an upper bound on records:
    holes have offsets too. `oldest_ms` is the Kafka timestamp of the record at the checkpoint, or
    of the first one after it when that is a hole; None when no record is left.
    """

    partition: int
    checkpoint: int | None
    low: int
    last_stable: int
    lag_offsets: int
    oldest_ms: int | None
    lag_seconds: float


@dataclass(frozen=True, slots=True)
class TotalLag:
    """All partitions together: offsets add up, seconds are those of the one furthest behind."""

    lag_offsets: int
    lag_seconds: float


def measure_lag(state: PartitionState, oldest_ms: int | None, now_ms: int) -> PartitionLag:
    """Put together what Kafka and the ledger said of one partition.

    Seconds are never negative: the broker's clock may run ahead of ours.
    """
    behind_ms = 0 if oldest_ms is None else max(0, now_ms - oldest_ms)
    return PartitionLag(
        state.partition,
        state.checkpoint,
        state.low,
        state.last_stable,
        state.lag,
        oldest_ms,
        behind_ms / 1000,
    )


def total_lag(lags: Iterable[PartitionLag]) -> TotalLag:
    """The topic's lag; 0 and 0.0 when there is no partition."""
    lags = list(lags)
    return TotalLag(
        sum(lag.lag_offsets for lag in lags),
        max((lag.lag_seconds for lag in lags), default=0.0),
    )
