"""How far ingestion is behind, in offsets and in seconds."""

from collections.abc import Iterable
from dataclasses import dataclass

from iot_pipeline.core.reading.offsets import PartitionState


@dataclass(frozen=True, slots=True)
class Held:
    """What open transactions hold back in one Kafka partition: offsets up to `log_end`.

    `since_ms` is the Kafka timestamp of the first of them, None where Kafka did not say.
    """

    log_end: int
    since_ms: int | None


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction on one Kafka partition that was neither committed nor aborted.

    `since_ms` is about when it began. `transactional_id` is None where no coordinator knows of it:
    such a transaction never ends by itself.
    """

    partition: int
    start_offset: int
    producer_id: int
    producer_epoch: int
    since_ms: int | None
    transactional_id: str | None


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """What one Kafka partition still has for us, in seconds; `state.lag` says it in offsets.

    `lag_seconds` is None where they are not known, and `why_unknown` says why. `held_offsets` lie
    between the last stable offset and the log's end, since `held_seconds` (None: not known).
    """

    state: PartitionState
    lag_seconds: float | None
    why_unknown: str = ""
    held_offsets: int = 0
    held_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TotalLag:
    """All partitions together: offsets add up, seconds are those of the one furthest behind.

    `lag_seconds` is of the partitions where it is known; `unknown` says of the first other one why
    it is not, empty when there is none.
    """

    lag_offsets: int
    lag_seconds: float
    unknown: str = ""
    held_offsets: int = 0
    held_seconds: float = 0.0

    @property
    def behind_seconds(self) -> float:
        """How old what was not looked at yet may be, held back or not."""
        return max(self.lag_seconds, self.held_seconds)


def measure_lag(
    state: PartitionState,
    oldest_ms: int | None,
    now_ms: int,
    why_unknown: str = "",
    held: Held | None = None,
) -> PartitionLag:
    """Never negative: the broker's clock may run ahead of ours.

    `oldest_ms` is the Kafka timestamp of the record at the checkpoint, or of the first one after it
    when that is a hole; None when no record is left, or with `why_unknown` when it is not known.
    """
    is_unknown = oldest_ms is None and why_unknown
    seconds = None if is_unknown else _seconds_since(oldest_ms, now_ms)
    if held is None or held.log_end <= state.last_stable:
        return PartitionLag(state, seconds, why_unknown if is_unknown else "")
    return PartitionLag(
        state,
        seconds,
        why_unknown if is_unknown else "",
        held.log_end - state.last_stable,
        None if held.since_ms is None else _seconds_since(held.since_ms, now_ms),
    )


def _seconds_since(ms: int | None, now_ms: int) -> float:
    return 0.0 if ms is None else max(0, now_ms - ms) / 1000


def total_lag(lags: Iterable[PartitionLag]) -> TotalLag:
    """The topic's lag; 0 and 0.0 when there is no partition."""
    lags = list(lags)
    return TotalLag(
        sum(lag.state.lag for lag in lags),
        max((lag.lag_seconds or 0.0 for lag in lags), default=0.0),
        next((lag.why_unknown for lag in lags if lag.why_unknown), ""),
        sum(lag.held_offsets for lag in lags),
        max((lag.held_seconds or 0.0 for lag in lags), default=0.0),
    )
