"""What Cassandra and Kafka say about keyspace, tables and topics, and how they are made."""

import importlib.resources
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cassandra.cluster import EXEC_PROFILE_DEFAULT
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.cassandra_errors import DRIVER_ERRORS, translate
from iot_pipeline.clients.kafka import (
    Heard,
    client_config,
    lacking,
    open_client,
    refuse_shut_door,
)
from iot_pipeline.clients.kafka_errors import translate as translate_kafka
from iot_pipeline.clients.table import Table
from iot_pipeline.core.checks.cql_script import (
    MIGRATIONS,
    MIGRATIONS_TABLE,
    OWNER_VERSION,
    in_keyspace,
    keyspace_statement,
)
from iot_pipeline.core.checks.schema import Migration, read_migrations
from iot_pipeline.core.checks.topics import TopicPlan
from iot_pipeline.core.rights.grants import CREATE, TOPIC
from iot_pipeline.core.rollups.declared_columns import declared_columns
from iot_pipeline.errors import (
    CassandraUnavailableError,
    KafkaUnavailableError,
    MissingRightError,
    SchemaMismatchError,
)
from iot_pipeline.settings import Settings

_SCHEMA_TIMEOUT_SECONDS = 60.0
_LOCK_SECONDS = 120
# From a table's name in system_schema until its node answers questions about it.
_BECOMING_SECONDS = 10.0
_TABLE = f"{{ks}}.{MIGRATIONS}"
# Rows that are no migration: who sets up just now, and whose keyspace it is.
_LOCK_VERSION = 0


def migration_files() -> dict[str, str]:
    """The `.cql` files of this version, name -> text."""
    folder = importlib.resources.files("iot_pipeline.clients") / "cql"
    return {
        item.name: item.read_text(encoding="utf-8")
        for item in folder.iterdir()
        if item.name.endswith(".cql")
    }


