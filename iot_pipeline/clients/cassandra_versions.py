"""Which Cassandra answers, and whether everything here works on it.

Shown on Apache Cassandra 4.1 and 5.0: `make test` runs on both. What is known not to work is
refused by name, what nobody tried is said once.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

from cassandra import RequestValidationException

from iot_pipeline.errors import ConfigurationError

_log = logging.getLogger(__name__)

OLDEST = (4, 1)
NEWEST = (5, 0)
_KEYSPACES_HOST = re.compile(r"cassandra[.-].*\.(amazonaws\.com(\.cn)?|api\.aws)", re.IGNORECASE)
_NO_KEYSPACES = (
    "this is Amazon Keyspaces, and it cannot hold what is promised here: it takes at most 30 "
    "statements a batch (rows go in batches of up to 300), and has no COUNT, by which missing rows "
    "are found. Nothing was written. Use Apache Cassandra 4.1 or 5.0"
)
_SCYLLA = (
    "SELECT table_name FROM system_schema.tables "
    "WHERE keyspace_name = 'system_schema' AND table_name = 'scylla_tables'"
)
# Times in pieces of an hour: what `iot readings --every`, pictures and counts are asked with.
_GROUPS_BY_TIME = "SELECT floor(toTimestamp(now()), 1h) FROM system.local"

_said: set[str] = set()


def refuse_by_name(contact_points: Sequence[str]) -> None:
    """Before anything is contacted.

    Raises:
        ConfigurationError: it is known from its host name what answers there.
    """
    for host in contact_points:
        if _KEYSPACES_HOST.fullmatch(host):
            raise ConfigurationError(f"IOT_CONTACT_POINTS={host}: {_NO_KEYSPACES}")


def check_version(session: Any) -> None:
    """Look at what has answered, and say once where nobody has tried it.

    Raises:
        ConfigurationError: what is asked for here does not work on it.
        DriverException: it did not answer.
    """
    metadata = session.cluster.metadata
    refuse_server(str(metadata.cluster_name))
    versions = [str(host.release_version or "") for host in metadata.all_hosts()]
    oldest = oldest_of(versions)
    if oldest is not None and OLDEST <= oldest[:2] <= NEWEST:
        return
    name = ".".join(map(str, oldest or ())) or "of an unknown version"
    if oldest is not None and oldest[:2] > NEWEST:
        _warn_once(f"Cassandra {name} was not tried: 4.1 and 5.0 were")
    elif _answers(session, _SCYLLA, with_rows=True):
        _warn_once(
            "this is ScyllaDB, which was not tried: 4.1 and 5.0 of Apache Cassandra were. Counts "
            "and means by time need floor(), which it may lack"
        )
    elif not _answers(session, _GROUPS_BY_TIME):
        raise ConfigurationError(
            f"this is Cassandra {name}: readings are counted and averaged by grouping times, "
            "which came with 4.1. Nothing was written. Upgrade its nodes to 4.1 or 5.0"
        )
    else:
        _warn_once(f"this Cassandra calls itself {name}, and was not tried: 4.1 and 5.0 were")


def refuse_server(cluster_name: str) -> None:
    """By the name that its cluster gives itself.

    Raises:
        ConfigurationError: it is Amazon Keyspaces.
    """
    if cluster_name.strip().lower() == "amazon keyspaces":
        raise ConfigurationError(_NO_KEYSPACES)


def oldest_of(versions: Iterable[str]) -> tuple[int, ...] | None:
    """The lowest of them, as numbers; None where none says one."""
    found = [match for text in versions if (match := re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text))]
    return min((tuple(int(n) for n in match.groups() if n) for match in found), default=None)


def _answers(session: Any, cql: str, *, with_rows: bool = False) -> bool:
    try:
        rows = list(session.execute(cql))
    except RequestValidationException:
        return False  # it does not understand the question; one that is slow or away is an error
    return bool(rows) or not with_rows


def _warn_once(sentence: str) -> None:
    if sentence not in _said:
        _said.add(sentence)
        _log.warning("%s", sentence)
