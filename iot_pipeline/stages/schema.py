"""Make what is missing: topics, keyspace, tables; check what is there; never alter silently.

Idempotent, and safe to run twice at once: migrations are applied under a lock in the keyspace.
"""

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from iot_pipeline.core.checks.schema import (
    DEAD_LETTER_MAX_BYTES,
    Difference,
    TopicPlan,
    check_owner,
    check_quorum,
    choose_migrations,
    compare_options,
    compare_table,
    compare_topic,
    describe_durability,
    made_by,
    read_options,
    read_tables,
    replicas_by_datacenter,
    replicas_in,
)
from iot_pipeline.core.reading.offsets import LOG_APPEND_TIME
from iot_pipeline.errors import ConfigurationError, MissingRightError, SchemaMismatchError
from iot_pipeline.settings import Settings
from iot_pipeline.settings_cassandra import why_reads_miss_writes
from iot_pipeline.stages.ports import RecordLog, TableStore, TopicStore


@dataclass(slots=True)
class SchemaReport:
    """What was made, what differs, and whether acknowledged writes are durable.

    `withheld` are topics that we may not see, `durability_withheld` says that of the servers'
    settings: of these nothing is known.
    """

    created: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    is_durable: bool = False
    durability: str = ""
    notes: list[str] = field(default_factory=list)
    withheld: list[MissingRightError] = field(default_factory=list)
    durability_withheld: MissingRightError | None = None

    @property
    def fatal(self) -> list[Difference]:
        return [difference for difference in self.differences if difference.is_fatal]

    def sentences(self) -> list[str]:
        """What was made, what to know, and whether acknowledged writes are durable."""
        made = [f"made {item}" for item in self.created] or ["everything was there already"]
        notes = [f"note: {item}" for item in [*self.differences, *self.notes]]
        notes += [f"WARNING: not known: {error}" for error in self.withheld]
        return [*made, *notes, ("" if self.is_durable else "WARNING: ") + self.durability]


def topic_plans(settings: Settings) -> list[TopicPlan]:
    """The two topics, as `iot setup` makes them."""
    retention_ms = (
        -1 if settings.topic_retention_hours < 0 else int(settings.topic_retention_hours * 3.6e6)
    )
    common = {"cleanup.policy": "delete", "message.timestamp.type": LOG_APPEND_TIME}
    return [
        TopicPlan(
            settings.topic,
            settings.partitions,
            settings.topic_replication,
            {**common, "retention.ms": str(retention_ms)},
            limits_batches=True,
        ),
        TopicPlan(
            settings.dead_letter_topic,
            1,
            settings.topic_replication,
            {
                **common,
                "retention.ms": "-1",
                "max.message.bytes": str(DEAD_LETTER_MAX_BYTES),
            },
        ),
    ]


def setup_schema(
    topics: TopicStore,
    reader: RecordLog,
    tables: TableStore,
    settings: Settings,
    say: Callable[[str], None] = lambda _: None,
) -> SchemaReport:
    """Make topics, keyspace and tables where they are missing, then check all of them.

    Args:
        say: told each step.

    Raises:
        ConfigurationError: the keyspace belongs to another topic, or wants more replicas than
            there are nodes; nothing was made.
        SchemaMismatchError: something that exists would lose or tear readings; a migration
            changed after it was applied.
        MissingRightError: something is missing, and we may not make it.
    """
    report = SchemaReport()
    options = tables.keyspace_replication()
    nodes, here = tables.nodes(), tables.local_datacenter()
    replicas = (
        replicas_by_datacenter(settings.keyspace_replication, here, nodes)
        if options is None
        else {here: replicas_in(options)}
    )
    for datacenter, count in replicas.items():
        check_quorum(settings.keyspace, count, nodes[datacenter], is_new=options is None)
    # An existing keyspace's options besides its class are its datacenters, or one number for all.
    if why := why_reads_miss_writes(
        settings, len(replicas) if options is None else len(options) - 1
    ):
        raise ConfigurationError(f"keyspace {settings.keyspace}: {why}")
    check_owner(settings.keyspace, tables.owner(), settings.topic)
    with _making():
        for plan in topic_plans(settings):
            say(f"topic {plan.name}")
            if topics.create(plan):
                report.created.append(f"topic {plan.name} ({plan.partitions} partitions)")
            wait_for_topic(reader, plan.name)
        say(f"keyspace {settings.keyspace}")
        if tables.keyspace_replication() is None:
            tables.create_keyspace(replicas)
            report.created.append(f"keyspace {settings.keyspace}")
        # Nothing is written that is there: who may only look can set up to see that all is well.
        if (owner := tables.owner()) is None:
            tables.create_migrations_table()
            owner = tables.claim(settings.topic)
        check_owner(settings.keyspace, owner, settings.topic)
        if _is_to_make(tables):
            _make_tables(tables, report, say)
    check_schema(reader, tables, settings, report)
    if report.fatal:
        raise SchemaMismatchError(
            "setting up: " + "; ".join(str(difference) for difference in report.fatal)
        )
    return report


