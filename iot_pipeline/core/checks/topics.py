"""How a topic has to be kept by Kafka, and what each setting that is otherwise can cost.

Belongs here: what is expected, and the sentence. Does not belong here: asking Kafka
(`stages.topics`), making a topic (`clients.schema_store`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from iot_pipeline.core.checks.verdicts import Severity
from iot_pipeline.core.reading.offsets import LOG_APPEND_TIME, TopicInfo
from iot_pipeline.core.times import in_words
from iot_pipeline.core.words import counted

# A risk that a person may accept, by the setting's name in Kafka. Who stamps a record is not among
# them: IOT_ACCEPT_PRODUCER_TIMESTAMPS is for that.
Acceptable = Literal[
    "replication.factor",
    "min.insync.replicas",
    "unclean.leader.election.enable",
    "cleanup.policy",
    "retention.ms",
    "retention.bytes",
]

# The largest record Kafka takes is about 1 MiB; headers come on top of it in the dead-letter topic.
DEAD_LETTER_MAX_BYTES = 4 * 1024 * 1024

# Kafka's own limit, unless it is raised, of a batch as it lies in the log. What that unpacks to has
# no limit but how far a codec can pack: gzip 1,032 times, lz4 255 times, snappy 21 times.
_BATCH_BYTES = 1_048_588
_GZIP_FACTOR = 1_032
# Values of compression.type: as it was sent; and the codec whose size Kafka's client limits.
_AS_SENT, _BOUNDED = "producer", "zstd"

# A topic that keeps less than this does not bridge a night without a reader.
_LEAST_KEEP_MS = 24 * 3_600_000
_FOR_EVER = -1


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """How a topic is made, and what an existing one is compared with.

    `holds_letters`: it is the one of dead letters, which are kept for ever and may be large.
    """

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]
    holds_letters: bool = False


@dataclass(frozen=True, slots=True)
class TopicRisk:
    """A setting of a topic that is not as expected, and what that costs.

    `severity` is None of a note: nothing is lost by it. `is_fatal`: nothing is ingested while it is
    so. `mended_by` is the value that the topic's own configuration needs; empty where no value of
    it helps.
    """

    topic: str
    setting: str
    found: str
    expected: str
    cost: str
    severity: Severity | None = None
    is_fatal: bool = False
    mended_by: str = ""

    @property
    def is_missing(self) -> bool:
        """Whether there is no such topic."""
        return not self.setting

    def __str__(self) -> str:
        name = f"topic {self.topic}{': ' if self.setting else ''}{self.setting}"
        return f"{name} is {self.found}, expected {self.expected}: {self.cost}"


def plan_topics(
    readings: str,
    letters: str,
    *,
    partitions: int,
    replication: int,
    retention_hours: float,
    compression: str = _AS_SENT,
) -> list[TopicPlan]:
    """The topic of readings and that of dead letters, as they are made.

    Args:
        readings: its name; `letters` that of the other.
        replication: of both; from three on a record is acknowledged by two brokers at least.
        retention_hours: how long readings are kept; -1: for ever.
        compression: of the readings; `zstd` has the brokers pack what was sent otherwise anew.
    """
    retention_ms = _FOR_EVER if retention_hours < 0 else int(retention_hours * 3.6e6)
    common = {"cleanup.policy": "delete", "message.timestamp.type": LOG_APPEND_TIME}
    if replication >= 3:
        common["min.insync.replicas"] = "2"
    config = {**common, "retention.ms": str(retention_ms)}
    if compression != _AS_SENT:
        config["compression.type"] = compression
    letters_config = {"retention.ms": "-1", "max.message.bytes": str(DEAD_LETTER_MAX_BYTES)}
    return [
        TopicPlan(readings, partitions, replication, config),
        TopicPlan(letters, 1, replication, {**common, **letters_config}, holds_letters=True),
    ]


def missing_topic(plan: TopicPlan) -> TopicRisk:
    """Of a topic that is not there."""
    made = "`iot setup` makes it"
    return TopicRisk(plan.name, "", "missing", "present", made, Severity.ERROR, is_fatal=True)


def find_risks(
    plan: TopicPlan,
    info: TopicInfo,
    *,
    brokers: int | None = None,
    kept_seconds: float | None = None,
    accept_producer_timestamps: bool = False,
) -> list[TopicRisk]:
    """Everything about a topic that differs from its plan or can lose a record, in fixed order.

    Args:
        brokers: how many there are; None: it was not asked, because the topic has replicas.
        kept_seconds: how long retention.bytes lasts at what arrives now; None: it is not limited
            by size, or that is not known.
    """
    return [
        *_partitions(plan, info),
        *_stamps(plan, info, accept_producer_timestamps),
        *_replicas(plan, info, brokers),
        *_policy(plan, info),
        *_retention_ms(plan, info),
        *_retention_bytes(plan, info, kept_seconds),
        *_batches(plan, info),
    ]


def accept(risks: Sequence[TopicRisk], accepted: Collection[str]) -> list[TopicRisk]:
    """The same risks, those that a person accepts as notes."""
    return [
        replace(risk, severity=None, cost=f"{risk.cost} (accepted by IOT_ACCEPT_TOPIC_RISKS)")
        if risk.severity is not None and risk.setting in accepted and not risk.is_fatal
        else risk
        for risk in risks
    ]


def mending_lines(risks: Sequence[TopicRisk], bootstrap_servers: str) -> list[str]:
    """The commands of Kafka's that set what is wrong, one per topic."""
    wanted: dict[str, dict[str, str]] = {}
    for risk in risks:
        if risk.severity is not None and risk.mended_by:
            wanted.setdefault(risk.topic, {})[risk.setting] = risk.mended_by
    return [
        f"kafka-configs.sh --bootstrap-server {bootstrap_servers} --alter --topic {topic} "
        f"--add-config {','.join(f'{name}={value}' for name, value in config.items())}"
        for topic, config in wanted.items()
    ]


