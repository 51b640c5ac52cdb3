"""The CQL that makes a keyspace and all in it, for a person to paste.

`iot setup` runs the same statements; where IOT_SCHEMA=external only a person does.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from iot_pipeline.core.checks.schema import Difference, Migration, made_by

# What was applied, who sets up just now, and whose keyspace it is. Not one of the migrations: it
# has to be there before the first is applied.
MIGRATIONS = "schema_migrations"
OWNER_VERSION = -1
MIGRATIONS_TABLE = Migration(
    0,
    MIGRATIONS,
    "",
    (
        f"""CREATE TABLE IF NOT EXISTS ${{keyspace}}.{MIGRATIONS} (
    version int PRIMARY KEY,
    name text,
    sha256 text,
    applied_at timestamp,
    applied_by text
)""",
    ),
)
# More of them in one message are no message.
_STATEMENTS_SAID = 3


def keyspace_statement(keyspace: str, replicas: Mapping[str, int]) -> str:
    """Make a keyspace with so many replicas in each datacenter."""
    options = ", ".join(f"'{name}': {number}" for name, number in replicas.items())
    return (
        f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = "
        f"{{'class': 'NetworkTopologyStrategy', {options}}}"
    )


def in_keyspace(statement: str, keyspace: str) -> str:
    return statement.replace("${keyspace}", keyspace)


def applied_statement(keyspace: str, migration: Migration) -> str:
    """Remember that a migration was applied."""
    return (
        f"INSERT INTO {keyspace}.{MIGRATIONS} (version, name, sha256, applied_at, applied_by) "
        f"VALUES ({migration.version}, '{migration.name}', '{migration.sha256}', "
        "toTimestamp(now()), 'iot setup --print')"
    )


def owner_statement(keyspace: str, topic: str) -> str:
    """Remember whose keyspace it is."""
    return (
        f"INSERT INTO {keyspace}.{MIGRATIONS} (version, name) "
        f"VALUES ({OWNER_VERSION}, '{topic}') IF NOT EXISTS"
    )


def write_script(
    keyspace: str, topic: str, replicas: Mapping[str, int], migrations: Sequence[Migration]
) -> Iterator[str]:
    """Every statement, in the order in which they work; each without its semicolon."""
    yield keyspace_statement(keyspace, replicas)
    for migration in (MIGRATIONS_TABLE, *migrations):
        for statement in migration.statements:
            yield in_keyspace(statement, keyspace)
        if migration is not MIGRATIONS_TABLE:
            yield applied_statement(keyspace, migration)
    yield owner_statement(keyspace, topic)


def table_statements(keyspace: str, table: str, migrations: Iterable[Migration]) -> tuple[str, ...]:
    """What makes one table, on a line each."""
    return tuple(
        " ".join(in_keyspace(statement, keyspace).split())
        for migration in migrations
        for statement in made_by(migration, [table]).statements
    )


def not_noted(
    keyspace: str,
    topic: str,
    owner: str | None,
    migrations: Sequence[Migration],
) -> list[Difference]:
    """What a keyspace that a person made does not say of itself, though its tables are right.

    Args:
        owner: the topic that it says it belongs to; None: it says none.
        migrations: those that are not noted.
    """
    found = [
        Difference(
            f"keyspace {keyspace}: migration {migration.name}",
            "not noted",
            "noted as applied",
            "a later version of iot_pipeline would not know that it is there",
            cql=(applied_statement(keyspace, migration),),
        )
        for migration in migrations
    ]
    if owner is None:
        said = f"keyspace {keyspace}: its topic"
        cost = "another pipeline could write its readings into the same tables"
        cql = (owner_statement(keyspace, topic),)
        found.append(Difference(said, "not noted", topic, cost, cql=cql))
    return found


def say_statements(differences: Iterable[Difference]) -> str:
    """The CQL that adds what is missing, for a message; empty where none does."""
    lines = [f"{line};" for difference in differences for line in difference.cql]
    more = len(lines) - _STATEMENTS_SAID
    said = " ".join(lines[:_STATEMENTS_SAID])
    return f"{said} And {more} more: `iot setup --print` has all of it" if more > 0 else said
