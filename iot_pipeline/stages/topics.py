"""Ask Kafka how both topics are kept; changes nothing."""

import time
from dataclasses import dataclass, field

from iot_pipeline.core.checks.topics import (
    TopicPlan,
    TopicRisk,
    accept,
    find_risks,
    missing_topic,
    plan_topics,
)
from iot_pipeline.core.reading.offsets import OffsetRange, TopicInfo
from iot_pipeline.errors import PermanentError, SchemaMismatchError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.lag import first_record_ms
from iot_pipeline.stages.ports.log import ClusterLog

_FIRST_RECORD_SECONDS = 3.0
# A rate that was measured for less than this is that of a start.
_MEASURED_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class TopicsReport:
    """What was found, and by topic why it could not be looked at."""

    risks: list[TopicRisk] = field(default_factory=list)
    not_looked_at: dict[str, PermanentError] = field(default_factory=dict)


def topic_plans(settings: Settings) -> list[TopicPlan]:
    """The two topics, as `iot setup` makes them."""
    return plan_topics(
        settings.topic,
        settings.dead_letter_topic,
        partitions=settings.partitions,
        replication=settings.topic_replication,
        retention_hours=settings.topic_retention_hours,
        compression=settings.topic_compression,
    )


def check_topics(log: ClusterLog, settings: Settings) -> TopicsReport:
    """Compare both topics with their plans.

    A topic that we have no right to describe is told as such, and hides nothing of the other.

    Raises:
        KafkaUnavailableError: no broker answers.
    """
    report = TopicsReport()
    for plan in topic_plans(settings):
        try:
            info = log.describe(plan.name)
            found = find_risks(
                plan,
                info,
                brokers=log.count_brokers() if info.replicas == 1 else None,
                kept_seconds=None if plan.holds_letters else _seconds_kept(log, info),
                accept_producer_timestamps=settings.accept_producer_timestamps,
            )
        except SchemaMismatchError:
            report.risks.append(missing_topic(plan))
        except PermanentError as exc:
            report.not_looked_at[plan.name] = exc
        else:
            report.risks.extend(accept(found, settings.accept_topic_risks))
    return report


def _seconds_kept(log: ClusterLog, info: TopicInfo) -> float | None:
    """How long retention.bytes lasts in the partition that gets the most; None: not known."""
    limit = int(info.config.get("retention.bytes") or -1)
    if limit < 0:
        return None
    marks = log.watermarks(info.name)
    most = max(marks, key=lambda mark: mark.last_stable - mark.low)
    if most.last_stable == most.low:
        return None
    whole = OffsetRange(most.partition, most.low, most.last_stable)
    first = first_record_ms(log, info.name, [whole], _FIRST_RECORD_SECONDS).get(most.partition)
    record_bytes = log.bytes_per_record(info.name, most.partition, most.last_stable - 1)
    if first is None or record_bytes is None:
        return None
    seconds = time.time() - first / 1000
    if seconds < _MEASURED_SECONDS:
        return None
    return limit / (record_bytes * whole.span / seconds)
