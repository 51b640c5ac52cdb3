"""The checks on `iot/sensor_data`: what they are called, and running them on their own.

The ingest op brings them with each run, within a tenth of its time. On their own, from the Checks
tab or every five minutes, they take the time they need (IOT_CHECK_SECONDS).
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from iot_pipeline.clients.row_counts import CassandraRowCounts
from iot_pipeline.clients.schema_store import CassandraSchema
from iot_pipeline.connections import Connections, audit_config
from iot_pipeline.core.checks import (
    DURABLE,
    EVERY_OFFSET,
    LAG,
    NO_GAP,
    ROW_COUNT,
    SCHEMA,
    CheckVerdict,
    Severity,
    judge_lag,
)
from iot_pipeline.core.device_problems import Fleet
from iot_pipeline.core.fleet_verdicts import judge_fleet
from iot_pipeline.core.lag import PartitionLag
from iot_pipeline.core.ledger import ChainLink
from iot_pipeline.core.loss_checks import DEAD_LETTERS, EXPIRED, READ_BACK, RETENTION
from iot_pipeline.core.offsets import OffsetRange, TopicInfo
from iot_pipeline.defs.data_quality import (
    QUALITY_CHECKS,
    QUALITY_SPECS,
    judge_quality,
)
from iot_pipeline.defs.names import MAX_RUNTIME, NO_RETRY, SENSOR_DATA
from iot_pipeline.stages.checks import (
    RunBudget,
    check_accounting,
    check_durability_and_schema,
    check_recent_chain,
    check_row_counts,
    check_whole_ledger,
    choose_days,
    recent_links,
)
from iot_pipeline.stages.fleet_keeper import FleetKeeper
from iot_pipeline.stages.ingest import DrainSum
from iot_pipeline.stages.lag import read_lag
from iot_pipeline.stages.ledger_sums import KeptSums, keep_sums, keep_sums_in_passing
from iot_pipeline.stages.loss_checks import (
    check_dead_letters,
    check_losses,
    check_read_back,
    check_retention,
    newest_entries,
)

# A micro-batch that was written when the rows were counted commits within this.
_PATIENCE_SECONDS = 5.0
# The same while nothing but this run writes.
_COMMIT_SECONDS = 5.0

CHECK_SPECS = [
    dg.AssetCheckSpec(
        EVERY_OFFSET,
        asset=SENSOR_DATA,
        blocking=True,
        description=(
            "Each offset of the topic that was ingested is stored, superseded, rejected, aged out "
            "or a hole: span = the sum of these, as the ledger kept it."
        ),
    ),
    dg.AssetCheckSpec(
        ROW_COUNT,
        asset=SENSOR_DATA,
        description=(
            "Rows counted in Cassandra, day by day, against what the ledger says was stored. "
            "Fewer or more is a warning, with the command that tells why."
        ),
    ),
    dg.AssetCheckSpec(
        NO_GAP,
        asset=SENSOR_DATA,
        description=(
            "The ranges of all runs follow each other, per Kafka partition, without gap or "
            "overlap. A run walks the last hour; on its own the check walks the whole ledger."
        ),
    ),
    dg.AssetCheckSpec(
        DURABLE,
        asset=SENSOR_DATA,
        description=(
            "Cassandra syncs a write to disk before it acknowledges it, on every node. Everything "
            "else stands on this."
        ),
    ),
    dg.AssetCheckSpec(
        LAG,
        asset=SENSOR_DATA,
        description=(
            "How long the oldest record that was not ingested yet has waited in Kafka, against "
            "IOT_LAG_LIMIT_SECONDS."
        ),
    ),
    dg.AssetCheckSpec(
        SCHEMA,
        asset=SENSOR_DATA,
        description="Tables and topics are what this version of the pipeline expects.",
    ),
    dg.AssetCheckSpec(
        READ_BACK,
        asset=SENSOR_DATA,
        description=(
            "A run's rows, read from Cassandra again, are those of its records in values and write "
            "time: all up to 10,000, else a sample. On its own: those of the last hour."
        ),
    ),
    dg.AssetCheckSpec(
        EXPIRED,
        asset=SENSOR_DATA,
        description=(
            "Kafka deleted no record before it was read, or somebody has acknowledged that it did."
        ),
    ),
    dg.AssetCheckSpec(
        RETENTION,
        asset=SENSOR_DATA,
        description=(
            "Kafka will keep what was not read yet for at least a quarter of the time it keeps "
            "records at all: headroom in offsets and in seconds, at the current rates."
        ),
    ),
    dg.AssetCheckSpec(
        DEAD_LETTERS,
        asset=SENSOR_DATA,
        description=(
            "The share of the last hour's records that could not be readings, by reason, against "
            "IOT_DEAD_LETTER_SHARE."
        ),
    ),
    *QUALITY_SPECS,
]
_BLOCKING = {spec.name for spec in CHECK_SPECS if spec.blocking}
CHECK_KEYS = [spec.key for spec in CHECK_SPECS]
_SEVERITIES = {
    Severity.WARN: dg.AssetCheckSeverity.WARN,
    Severity.ERROR: dg.AssetCheckSeverity.ERROR,
}


def as_result(verdict: CheckVerdict) -> dg.AssetCheckResult:
    """The verdict as Dagster shows it."""
    metadata: dict[str, dg.MetadataValue[Any] | int | float] = dict(verdict.numbers)
    if verdict.worst.rows:
        metadata["worst_devices"] = dg.MetadataValue.md(verdict.worst.markdown())
    return dg.AssetCheckResult(
        asset_key=SENSOR_DATA,
        check_name=verdict.name,
        passed=verdict.passed,
        severity=_SEVERITIES[verdict.severity],
        description=verdict.sentence,
        metadata=metadata,
    )


def as_evaluation(verdict: CheckVerdict) -> dg.AssetCheckEvaluation:
    """The verdict as one of several that a run gives, the last of which is shown."""
    metadata: dict[str, dg.MetadataValue[Any] | int | float] = dict(verdict.numbers)
    if verdict.worst.rows:
        metadata["worst_devices"] = dg.MetadataValue.md(verdict.worst.markdown())
    return dg.AssetCheckEvaluation(
        asset_key=SENSOR_DATA,
        check_name=verdict.name,
        passed=verdict.passed,
        severity=_SEVERITIES[verdict.severity],
        description=verdict.sentence,
        metadata=metadata,
        blocking=verdict.name in _BLOCKING and verdict.severity is Severity.ERROR,
    )


def judge_run(
    connections: Connections,
    run_id: str,
    progress: DrainSum,
    days: Collection[date],
    started_at: datetime,
    topic_info: TopicInfo,
    lags: Sequence[PartitionLag],
    replayed: Sequence[OffsetRange] = (),
    keeper: FleetKeeper | None = None,
    committed: Sequence[OffsetRange] | None = None,
    is_growing: bool = False,
) -> Iterator[CheckVerdict]:
    """The verdicts a run brings with it: bounded by the run's own time.

    Args:
        connections: clients.
        run_id: whose entries in the ledger must be those of `progress`.
        progress: what the run did.
        days: those that it wrote rows of.
        started_at: no entry of it is older.
        topic_info: the topic, as it was planned with.
        lags: of all its partitions, read when the run was done.
        replayed: ranges that it wrote again; they are read back as well.
        keeper: what it saw of the devices' readings.
        committed: all that the run achieved, where `progress` is only its latest part.
        is_growing: the run goes on meanwhile, so the ledger may know more of it.
    """
    settings, ledger = connections.settings, connections.ledger
    topic, parts = settings.topic, range(topic_info.partitions)
    now = datetime.now(UTC)
    budget = RunBudget(progress.seconds)
    yield judge_lag(lags, settings.lag_limit_seconds)
    recent = recent_links(ledger, topic, parts, now, started_at)
    sums = KeptSums(connections.ledger_sums)
    achieved = progress.ranges if committed is None else committed
    yield check_accounting(recent, run_id, achieved, is_growing=is_growing)
    yield check_row_counts(
        sums,
        CassandraRowCounts(connections.cassandra),
        topic,
        parts,
        sorted(days, reverse=True),
        budget_seconds=budget.part(0.25),
        patience_seconds=_COMMIT_SECONDS if is_growing else 0.5,
    )
    yield check_recent_chain(recent)
    yield from check_durability_and_schema(
        connections.log, CassandraSchema(connections.cassandra), settings
    )
    yield check_read_back(
        connections.audit_ports,
        audit_config(settings),
        topic,
        [*progress.ranges, *replayed],
        run_id,
        now,
        stored=progress.total.stored,
        budget_seconds=budget.part(0.4),
    )
    yield check_losses(sums, connections.audit_store, topic, parts)
    yield check_retention(connections.log, topic, lags, topic_info.config, now)
    yield _check_dead_letters(connections, recent, now)
    yield from judge_quality(
        connections,
        lags,
        budget.part(0.6),
        keeper,
    )
    keep_sums_in_passing(connections.ledger_sums, topic, parts, recent)


def judge_end_of_following(
    connections: Connections,
    run_id: str,
    committed: Sequence[OffsetRange],
    started_at: datetime,
    topic_info: TopicInfo,
    lags: Sequence[PartitionLag],
) -> Iterator[CheckVerdict]:
    """What must hold of all that a run did when it ends, and takes no time to see."""
    settings, ledger = connections.settings, connections.ledger
    topic, parts = settings.topic, range(topic_info.partitions)
    yield judge_lag(lags, settings.lag_limit_seconds)
    recent = recent_links(ledger, topic, parts, datetime.now(UTC), started_at)
    yield check_accounting(recent, run_id, committed)
    yield check_recent_chain(recent)


def _check_dead_letters(
    connections: Connections, recent: Sequence[ChainLink], now: datetime
) -> CheckVerdict:
    settings = connections.settings
    return check_dead_letters(
        connections.log,
        recent,
        settings.topic,
        settings.dead_letter_topic,
        now,
        settings.dead_letter_share,
    )


def judge_alone(
    connections: Connections, names: Collection[str], fleet: Fleet | None = None
) -> Iterator[CheckVerdict]:
    """The verdicts of these checks, each over all there is; other checks' questions are not asked.

    Reading the whole ledger once serves both checks that want it, one look at the devices all six
    that are about them; `fleet` is that look when it was made already.
    """
    settings, ledger = connections.settings, connections.ledger
    topic = settings.topic
    now = datetime.now(UTC)
    if DURABLE in names or SCHEMA in names:
        yield from (
            verdict
            for verdict in check_durability_and_schema(
                connections.log, CassandraSchema(connections.cassandra), settings
            )
            if verdict.name in names
        )
    rest = set(names) - {DURABLE, SCHEMA}
    if not rest:
        return
    info = connections.log.describe(topic)
    parts = range(info.partitions)
    if {LAG, RETENTION, *QUALITY_CHECKS} & rest:
        lags = read_lag(connections.log, ledger, topic, now)
        if LAG in rest:
            yield judge_lag(lags, settings.lag_limit_seconds)
        if RETENTION in rest:
            yield check_retention(connections.log, topic, lags, info.config, now)
        if QUALITY_CHECKS & rest:
            verdicts = (
                judge_quality(connections, lags, settings.check_seconds)
                if fleet is None
                else judge_fleet(fleet)
            )
            yield from (verdict for verdict in verdicts if verdict.name in rest)
    if EVERY_OFFSET in rest or NO_GAP in rest:
        whole = check_whole_ledger(ledger, topic, parts)
        yield from (verdict for verdict in whole if verdict.name in rest)
    if ROW_COUNT in rest:
        # Of the whole ledger, not of what was kept of it: so each proves the other.
        yield check_row_counts(
            connections.ledger_sums,
            CassandraRowCounts(connections.cassandra),
            topic,
            parts,
            choose_days(ledger, topic, parts, now),
            budget_seconds=settings.check_seconds,
            patience_seconds=_PATIENCE_SECONDS,
        )
        keep_sums(connections.ledger_sums, topic, parts)
    if READ_BACK in rest:
        newest = newest_entries(ledger, topic, parts, now)
        yield check_read_back(
            connections.audit_ports,
            audit_config(settings),
            topic,
            [OffsetRange(e.partition, e.start_offset, e.end_offset) for e in newest],
            str(now),
            now,
            stored=sum(entry.counts.stored for entry in newest),
            budget_seconds=settings.check_seconds,
        )
    if EXPIRED in rest:
        yield check_losses(connections.ledger_sums, connections.audit_store, topic, parts)
    if DEAD_LETTERS in rest:
        yield _check_dead_letters(connections, recent_links(ledger, topic, parts, now), now)


checks_job = dg.define_asset_job(
    "checks",
    selection=dg.AssetSelection.checks(*CHECK_KEYS),
    description=(
        "Run every check on the readings without ingesting anything: the whole ledger, the rows "
        "of the last hour's days, lag, tables and topics. Reads only; safe beside ingestion."
    ),
    tags={MAX_RUNTIME: "900", **NO_RETRY},
)

checks_every_5_minutes = dg.ScheduleDefinition(
    name="checks_every_5_minutes",
    job=checks_job,
    cron_schedule="*/5 * * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Runs all checks whether or not anything is ingested: silence is noticed too.",
)
