"""What a right is on each server, and the line that grants it.

Belongs here: the words of `kafka-acls.sh` and of CQL. Does not belong here: who needs which
(`needed`).
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

# What an administrator logs in with, a file that only he has.
_ADMIN_FILE = "admin.properties"
# The user's name, where the settings do not say it: that of a certificate, or of a token.
UNKNOWN_USER = "NAME"

# Kafka's operations.
READ, WRITE, CREATE, DESCRIBE, DESCRIBE_CONFIGS = (
    "Read",
    "Write",
    "Create",
    "Describe",
    "DescribeConfigs",
)
# Who may do one of these to a topic or group may describe it as well.
INCLUDE_DESCRIBE = (READ, WRITE)
# Kafka's resources, as the options of `kafka-acls.sh` name them.
TOPIC, GROUP, TRANSACTIONAL_ID = "topic", "group", "transactional-id"

# A keyspace or table in the words of Cassandra's refusal.
_REFUSED = re.compile(
    r"User (?P<user>\S+) has no (?P<permission>[A-Z]+) permission on <(?P<resource>[^>]+)>"
)
_KEYSPACE = re.compile(r"(?:keyspace|all tables in) (?P<keyspace>\S+)")
_TABLE = re.compile(r"table (?P<keyspace>[^.\s]+)\.(?P<table>\S+)")
_PLAIN_NAME = re.compile(r"[a-z][a-z0-9_]*")
ALL_KEYSPACES = "ALL KEYSPACES"
SETTINGS_TABLE = "system_views.settings"


class Names(Protocol):
    """What the rights are about; `Settings` says it."""

    @property
    def topic(self) -> str: ...
    @property
    def dead_letter_topic(self) -> str: ...
    @property
    def consumer_group(self) -> str: ...
    @property
    def keyspace(self) -> str: ...


@dataclass(frozen=True, slots=True)
class KafkaGrant:
    """One operation on one resource of Kafka: `kind` is TOPIC, GROUP or TRANSACTIONAL_ID."""

    operation: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.operation} {self.kind} {self.name}"


def kafka_line(grants: Sequence[KafkaGrant], user: str, bootstrap_servers: str) -> str:
    """The command that grants operations on one resource; `user` is the principal without type."""
    operations = " ".join(f"--operation {grant.operation}" for grant in grants)
    return (
        f"kafka-acls.sh --bootstrap-server {bootstrap_servers} --command-config {_ADMIN_FILE} "
        f"--add --allow-principal {shlex.quote(f'User:{user}')} {operations} "
        f"--{grants[0].kind} {shlex.quote(grants[0].name)}"
    )


def kafka_lines(grants: Iterable[KafkaGrant], user: str, bootstrap_servers: str) -> list[str]:
    """A command per resource, in the order of their first grants."""
    by_resource: dict[tuple[str, str], list[KafkaGrant]] = {}
    for grant in grants:
        by_resource.setdefault((grant.kind, grant.name), []).append(grant)
    return [kafka_line(found, user, bootstrap_servers) for found in by_resource.values()]


@dataclass(frozen=True, slots=True)
class CassandraGrant:
    """A permission on `KEYSPACE x`, `TABLE x.y` or ALL_KEYSPACES."""

    permission: str
    resource: str

    def __str__(self) -> str:
        return f"{self.permission} ON {self.resource}"

    def line(self, role: str) -> str:
        """The statement that grants it."""
        return f"GRANT {self} TO {quote_role(role)};"


def quote_role(role: str) -> str:
    """A role's name as CQL takes it."""
    return role if _PLAIN_NAME.fullmatch(role) else '"' + role.replace('"', '""') + '"'


def read_refusal(said: str) -> tuple[str, CassandraGrant] | None:
    """(role, what it lacks) of Cassandra's sentence; None where it is about something else.

    Reading is granted by keyspace, so that is what a table's refusal asks for; the servers' own
    tables are granted one by one.
    """
    found = _REFUSED.search(said)
    if found is None:
        return None
    permission, resource = found["permission"], found["resource"]
    if resource == "all keyspaces":
        return found["user"], CassandraGrant(permission, ALL_KEYSPACES)
    if table := _TABLE.fullmatch(resource):
        keyspace = table["keyspace"]
        if permission == "SELECT" and not keyspace.startswith("system"):
            return found["user"], CassandraGrant(permission, f"KEYSPACE {keyspace}")
        return found["user"], CassandraGrant(permission, f"TABLE {keyspace}.{table['table']}")
    if keyspace := _KEYSPACE.fullmatch(resource):
        return found["user"], CassandraGrant(permission, f"KEYSPACE {keyspace['keyspace']}")
    return None