@contextmanager
def _making() -> Iterator[None]:
    try:
        yield
    except MissingRightError as exc:
        raise MissingRightError(
            f"{exc}. Or run `iot setup` as a user that has the rights of `iot rights --for setup`"
        ) from exc


def _is_to_make(tables: TableStore) -> bool:
    """Whether a migration is not applied yet, or a table is gone."""
    to_apply = choose_migrations(tables.migrations, tables.applied_migrations())
    return bool(to_apply or _dropped(tables))


def _dropped(tables: TableStore) -> list[str]:
    return [name for name in read_tables(tables.migrations) if not tables.columns(name)]


def _make_tables(tables: TableStore, report: SchemaReport, say: Callable[[str], None]) -> None:
    # Unique per call: the lock takes its own holder for a retry, and two setups of one process
    # (a test, a Dagster code server) are two.
    holder = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
    tables.lock(holder)
    try:
        for migration in choose_migrations(tables.migrations, tables.applied_migrations()):
            say(f"migration {migration.name}")
            tables.apply(migration, holder)
            report.created.append(f"migration {migration.name}")
        _make_dropped(tables, holder, report)
    finally:
        tables.unlock(holder)


def _make_dropped(tables: TableStore, holder: str, report: SchemaReport) -> None:
    """Make tables again that a migration has made and that are gone, empty."""
    gone = _dropped(tables)
    for migration in tables.migrations if gone else ():
        again = made_by(migration, gone)
        if again.statements:
            tables.apply(again, holder)
    report.created += [
        f"table {name} again, empty: it was dropped. `iot audit --all` says which readings are "
        "gone, `iot replay` writes what Kafka still has"
        for name in gone
    ]


def wait_for_topic(reader: RecordLog, topic: str, timeout_seconds: float = 10.0) -> None:
    """Return when the broker that answers us knows the topic, or when the time is over.

    The controller has made it when `create` returns; the brokers hear of it a moment later, and
    until then say that there is no such topic.
    """
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        try:
            reader.describe(topic)
            return
        except SchemaMismatchError:
            time.sleep(0.05)


def check_schema(
    reader: RecordLog,
    tables: TableStore,
    settings: Settings,
    report: SchemaReport | None = None,
) -> SchemaReport:
    """Compare what is there with what is expected; changes nothing."""
    report = report or SchemaReport()
    for plan in topic_plans(settings):
        try:
            info = reader.describe(plan.name)
            differences = compare_topic(plan, info)
        except MissingRightError as exc:
            report.withheld.append(exc)
            continue
        except SchemaMismatchError:
            report.differences.append(
                Difference(f"topic {plan.name}", "missing", "present", "`iot setup` makes it", True)
            )
            continue
        report.differences += [
            difference
            for difference in differences
            if not (
                settings.accept_producer_timestamps
                and difference.thing.endswith("message.timestamp.type")
            )
        ]
    for table, expected in read_tables(tables.migrations).items():
        found = tables.columns(table)
        report.differences += compare_table(settings.keyspace, table, expected, found)
    for table, wanted in read_options(tables.migrations).items():
        has = tables.options(table)
        if table == "sensor_data" and settings.retention_days:
            # Each row says itself how long it lives.
            has.pop("default_time_to_live", None)
        report.differences += compare_options(settings.keyspace, table, wanted, has)
    replication = replicas_in(tables.keyspace_replication() or {})
    if replication == 1:
        report.notes.append(
            f"keyspace {settings.keyspace} has one replica: while its node is down nothing is "
            "written, and a lost disk is lost rows (Kafka can fill them in while it keeps them)"
        )
    if settings.topic_replication == 1:
        report.notes.append(
            "topics have one replica: a lost Kafka disk is lost readings that were not ingested yet"
        )
    try:
        modes = tables.commitlog_modes()
    except MissingRightError as exc:
        report.durability_withheld = exc
        report.durability = f"whether acknowledged writes are durable is not known: {exc}"
    else:
        report.is_durable, report.durability = describe_durability(modes, replication)
    return report
