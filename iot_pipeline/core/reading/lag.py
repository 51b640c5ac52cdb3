"""How far ingestion is behind, in offsets and in seconds."""

from collections.abc import Iterable
from dataclasses import dataclass

from iot_pipeline.core.reading.offsets import PartitionState


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """What one Kafka partition still has for us, in seconds; `state.lag` says it in offsets."""

    state: PartitionState
    lag_seconds: float


@dataclass(frozen=True, slots=True)
class TotalLag:
    """All partitions together: offsets add up, seconds are those of the one furthest behind."""

    lag_offsets: int
    lag_seconds: float


def measure_lag(state: PartitionState, oldest_ms: int | None, now_ms: int) -> PartitionLag:
    """Never negative: the broker's clock may run ahead of ours.

    `oldest_ms` is the Kafka timestamp of the record at the checkpoint, or of the first one after it
    when that is a hole; None when no record is left.
    """
    behind_ms = 0 if oldest_ms is None else max(0, now_ms - oldest_ms)
    return PartitionLag(state, behind_ms / 1000)


def total_lag(lags: Iterable[PartitionLag]) -> TotalLag:
    """The topic's lag; 0 and 0.0 when there is no partition."""
    lags = list(lags)
    return TotalLag(
        sum(lag.state.lag for lag in lags),
        max((lag.lag_seconds for lag in lags), default=0.0),
    )
