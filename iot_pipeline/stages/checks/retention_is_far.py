"""Will Kafka keep what was not read yet for long enough?"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from iot_pipeline.core.checks.losses import RETENTION, judge_retention, measure_headroom
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.reading.lag import PartitionLag
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.stages.checks.check import Check, Cost
from iot_pipeline.stages.checks.facts import Facts
from iot_pipeline.stages.ingest.lag import first_record_ms
from iot_pipeline.stages.ports import RecordLogReader

_LOG_SECONDS = 3.0


def look(facts: Facts) -> CheckVerdict:
    """The topic's retention against the first record that was not read yet."""
    return judge_headroom(
        facts.ports.log, facts.settings.topic, facts.lags, facts.topic.config, facts.now
    )


def judge_headroom(
    log: RecordLogReader,
    topic: str,
    lags: Sequence[PartitionLag],
    topic_config: Mapping[str, str | None],
    now: datetime,
) -> CheckVerdict:
    """How far Kafka's retention is from what was not read yet.

    Args:
        log: Kafka; asked for records only where the topic is limited by size.
        topic: its name.
        lags: of all partitions, as of `now`.
        topic_config: retention.ms, retention.bytes, cleanup.policy.
        now: aware.
    """
    deletes = "delete" in (topic_config.get("cleanup.policy") or "delete")
    retention_ms = int(topic_config.get("retention.ms") or -1) if deletes else -1
    retention_bytes = int(topic_config.get("retention.bytes") or -1) if deletes else -1
    oldest: dict[int, int] = {}
    if retention_bytes >= 0:
        full = [
            OffsetRange(lag.partition, lag.low, lag.last_stable)
            for lag in lags
            if lag.last_stable > lag.low > 0
        ]
        oldest = first_record_ms(log, topic, full, _LOG_SECONDS)
    now_ms = now.timestamp() * 1000
    return judge_retention(
        [
            measure_headroom(
                lag.partition,
                low=lag.low,
                checkpoint=lag.low if lag.checkpoint is None else lag.checkpoint,
                end=lag.last_stable,
                lag_seconds=lag.lag_seconds,
                log_seconds=(now_ms - oldest[lag.partition]) / 1000
                if lag.partition in oldest
                else None,
                retention_seconds=retention_ms / 1000 if retention_ms >= 0 else None,
            )
            for lag in lags
        ]
    )


CHECK = Check(
    RETENTION,
    "Kafka will keep what was not read yet for at least a quarter of the time it keeps records at "
    "all: headroom in offsets and in seconds, at the current rates.",
    look,
    Severity.WARN,
    Cost.BOUNDED,
    order=90,
)