def creating_line(plan: TopicPlan, bootstrap_servers: str, more: str = "") -> str:
    """The command of Kafka's that makes a topic; one that is there stays as it is."""
    config = "".join(f" --config {name}={value}" for name, value in plan.config.items())
    return (
        f"kafka-topics.sh --bootstrap-server {bootstrap_servers}{more} --create --if-not-exists "
        f"--topic {plan.name} --partitions {plan.partitions} "
        f"--replication-factor {plan.replication}{config}"
    )


def is_compacted(config: Mapping[str, str | None]) -> bool:
    """Whether Kafka drops a record once a newer one has its key, read or not."""
    return "compact" in (config.get("cleanup.policy") or "")


def _partitions(plan: TopicPlan, info: TopicInfo) -> Iterator[TopicRisk]:
    if info.partitions != plan.partitions:
        cost = "Kafka's number is used; IOT_PARTITIONS matters only for a new topic"
        found, expected = str(info.partitions), str(plan.partitions)
        yield TopicRisk(plan.name, "partitions", found, expected, cost)


def _stamps(plan: TopicPlan, info: TopicInfo, is_accepted: bool) -> Iterator[TopicRisk]:
    found = info.stamped_by
    if found == LOG_APPEND_TIME or (is_accepted and not plan.holds_letters):
        return
    risk = TopicRisk(
        plan.name,
        "message.timestamp.type",
        found,
        LOG_APPEND_TIME,
        "letters have the time of the run that wrote them",
    )
    if not plan.holds_letters:
        risk = replace(
            risk,
            cost="write times would come from producers' clocks, and a wrong clock pins a row for "
            "ever: ingestion refuses it",
            severity=Severity.ERROR,
            is_fatal=True,
            mended_by=LOG_APPEND_TIME,
        )
    yield risk


def _replicas(plan: TopicPlan, info: TopicInfo, brokers: int | None) -> Iterator[TopicRisk]:
    has, asked = info.replicas, int(info.config.get("min.insync.replicas") or 1)
    what = "dead letters" if plan.holds_letters else "readings that were not ingested yet"
    if has == 1 and brokers == 1 and plan.replication == 1:
        yield TopicRisk(
            plan.name,
            "replication.factor",
            "1",
            "3 with three brokers",
            f"one broker: its disk is the only place of {what}",
        )
    elif has == 1 or has < plan.replication:
        lost = "a disk" if has == 1 else counted(has, "disk")
        yield TopicRisk(
            plan.name,
            "replication.factor",
            str(has),
            str(max(plan.replication, 3)),
            f"{lost} lost is {what} lost; kafka-reassign-partitions.sh adds replicas",
            Severity.WARN,
        )
    if asked > has:
        stands = (
            "no dead letter can be kept, and a partition that has one stands still"
            if plan.holds_letters
            else "no record of a producer with acks=all is taken"
        )
        yield TopicRisk(
            plan.name,
            "min.insync.replicas",
            str(asked),
            f"{max(1, has - 1)} with {counted(has, 'replica')}",
            stands,
            Severity.ERROR,
            mended_by=str(max(1, has - 1)),
        )
    elif has > 1 and asked == 1:
        yield TopicRisk(
            plan.name,
            "min.insync.replicas",
            "1",
            "2",
            "a record counts as acknowledged (acks=all) when one broker has it, and is lost with "
            "that broker's disk",
            Severity.WARN,
            mended_by="2",
        )
    if has > 1 and info.config.get("unclean.leader.election.enable") == "true":
        yield TopicRisk(
            plan.name,
            "unclean.leader.election.enable",
            "true",
            "false",
            "a broker that is behind may become leader: acknowledged records are gone then, and "
            "their offsets are given to others",
            Severity.WARN,
            mended_by="false",
        )


