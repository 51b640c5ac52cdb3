"""Make what is missing: topics, keyspace, tables; check what is there; never alter silently.

Idempotent, and safe to run twice at once: migrations are applied under a lock in the keyspace.
"""

import os
import socket
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from iot_pipeline.core.checks.cql_script import (
    MIGRATIONS,
    MIGRATIONS_TABLE,
    keyspace_statement,
    not_noted,
    say_statements,
    table_statements,
)
from iot_pipeline.core.checks.keyspaces import (
    check_owner,
    check_quorum,
    describe_durability,
    replicas_by_datacenter,
    replicas_in,
)
from iot_pipeline.core.checks.schema import (
    Difference,
    choose_migrations,
    compare_options,
    compare_table,
    made_by,
    read_declared,
    read_options,
    read_tables,
    some_columns,
)
from iot_pipeline.core.checks.topics import TopicPlan, TopicRisk, mending_lines
from iot_pipeline.errors import ConfigurationError, MissingRightError, SchemaMismatchError
from iot_pipeline.settings import Settings
from iot_pipeline.settings_cassandra import why_reads_miss_writes
from iot_pipeline.stages.ports.log import ClusterLog, RecordLog, TopicStore
from iot_pipeline.stages.ports.tables import TableStore
from iot_pipeline.stages.topics import TopicsReport, check_topics, topic_plans

_LEFT_TO_A_DBA = "rows cannot be written as designed, and IOT_SCHEMA=external leaves it to a DBA"
_READINGS = "sensor_data"


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
    is_external: bool = False
    notes: list[str] = field(default_factory=list)
    topic_risks: list[TopicRisk] = field(default_factory=list)
    mending: list[str] = field(default_factory=list)
    withheld: list[Exception] = field(default_factory=list)
    durability_withheld: MissingRightError | None = None

    @property
    def fatal(self) -> list[Difference | TopicRisk]:
        found: list[Difference | TopicRisk] = [*self.topic_risks, *self.differences]
        return [item for item in found if item.is_fatal]

    def sentences(self) -> list[str]:
        """What was made, what to know, and whether acknowledged writes are durable."""
        made = [f"made {item}" for item in self.created] or ["everything was there already"]
        risks = [
            f"{'note' if risk.severity is None else 'WARNING'}: {risk}" for risk in self.topic_risks
        ]
        lines = [f"to set it: {line}" for line in self.mending]
        notes = [f"note: {item}" for item in [*self.differences, *self.notes]]
        notes += [f"WARNING: not known: {error}" for error in self.withheld]
        if self.is_external:
            notes += [f"in CQL: {cql};" for item in self.differences for cql in item.cql]
        durable = ("" if self.is_durable else "WARNING: ") + self.durability
        return [*made, *risks, *lines, *notes, durable]