class CassandraSchema(Table):
    """A `TableStore`; `files` are migrations, name -> text, this version's unless given."""

    def __init__(self, client: CassandraClient, files: Mapping[str, str] | None = None) -> None:
        super().__init__(client)
        self._keyspace = client.keyspace
        self.migrations = read_migrations(
            migration_files() if files is None else files,
            declared_columns(client.settings.quantities),
        )

    def _cql(self, template: str) -> str:
        # Options in braces stand beside the keyspace's name.
        return template.replace("{ks}", self._keyspace)

    def _run(
        self, template: str, values: Sequence[Any] = (), *, doing: str, **how: Any
    ) -> list[Any]:
        how = {"timeout_seconds": _SCHEMA_TIMEOUT_SECONDS, **how}
        deadline = time.monotonic() + _BECOMING_SECONDS
        while True:
            try:
                return super()._run(template, values, doing=doing, **how)
            except SchemaMismatchError:
                # While another process makes it, system_schema names a table that its node does
                # not know yet.
                if _TABLE not in template or time.monotonic() > deadline:
                    raise
                if not self.columns(MIGRATIONS):
                    raise
                time.sleep(0.05)

    def owner(self) -> str | None:
        if not self.columns(MIGRATIONS):
            return None
        rows = self._run(
            f"SELECT name FROM {_TABLE} WHERE version = {OWNER_VERSION}",
            doing=f"asking whose keyspace {self._keyspace} is",
        )
        return rows[0].name if rows else None

    def claim(self, topic: str) -> str:
        rows = self._run(
            f"INSERT INTO {_TABLE} (version, name) VALUES ({OWNER_VERSION}, ?) IF NOT EXISTS",
            (topic,),
            doing=f"noting whose keyspace {self._keyspace} is",
        )
        return topic if rows[0][0] else str(rows[0].name)

    def keyspace_replication(self) -> dict[str, str] | None:
        """The keyspace's replication options; None when there is no such keyspace."""
        rows = self._run(
            "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?",
            (self._keyspace,),
            doing="reading keyspaces",
        )
        return dict(rows[0].replication) if rows else None

    def nodes(self) -> dict[str, int]:
        """By datacenter, up or down."""
        hosts = self._client.session.cluster.metadata.all_hosts()
        return dict(Counter(str(host.datacenter) for host in hosts))

    def local_datacenter(self) -> str:
        rows = self._run("SELECT data_center FROM system.local", doing="asking for the datacenter")
        return str(rows[0].data_center)

    def create_keyspace(self, replicas: Mapping[str, int]) -> None:
        """Make the keyspace with so many replicas in each datacenter."""
        self._run(
            keyspace_statement(self._keyspace, replicas),
            doing=f"creating keyspace {self._keyspace}",
        )
        self._client.learn_replicas()

    def create_migrations_table(self) -> None:
        for statement in MIGRATIONS_TABLE.statements:
            self._run(in_keyspace(statement, self._keyspace), doing=f"creating {MIGRATIONS}")

    def applied_migrations(self) -> dict[int, tuple[str, str]]:
        """Version -> (name, sha256)."""
        rows = self._run(f"SELECT version, name, sha256 FROM {_TABLE}", doing="reading migrations")
        return {row.version: (row.name, row.sha256) for row in rows if row.version > _LOCK_VERSION}

    def lock(self, holder: str) -> None:
        """Wait until no other process sets up; the lock ends by itself after two minutes.

        Raises:
            CassandraUnavailableError: another process held it for all of that time.
        """
        deadline = time.monotonic() + _LOCK_SECONDS + 5
        while True:
            rows = self._run(
                f"INSERT INTO {_TABLE} (version, name, applied_by) "
                f"VALUES ({_LOCK_VERSION}, 'lock', ?) IF NOT EXISTS USING TTL {_LOCK_SECONDS}",
                (holder,),
                doing="locking schema_migrations",
            )
            if rows[0][0] or rows[0].applied_by == holder:
                return
            if time.monotonic() > deadline:
                raise CassandraUnavailableError(
                    f"setting up {self._keyspace}: {rows[0].applied_by} holds the lock; wait for it"
                )
            time.sleep(0.2)

    def unlock(self, holder: str) -> None:
        self._run(
            f"DELETE FROM {_TABLE} WHERE version = {_LOCK_VERSION} IF applied_by = ?",
            (holder,),
            doing="unlocking schema_migrations",
        )

    def apply(self, migration: Migration, holder: str) -> None:
        """Run a migration's statements, then remember it."""
        for statement in migration.statements:
            self._run(
                in_keyspace(statement, self._keyspace),
                doing=f"applying {migration.name}",
            )
        self._run(
            f"INSERT INTO {_TABLE} (version, name, sha256, applied_at, applied_by) "
            "VALUES (?, ?, ?, ?, ?)",
            (migration.version, migration.name, migration.sha256, datetime.now(UTC), holder),
            doing=f"remembering {migration.name}",
        )

    def columns(self, table: str) -> dict[str, tuple[str, str]]:
        """Name -> (type, kind) as system_schema has them; empty when there is no such table."""
        rows = self._run(
            "SELECT column_name, type, kind FROM system_schema.columns "
            "WHERE keyspace_name = ? AND table_name = ?",
            (self._keyspace, table),
            doing=f"reading the columns of {table}",
        )
        return {row.column_name: (row.type, row.kind) for row in rows}

    def reading_columns(self) -> set[str]:
        """The columns that readings have, of former declarations too."""
        return {*self.columns("sensor_data")}

    def add_columns(self, table: str, columns: Mapping[str, str]) -> None:
        """Add regular columns of these types, all of them or none."""
        added = ", ".join(f"{name} {cql_type}" for name, cql_type in columns.items())
        self._run(
            f"ALTER TABLE {self._keyspace}.{table} ADD ({added})",
            doing=f"adding {', '.join(columns)} to {table}",
        )

    def dropped_columns(self, table: str) -> set[str]:
        """Columns that it had once, whether they were added again or not."""
        rows = self._run(
            "SELECT column_name FROM system_schema.dropped_columns "
            "WHERE keyspace_name = ? AND table_name = ?",
            (self._keyspace, table),
            doing=f"reading the dropped columns of {table}",
        )
        return {str(row.column_name) for row in rows}

    def options(self, table: str) -> dict[str, str]:
        """Those that `read_options` names, as system_schema has them; empty without the table."""
        rows = self._run(
            "SELECT default_time_to_live, gc_grace_seconds, compaction, speculative_retry "
            "FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?",
            (self._keyspace, table),
            doing=f"reading the options of {table}",
        )
        if not rows:
            return {}
        return {
            "default_time_to_live": str(rows[0].default_time_to_live),
            "gc_grace_seconds": str(rows[0].gc_grace_seconds),
            "compaction": str(rows[0].compaction["class"]).rpartition(".")[2],
            "speculative_retry": str(rows[0].speculative_retry),
        }

    def live_seconds(self) -> int:
        """How long a reading lives that is written without a lifetime of its own; 0: for ever."""
        return int(self.options("sensor_data").get("default_time_to_live", 0))

    def commitlog_modes(self) -> dict[str, str]:
        """Node -> commitlog_sync of every node that is up, from its own settings."""
        session = self._client.session
        cql = "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'"
        modes = {}
        for host in session.cluster.metadata.all_hosts():
            node = str(host.address)
            if not host.is_up:
                modes[node] = "unknown (the node is down)"
                continue
            try:
                rows = list(session.execute(cql, host=host, execution_profile=EXEC_PROFILE_DEFAULT))
            except DRIVER_ERRORS as exc:
                raise translate(exc, f"asking {node} for its commitlog_sync") from exc
            modes[node] = str(rows[0].value).lower() if rows else "unknown"
        return modes