def _policy(plan: TopicPlan, info: TopicInfo) -> Iterator[TopicRisk]:
    if is_compacted(info.config):
        cost = (
            "Kafka drops a letter as soon as a newer one has its key"
            if plan.holds_letters
            else "Kafka drops a reading as soon as a newer one has its key, read or not; what is "
            "gone is a hole, and can only be sent again"
        )
        found = str(info.config["cleanup.policy"])
        severity = Severity.WARN if plan.holds_letters else Severity.ERROR
        yield TopicRisk(
            plan.name, "cleanup.policy", found, "delete", cost, severity, mended_by="delete"
        )


def _retention_ms(plan: TopicPlan, info: TopicInfo) -> Iterator[TopicRisk]:
    found, wanted = _limit(info, "retention.ms"), int(plan.config.get("retention.ms", _FOR_EVER))
    if found == wanted or not _deletes(info):
        return
    risk = TopicRisk(
        plan.name,
        "retention.ms",
        str(found),
        str(wanted),
        "Kafka keeps records that long; altering a topic is left to you",
        mended_by=str(wanted),
    )
    if plan.holds_letters:
        yield replace(
            risk,
            cost=f"a dead letter is deleted after {in_words(found / 1000)}, and nothing can show "
            "or replay it then",
            severity=Severity.WARN,
        )
    elif found != _FOR_EVER and found < _least_keep_ms(wanted):
        yield replace(
            risk,
            cost=f"Kafka keeps a reading for {in_words(found / 1000)}: what was not ingested by "
            "then is lost",
            severity=Severity.WARN,
        )
    else:
        yield risk


def _retention_bytes(
    plan: TopicPlan, info: TopicInfo, kept_seconds: float | None
) -> Iterator[TopicRisk]:
    found = _limit(info, "retention.bytes")
    if found == _FOR_EVER or not _deletes(info):
        return
    risk = TopicRisk(
        plan.name,
        "retention.bytes",
        f"{found:,}",
        "-1",
        "how long that lasts is not known: ten minutes of readings show it",
        mended_by="-1",
    )
    if plan.holds_letters:
        cost = "the oldest dead letters are deleted when there are more, and nothing can show or "
        yield replace(risk, cost=f"{cost}replay them then", severity=Severity.WARN)
        return
    if kept_seconds is None:
        yield risk
        return
    lasts = f"at what arrives now Kafka keeps a reading for {in_words(kept_seconds)}"
    wanted = int(plan.config.get("retention.ms", _FOR_EVER))
    is_short = kept_seconds * 1000 < _least_keep_ms(wanted)
    if is_short:
        lasts += ": what was not ingested by then is lost"
    yield replace(risk, cost=lasts, severity=Severity.WARN if is_short else None)


def _batches(plan: TopicPlan, info: TopicInfo) -> Iterator[TopicRisk]:
    found = _limit(info, "max.message.bytes")
    if found == _FOR_EVER:
        return
    if plan.holds_letters:
        wanted = int(plan.config.get("max.message.bytes", found))
        if found != wanted:
            cost = "large dead letters are sent in parts, or refused"
            yield TopicRisk(plan.name, "max.message.bytes", f"{found:,}", f"{wanted:,}", cost)
        return
    packed, wanted_packed = info.config.get("compression.type"), plan.config.get("compression.type")
    if wanted_packed and packed != wanted_packed:
        yield TopicRisk(
            plan.name,
            "compression.type",
            str(packed),
            wanted_packed,
            "batches stay packed as they were sent, and Kafka's client holds one whole, however "
            "large it is once it is unpacked",
            Severity.WARN,
            mended_by=wanted_packed,
        )
    if found > _BATCH_BYTES and packed != _BOUNDED:
        yield TopicRisk(
            plan.name,
            "max.message.bytes",
            f"{found:,}",
            f"{_BATCH_BYTES:,} at most",
            f"one batch of gzip may unpack to {found * _GZIP_FACTOR / 1e9:,.1f} GB, and "
            "Kafka's client holds it whole, whatever IOT_MEMORY_BUDGET_MB is; the topic's "
            "compression.type=zstd (IOT_TOPIC_COMPRESSION, when it is made) bounds that",
        )


def _limit(info: TopicInfo, name: str) -> int:
    return max(_FOR_EVER, int(info.config.get(name) or _FOR_EVER))


def _deletes(info: TopicInfo) -> bool:
    return "delete" in (info.config.get("cleanup.policy") or "delete")


def _least_keep_ms(wanted_ms: int) -> int:
    """What Kafka must keep at least: a day, or what a person has set where that is less."""
    return _LEAST_KEEP_MS if wanted_ms == _FOR_EVER else min(_LEAST_KEEP_MS, wanted_ms)