def setup_schema(
    topics: TopicStore,
    reader: ClusterLog,
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
        MissingRightError: something is missing, and we may not make it. What was made before that
            is named.
    """
    report = SchemaReport(is_external=settings.schema == "external")
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
    if report.is_external and options is None:
        raise SchemaMismatchError(
            f"setting up: keyspace {settings.keyspace} is missing, and IOT_SCHEMA=external leaves "
            f"it to a DBA; nothing was made. In CQL: "
            f"{keyspace_statement(settings.keyspace, replicas)}; `iot setup --print` has the "
            "tables, too"
        )
    with _making(report):
        missing = [plan for plan in topic_plans(settings) if _is_missing(reader, topics, plan)]
        # Kafka says whether we may make a topic before it is made, Cassandra says so of a keyspace
        # only when it is: in this order a right that is missing leaves nothing behind.
        for plan in missing:
            topics.check(plan)
        if not report.is_external:
            _make_tables(tables, settings, replicas, report, say)
        for plan in missing:
            say(f"topic {plan.name}")
            if topics.create(plan):
                report.created.append(f"topic {plan.name} ({plan.partitions} partitions)")
            wait_for_topic(reader, plan.name)
    if report.is_external:
        _compare_notes(tables, settings, report)
    found = _look_at_topics(reader, settings, {plan.name for plan in missing})
    report.topic_risks += found.risks
    report.mending += mending_lines(found.risks, settings.bootstrap_servers)
    report.withheld += found.not_looked_at.values()
    check_schema(tables, settings, report)
    if report.fatal:
        said = f"setting up: {'; '.join(map(str, report.fatal))}"
        if report.is_external:
            cql = say_statements(item for item in report.differences if item.is_fatal)
            said += f". No table was made or altered. In CQL: {cql or 'not by one statement'}"
        raise SchemaMismatchError(said)
    return report


@contextmanager
def _making(report: SchemaReport) -> Iterator[None]:
    try:
        yield
    except MissingRightError as exc:
        made = f"made before: {', '.join(report.created)}" if report.created else "nothing was made"
        raise MissingRightError(
            f"{exc}. Or run `iot setup` as a user that has the rights of `iot rights --for setup`; "
            f"{made}"
        ) from exc


def _is_missing(reader: RecordLog, topics: TopicStore, plan: TopicPlan) -> bool:
    try:
        reader.topic_id(plan.name)
    except SchemaMismatchError:
        return True
    except MissingRightError:
        # Who has no right at all is told of the one to make it, which is what is wanted.
        topics.check(plan)
        raise
    return False


def _compare_notes(tables: TableStore, settings: Settings, report: SchemaReport) -> None:
    """What a keyspace says of itself that a person made; writes nothing."""
    if tables.columns(MIGRATIONS):
        owner, applied = tables.owner(), tables.applied_migrations()
        missing = choose_migrations(tables.migrations, applied)
        report.differences += not_noted(settings.keyspace, settings.topic, owner, missing)


def _is_to_make(tables: TableStore) -> bool:
    """Whether a migration is not applied, a table is gone, or a declared column is missing."""
    to_apply = choose_migrations(tables.migrations, tables.applied_migrations())
    return bool(to_apply or _dropped(tables) or _missing_columns(tables))


def _missing_columns(tables: TableStore) -> dict[str, dict[str, str]]:
    """By table the columns, with their types, of quantities that were declared since it was made.

    None at all where a table is not as expected besides: it may be another program's.
    """
    found = {}
    expected = read_tables(tables.migrations)
    for table, declared in read_declared(tables.migrations).items():
        has = tables.columns(table)
        if not has:
            continue
        missing = {name: cql_type for name, (cql_type, _) in declared.items() if name not in has}
        if missing and table == _READINGS and tables.dropped_columns(table) & missing.keys():
            return {}  # `check_schema` refuses it
        others = {name: of for name, of in expected[table].items() if name not in missing}
        if any(item.is_fatal for item in compare_table("", table, others, has, declared)):
            return {}
        if missing:
            found[table] = missing
    return found


def _dropped(tables: TableStore) -> list[str]:
    return [name for name in read_tables(tables.migrations) if not tables.columns(name)]


def _make_tables(
    tables: TableStore,
    settings: Settings,
    replicas: Mapping[str, int],
    report: SchemaReport,
    say: Callable[[str], None],
) -> None:
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
        _apply_migrations(tables, report, say)


def _apply_migrations(tables: TableStore, report: SchemaReport, say: Callable[[str], None]) -> None:
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
        for table, columns in _missing_columns(tables).items():
            say(f"columns of {table}")
            tables.add_columns(table, columns)
            report.created.append(f"in table {table} the column {some_columns([*columns])}")
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
            # Not what it is configured as: who may not see that is told so by `check_topics`.
            reader.topic_id(topic)
            return
        except SchemaMismatchError:
            time.sleep(0.05)


def _look_at_topics(
    reader: ClusterLog, settings: Settings, made: Collection[str], timeout_seconds: float = 10.0
) -> TopicsReport:
    """As `check_topics`, but asked again where a broker has not heard of what was made just now."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = check_topics(reader, settings)
        unheard = {risk.topic for risk in found.risks if risk.is_missing}.intersection(made)
        if not unheard or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def check_schema(
    tables: TableStore, settings: Settings, report: SchemaReport | None = None
) -> SchemaReport:
    """Compare the tables there are with those expected; changes nothing."""
    report = report or SchemaReport()
    is_external = settings.schema == "external"
    # Where we make the tables, that one is the first that is made.
    migrations = [*([MIGRATIONS_TABLE] if is_external else []), *tables.migrations]
    declared = read_declared(tables.migrations)
    for table, expected in read_tables(migrations).items():
        found = tables.columns(table)
        of_declaration = declared.get(table)
        # Rollups are written anew, with the write time of now; readings with that of their arrival.
        is_bare = table == _READINGS and bool((of_declaration or {}).keys() - found.keys())
        dropped = tables.dropped_columns(table) if is_bare else set()
        differences = compare_table(
            settings.keyspace, table, expected, found, of_declaration, dropped
        )
        if is_external:
            whole = table_statements(settings.keyspace, table, migrations)
            differences = [
                replace(item, consequence=_LEFT_TO_A_DBA, cql=item.cql if found else whole)
                if item.found == "missing" and (item.cql or not found)
                else item
                for item in differences
            ]
        report.differences += differences
    for table, wanted in read_options(tables.migrations).items():
        has = tables.options(table)
        if table == _READINGS and settings.retention.may_end:
            # Each row says itself how long it lives.
            has.pop("default_time_to_live", None)
        report.differences += compare_options(settings.keyspace, table, wanted, has)
    replication = replicas_in(tables.keyspace_replication() or {})
    if replication == 1:
        report.notes.append(
            f"keyspace {settings.keyspace} has one replica: while its node is down nothing is "
            "written, and a lost disk is lost rows (Kafka can fill them in while it keeps them)"
        )
    try:
        modes = tables.commitlog_modes()
    except MissingRightError as exc:
        report.durability_withheld = exc
        report.durability = f"whether acknowledged writes are durable is not known: {exc}"
    else:
        report.is_durable, report.durability = describe_durability(
            modes, replication, settings.accept_periodic_commitlog
        )
    return report