class KafkaTopics:
    """Makes topics; everything else about them is `KafkaLog`'s."""

    def __init__(self, settings: Settings) -> None:
        self._heard = Heard()
        self._config = client_config(settings)
        self._admin = open_client(AdminClient, self._config, self._heard)
        self._settings = settings

    def check(self, plan: TopicPlan) -> None:
        """Ask whether the topic could be made; makes nothing.

        Raises:
            MissingRightError: there is none of that name, and we may not make it.
        """
        self._ask_to_make(plan, "asking to create", validate_only=True)

    def create(self, plan: TopicPlan) -> bool:
        """Make the topic; False when there is one of that name already.

        Raises:
            MissingRightError: there is none, and we may not make it.
        """
        return self._ask_to_make(plan, "creating")

    def _ask_to_make(self, plan: TopicPlan, doing: str, *, validate_only: bool = False) -> bool:
        topic = NewTopic(plan.name, plan.partitions, plan.replication, config=dict(plan.config))
        doing = f"{doing} topic {plan.name}"
        try:
            # To make a topic may take long; to hear that Kafka is away need not.
            self._admin.list_topics(timeout=10)
            asked = self._admin.create_topics(
                [topic], request_timeout=30, validate_only=validate_only
            )
            asked[plan.name].result(timeout=35)
        except KafkaException as exc:
            if exc.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            right = lacking(self._config, CREATE, TOPIC, plan.name)
            where = self._settings.bootstrap_servers
            error = translate_kafka(exc, f"{doing} at {where}", right=right)
            # Who may not make it is not told whether it is there.
            if isinstance(error, MissingRightError) and self._is_there(plan.name):
                return False
            if isinstance(error, KafkaUnavailableError):
                self._admin.poll(0)  # logs come with it
                refuse_shut_door(self._settings, self._heard, doing)
            raise error from exc
        return True

    def _is_there(self, topic: str) -> bool:
        asked = self._admin.describe_topics(TopicCollection([topic]), request_timeout=10)
        try:
            asked[topic].result(timeout=15)
        except KafkaException:
            return False
        return True
