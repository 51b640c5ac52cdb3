from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iot_pipeline.core.checks.verdicts import CheckVerdict
from iot_pipeline.core.reading.lag import PartitionLag, total_lag
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.times import in_words
from iot_pipeline.errors import PermanentError
from iot_pipeline.stages.checks.machinery.check import Check
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.ingest.lag import first_record_ms

_LOG_SECONDS = 3.0
# Nothing is ever deleted: numbers must plot, so for ever is a century.
FOR_EVER_SECONDS = 36_525 * 86_400.0
# Warned when less than this share of what Kafka keeps is left before it deletes unread records.
LEAST_HEADROOM = 0.25


def look(facts: Facts) -> CheckVerdict:
    """The topic's retention against the first record that was not read yet."""
    retention_ms, is_limited_by_size = _retention(facts.topic.config)
    oldest: dict[int, int] = {}
    if is_limited_by_size:
        full = [
            OffsetRange(lag.state.partition, lag.state.low, lag.state.last_stable)
            for lag in facts.lags
            if lag.state.last_stable > lag.state.low > 0
        ]
        oldest = first_record_ms(facts.ports.log, facts.settings.topic, full, _LOG_SECONDS)
    if retention_ms is not None and (unknown := total_lag(facts.lags).unknown):
        raise PermanentError(f"how old the first unread record is, is not known, because {unknown}")
    now_ms = facts.now.timestamp() * 1000
    ages = {partition: (now_ms - ms) / 1000 for partition, ms in oldest.items()}
    return judge(
        [measure_headroom(lag, retention_ms, ages.get(lag.state.partition)) for lag in facts.lags]
    )


def _retention(topic_config: Mapping[str, str | None]) -> tuple[int | None, bool]:
    """retention.ms, None for ever; and whether retention.bytes limits the topic."""
    if "delete" not in (topic_config.get("cleanup.policy") or "delete"):
        return None, False
    ms = int(topic_config.get("retention.ms") or -1)
    return (ms if ms >= 0 else None), int(topic_config.get("retention.bytes") or -1) >= 0


@dataclass(frozen=True, slots=True)
class Headroom:
    """How far one Kafka partition's retention is from its first unread record.

    `offsets` lie between the low watermark and the checkpoint. `keeps_seconds` is how long Kafka
    keeps a record at the current rates, `left_seconds` how long it will keep the first unread one;
    FOR_EVER_SECONDS when it deletes nothing.
    """

    partition: int
    offsets: int
    keeps_seconds: float
    left_seconds: float

    @property
    def is_far(self) -> bool:
        return self.left_seconds >= LEAST_HEADROOM * self.keeps_seconds


def measure_headroom(
    lag: PartitionLag, retention_ms: int | None, log_seconds: float | None
) -> Headroom:
    """Put together what limits a partition: time, size, or both; whichever comes first counts.

    Args:
        lag: its watermarks and checkpoint; before the first contact all of it is unread.
        retention_ms: None: not limited by time.
        log_seconds: age of the oldest record; None: not limited by size, or not full yet.
    """
    checkpoint = lag.state.low if lag.state.checkpoint is None else lag.state.checkpoint
    keeps = left = FOR_EVER_SECONDS
    if retention_ms is not None:
        keeps, left = retention_ms / 1000, retention_ms / 1000 - (lag.lag_seconds or 0.0)
    if checkpoint < lag.state.low:
        left = 0.0  # it has begun
    # A log that is limited by size and full loses at its start what arrives at its end; while it
    # has lost nothing yet, it is not full.
    if log_seconds is not None and log_seconds > 0 and lag.state.last_stable > lag.state.low > 0:
        arriving_per_second = (lag.state.last_stable - lag.state.low) / log_seconds
        keeps = min(keeps, log_seconds)
        left = min(left, (checkpoint - lag.state.low) / arriving_per_second)
    return Headroom(lag.state.partition, max(0, checkpoint - lag.state.low), keeps, max(0.0, left))


def judge(headrooms: Sequence[Headroom]) -> CheckVerdict:
    """Whether Kafka will keep what was not read yet for long enough."""
    nearest = min(headrooms, key=lambda item: item.left_seconds / item.keeps_seconds, default=None)
    left = min((item.left_seconds for item in headrooms), default=FOR_EVER_SECONDS)
    numbers = {
        "headroom_offsets": min((item.offsets for item in headrooms), default=0),
        "headroom_seconds": round(left, 3),
        "partitions_near": sum(not item.is_far for item in headrooms),
    }
    if nearest is None or nearest.is_far:
        said = "Kafka deletes nothing of this topic by age or size."
        if left < FOR_EVER_SECONDS:
            said = f"Kafka keeps what is not read yet for {in_words(left)} more at least."
        return CheckVerdict(True, said, numbers)
    said = (
        f"Partition {nearest.partition}: Kafka deletes records that were not read in "
        f"{in_words(nearest.left_seconds)} at the current rates, {nearest.offsets:,} offsets from "
        f"here; it keeps {in_words(nearest.keeps_seconds)} in all. Raise the topic's retention.ms "
        "or retention.bytes now, then see why ingestion lags (the check lag_is_within_limit)."
    )
    return CheckVerdict(False, said, numbers)


CHECK = Check(
    "retention_is_far",
    "Kafka will keep what was not read yet for at least a quarter of the time it keeps records at "
    "all: headroom in offsets and in seconds, at the current rates.",
    look,
    order=90,
)
