"""Which rights each command and job needs, and which role has them: `iot_setup` and its like.

The one owner of this: `iot rights`, the table in docs/security.md, the user of `iot up --secure`
and the tests are made from it. Names are filled in from the settings: `{0.topic}`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from iot_pipeline.core.rights.grants import (
    ALL_KEYSPACES,
    CREATE,
    DESCRIBE,
    DESCRIBE_CONFIGS,
    GROUP,
    READ,
    SETTINGS_TABLE,
    TOPIC,
    TRANSACTIONAL_ID,
    WRITE,
    CassandraGrant,
    KafkaGrant,
    Names,
)

_Grant = TypeVar("_Grant", KafkaGrant, CassandraGrant)


@dataclass(frozen=True, slots=True)
class Right(Generic[_Grant]):
    """One grant, and what is lost without it: empty where nothing works, so that it is needed."""

    grant: _Grant
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Needs:
    """What one command or job must be allowed to do; `role` is the first of ROLES that may."""

    role: str = ""
    kafka: tuple[Right[KafkaGrant], ...] = ()
    cassandra: tuple[Right[CassandraGrant], ...] = ()

    def named(self, names: Names) -> "Needs":
        """The same with the names of topics, group and keyspace filled in."""
        kafka = tuple(
            replace(right, grant=replace(right.grant, name=right.grant.name.format(names)))
            for right in self.kafka
        )
        cassandra = tuple(
            replace(right, grant=replace(right.grant, resource=right.grant.resource.format(names)))
            for right in self.cassandra
        )
        return replace(self, kafka=kafka, cassandra=cassandra)


def together(needs: Iterable[Needs], role: str = "") -> Needs:
    """All that any of these needs, each grant once; needed where one of them cannot do without."""
    kafka: dict[KafkaGrant, str] = {}
    cassandra: dict[CassandraGrant, str] = {}
    for one in needs:
        for right in one.kafka:
            kafka[right.grant] = right.lost and kafka.get(right.grant, right.lost)
        for permission in one.cassandra:
            known = cassandra.get(permission.grant, permission.lost)
            cassandra[permission.grant] = permission.lost and known
    return Needs(
        role,
        tuple(Right(grant, lost) for grant, lost in kafka.items()),
        tuple(Right(grant, lost) for grant, lost in cassandra.items()),
    )


def _kafka(kind: str, name: str, *operations: str, lost: str = "") -> tuple[Right[KafkaGrant], ...]:
    return tuple(Right(KafkaGrant(operation, kind, name), lost) for operation in operations)


def _topic(*operations: str, lost: str = "") -> tuple[Right[KafkaGrant], ...]:
    return _kafka(TOPIC, "{0.topic}", *operations, lost=lost)


def _letters(*operations: str, lost: str = "") -> tuple[Right[KafkaGrant], ...]:
    return _kafka(TOPIC, "{0.dead_letter_topic}", *operations, lost=lost)


def _modify(*tables: str, lost: str = "") -> tuple[Right[CassandraGrant], ...]:
    return tuple(
        Right(CassandraGrant("MODIFY", f"TABLE {{0.keyspace}}.{table}"), lost) for table in tables
    )


_SELECT = (Right(CassandraGrant("SELECT", "KEYSPACE {0.keyspace}")),)
_SEE_SYNC = (
    Right(
        CassandraGrant("SELECT", f"TABLE {SETTINGS_TABLE}"),
        "whether acknowledged writes are durable is not known",
    ),
)
_SEE_CONFIGS = (
    *_topic(DESCRIBE_CONFIGS, lost="retention and settings of the topic are not known"),
    *_letters(DESCRIBE_CONFIGS, lost="settings of the topic of dead letters are not known"),
)
_READ_TOPIC = _topic(DESCRIBE, READ)
_READ_LETTERS = _letters(DESCRIBE, READ)
_MIRROR = _kafka(GROUP, "{0.consumer_group}", READ, lost="lag tools see no offsets of the group")
_NAME_TRANSACTIONS = _kafka(
    TRANSACTIONAL_ID, "*", DESCRIBE, lost="an open transaction is reported without its id"
)
# Derived: made again, more slowly, where they are not kept.
_KEEP_STATES = _modify("device_states", lost="states of devices are made from rows each time")
_KEEP_SUMS = _modify("ledger_sums", lost="sums of the ledger are made from all of it each time")
_KEEP_SETTLED = _modify("settled_days", lost="a day with fewer rows is compared again each time")
_KEEP_DAYS = _modify("audited_days", lost="which days of readings are proven is not kept")
_KEEP_COSTS = _modify("run_costs", lost="throughput is not compared with that of former runs")

_CHECKS = Needs(
    kafka=(
        *_READ_TOPIC,
        *_SEE_CONFIGS,
        *_letters(DESCRIBE, READ, lost="new dead letters are not counted"),
        *_NAME_TRANSACTIONS,
    ),
    cassandra=(*_SELECT, *_SEE_SYNC, *_KEEP_STATES, *_KEEP_SUMS, *_KEEP_SETTLED, *_KEEP_COSTS),
)
# A report and the like look as checks do, and keep nothing.
_LOOK = Needs(kafka=_CHECKS.kafka, cassandra=(*_SELECT, *_SEE_SYNC))
_KEEP_DECLARATION = _modify("readings_declared")
_WRITE_ROWS = _modify("sensor_data", "devices_by_day")
_DRAIN = Needs(
    kafka=(*_READ_TOPIC, *_letters(WRITE), *_MIRROR),
    cassandra=(
        *_SELECT,
        *_WRITE_ROWS,
        *_modify("ingest_ledger", "replay_ledger", "stopped_partitions"),
        *_KEEP_DECLARATION,
        *_KEEP_STATES,
    ),
)
_SETUP = Needs(
    kafka=(*_topic(CREATE, DESCRIBE), *_letters(CREATE, DESCRIBE), *_SEE_CONFIGS),
    # Who makes a keyspace may do everything in it.
    cassandra=(Right(CassandraGrant("CREATE", ALL_KEYSPACES)), *_SEE_SYNC),
)
_REPLAY = Needs(
    kafka=_READ_TOPIC,
    cassandra=(
        *_SELECT,
        *_WRITE_ROWS,
        *_modify("ingest_ledger", "replay_ledger"),
        *_KEEP_DECLARATION,
    ),
)
_REPLAY_LETTERS = Needs(
    kafka=_READ_LETTERS,
    cassandra=(*_SELECT, *_WRITE_ROWS, *_modify("replay_ledger"), *_KEEP_DECLARATION),
)
_AUDIT = Needs(
    kafka=(*_READ_TOPIC, *_READ_LETTERS), cassandra=(*_SELECT, *_modify("audits"), *_KEEP_DAYS)
)
_ROLL_UP = Needs(cassandra=(*_SELECT, *_modify("hourly_readings", "daily_readings", "rollup_days")))
_SIMULATE = Needs(kafka=_topic(WRITE))
_SELECT_ALONE = Needs(cassandra=_SELECT)
_SEE_BOTH = Needs(kafka=_topic(DESCRIBE), cassandra=_SELECT)
_READ_BOTH = Needs(kafka=_READ_TOPIC, cassandra=_SELECT)
_TOPIC_ALONE = Needs(kafka=_READ_TOPIC)
_LETTERS_ALONE = Needs(kafka=_READ_LETTERS)
_NOTHING = Needs()

SETUP, INGEST, READERS, SIMULATE = ROLES = ("setup", "ingest", "read", "simulate")


def _as(role: str, needs: Mapping[str, Needs]) -> dict[str, Needs]:
    return {name: replace(need, role=role) for name, need in needs.items()}


# By the names that `iot` has for them; with an option where that needs more than the command.
COMMANDS: Mapping[str, Needs] = {
    **_as(SETUP, {"setup": _SETUP}),
    **_as(
        INGEST,
        {
            "drain": _DRAIN,
            "rollup": _ROLL_UP,
            "audit": _AUDIT,
            "losses --acknowledge": Needs(
                kafka=_topic(DESCRIBE), cassandra=(*_SELECT, *_modify("acknowledged_losses"))
            ),
            "replay": _REPLAY,
            "mend": Needs(
                kafka=_READ_TOPIC,
                cassandra=(*_SELECT, *_WRITE_ROWS, *_modify("mended_rows", "replay_ledger")),
            ),
            "dead-letters replay": _REPLAY_LETTERS,
            "delete": Needs(cassandra=(*_SELECT, *_modify("sensor_data", "deletions"))),
            "forget": Needs(
                cassandra=(
                    *_SELECT,
                    *_WRITE_ROWS,
                    *_modify("deletions", "hourly_readings", "daily_readings"),
                    *_modify("device_states", "mended_rows"),
                )
            ),
            "rebase": Needs(kafka=_READ_TOPIC, cassandra=(*_SELECT, *_modify("ingest_ledger"))),
            "throttle": Needs(cassandra=(*_SELECT, *_modify("throttles"))),
        },
    ),
    **_as(
        READERS,
        {
            "lag": _READ_BOTH,
            "latest": _SELECT_ALONE,
            "readings": _SELECT_ALONE,
            "devices": _SEE_BOTH,
            "rollups": _SELECT_ALONE,
            "report": _LOOK,
            "export": _SELECT_ALONE,
            "cql": _SELECT_ALONE,
            "ledger": _SELECT_ALONE,
            "trace": _READ_BOTH,
            "losses": _SEE_BOTH,
            "audits": _SELECT_ALONE,
            "metrics": _LOOK,
            "watch": _LOOK,
            "verify": Needs(kafka=(*_READ_TOPIC, *_READ_LETTERS), cassandra=_SELECT),
            "reading check": _TOPIC_ALONE,
            "reading infer": _TOPIC_ALONE,
            "reading list": _SELECT_ALONE,
            "reading show --fingerprint": _SELECT_ALONE,
            "dead-letters list": _LETTERS_ALONE,
            "dead-letters show": _LETTERS_ALONE,
            "dead-letters stats": Needs(kafka=_READ_LETTERS, cassandra=_SELECT),
        },
    ),
    **_as(SIMULATE, {"simulate": _SIMULATE}),
    "demo": together([_SETUP, _SIMULATE, _DRAIN, _CHECKS, _ROLL_UP]),
    **dict.fromkeys(
        (
            *("up", "down", "status", "logs", "kill"),
            *("scenarios", "settings", "rights", "check-instance", "size", "reading show"),
        ),
        _NOTHING,
    ),
}
SENSORS = ("iot_data_lag", "rollups_of_touched_days", "iot_alerts")
_INGEST_JOB = together([_DRAIN, _CHECKS])
# By their names in Dagster: jobs, sensors and schedules.
JOBS: Mapping[str, Needs] = {
    **_as(SETUP, {"setup_schema": _SETUP}),
    **_as(
        INGEST,
        {
            "ingest": _INGEST_JOB,
            "rollups": _ROLL_UP,
            "replay": _REPLAY,
            "replay_dead_letters": _REPLAY_LETTERS,
            "audit": _AUDIT,
            "checks": _CHECKS,
            "health_report": _CHECKS,
            "purge_history": Needs(
                kafka=_topic(DESCRIBE),
                cassandra=(*_SELECT, *_modify("ingest_ledger", "ledger_sums")),
            ),
            "ingest_plan": Needs(kafka=_READ_TOPIC, cassandra=(*_SELECT, *_SEE_SYNC)),
            "iot_data_lag": _READ_BOTH,
            "rollups_of_touched_days": _SELECT_ALONE,
            "iot_alerts": _READ_BOTH,
        },
    ),
    **_as(SIMULATE, {"simulate": _SIMULATE}),
}


def needs_of_role(role: str) -> Needs:
    """All that the commands and jobs of a role need."""
    return together(
        [needs for needs in [*COMMANDS.values(), *JOBS.values()] if needs.role == role], role
    )
