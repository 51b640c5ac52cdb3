"""How Cassandra is reached, and how many replicas a question or a write waits for."""

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from iot_pipeline.settings_kafka import half_of_a_pair
from iot_pipeline.settings_sources import unreadable_files
from iot_pipeline.tls import Tls, why_no_bundle

# BaseModel.schema() is a method that pydantic no longer wants called, and nothing here does.
warnings.filterwarnings("ignore", 'Field name "schema" in "CassandraSettings"', UserWarning)

_WEAK = {
    "ANY": "a hint on one node would count as stored, and is gone with it",
    "ONE": "one replica would do: its disk is lost, and acknowledged readings with it",
    "LOCAL_ONE": "one replica would do: its disk is lost, and acknowledged readings with it",
    "TWO": "two replicas of five are no majority: a read would miss what a write stored",
    "THREE": "three replicas of seven are no majority: a read would miss what a write stored",
}


def _replicas(value: object) -> object:
    """`3`, or `dc1:3,dc2:3` as datacenter -> replicas."""
    if not isinstance(value, str) or ":" not in value:
        return value
    found: dict[str, int] = {}
    for part in value.split(","):
        match = re.fullmatch(r"\s*([A-Za-z0-9._-]+)\s*:\s*(\d{1,2})\s*", part)
        if match is None or not 1 <= int(match[2]) <= 15 or match[1] in found:
            raise ValueError("expected a number, or datacenters such as dc1:3,dc2:3")
        found[match[1]] = int(match[2])
    return found


def _strong(value: object) -> object:
    if value in _WEAK:
        raise ValueError(f"refused: {_WEAK[str(value)]}")
    return value


class CassandraSettings(BaseModel):
    """The door to Cassandra. `Settings` checks it as a whole."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    cassandra_secure_connect_bundle: str = ""
    """Astra's zip file, which says where the nodes are and whom to trust; no contact points then"""
    cassandra_username: str = ""
    """user of Cassandra (PasswordAuthenticator); empty: no login"""
    cassandra_password: SecretStr = SecretStr("")
    """its password; IOT_CASSANDRA_PASSWORD_FILE names a file that holds it"""
    cassandra_ssl: bool = False
    """encrypt connections to Cassandra, and check its certificates"""
    cassandra_ssl_ca_location: str = ""
    """PEM file of the authority that signed the nodes' certificates; empty: the system's"""
    cassandra_ssl_check_hostname: bool = True
    """a node's certificate must name its address (the driver connects to IP addresses)"""
    cassandra_ssl_certificate_location: str = ""
    """PEM file of our own certificate, where nodes ask for one"""
    cassandra_ssl_key_location: str = ""
    """PEM file of its key"""
    cassandra_ssl_key_password: SecretStr = SecretStr("")
    """password of the key; IOT_CASSANDRA_SSL_KEY_PASSWORD_FILE names a file that holds it"""
    write_consistency: Annotated[
        Literal["LOCAL_QUORUM", "QUORUM", "EACH_QUORUM", "ALL"], BeforeValidator(_strong)
    ] = "LOCAL_QUORUM"
    """replicas that acknowledge a row before it counts as stored"""
    read_consistency: Annotated[
        Literal["LOCAL_QUORUM", "QUORUM", "ALL"], BeforeValidator(_strong)
    ] = "LOCAL_QUORUM"
    """replicas that are asked for rows"""
    keyspace_replication: Annotated[
        Annotated[int, Field(ge=1, le=15)] | dict[str, int], BeforeValidator(_replicas)
    ] = 1
    """replicas of a new keyspace: a number in the local datacenter, or dc1:3,dc2:3"""
    schema: Literal["ours", "external"] = "ours"  # type: ignore[assignment]
    """who makes keyspace and tables: `iot setup`, or external: a DBA, and we compare"""
    accept_periodic_commitlog: str = ""
    """why nodes with commitlog_sync: periodic do not die together; counts with several replicas"""

    @property
    def cassandra_tls(self) -> Tls | None:
        """What Cassandra's client trusts and shows; None where nothing is encrypted."""
        if not self.cassandra_ssl:
            return None
        return Tls(
            "IOT_CASSANDRA_SSL",
            self.cassandra_ssl_ca_location,
            self.cassandra_ssl_certificate_location,
            self.cassandra_ssl_key_location,
            self.cassandra_ssl_key_password.get_secret_value(),
            self.cassandra_ssl_check_hostname,
        )


def wrong_with(settings: CassandraSettings) -> Iterator[str]:
    """A sentence for each thing that cannot work, though every value alone is well formed."""
    yield from _wrong_with_bundle(settings)
    password = settings.cassandra_password.get_secret_value()
    if settings.cassandra_username and not password:
        yield (
            f"IOT_CASSANDRA_USERNAME={settings.cassandra_username} needs IOT_CASSANDRA_PASSWORD "
            "(or IOT_CASSANDRA_PASSWORD_FILE)"
        )
    if password and not settings.cassandra_username:
        yield "IOT_CASSANDRA_PASSWORD needs IOT_CASSANDRA_USERNAME"
    locations = [
        (name, getattr(settings, name))
        for name in type(settings).model_fields
        if name.startswith("cassandra_ssl_") and name.endswith("_location")
    ]
    for name, path in locations:
        if path and not settings.cassandra_ssl:
            yield f"IOT_{name.upper()} is set, and nothing is encrypted: set IOT_CASSANDRA_SSL=true"
    yield from unreadable_files(locations)
    yield from half_of_a_pair(settings, "cassandra_ssl")
    replicas = settings.keyspace_replication
    if isinstance(replicas, Mapping) and (why := why_reads_miss_writes(settings, len(replicas))):
        yield why


def _wrong_with_bundle(settings: CassandraSettings) -> Iterator[str]:
    path = settings.cassandra_secure_connect_bundle
    if not path:
        return
    variable = "IOT_CASSANDRA_SECURE_CONNECT_BUNDLE"
    others = [
        f"IOT_{name.upper()}"
        for name in type(settings).model_fields
        if name in settings.model_fields_set
        and (name in ("contact_points", "cassandra_port") or name.startswith("cassandra_ssl"))
    ]
    if others:
        yield (
            f"{variable} and {', '.join(others)} are both set: expected one of them, for the "
            "bundle says where the nodes are and whom to trust"
        )
    unreadable = list(unreadable_files([("cassandra_secure_connect_bundle", path)]))
    yield from unreadable
    if not unreadable and (why := why_no_bundle(path)):
        yield f"{variable}={path}: {why}"


def why_reads_miss_writes(settings: CassandraSettings, datacenters: int) -> str:
    """Why these levels are no majority of each other with so many datacenters; else empty."""
    write, read = settings.write_consistency, settings.read_consistency
    local = {"LOCAL_QUORUM": "LOCAL_QUORUM", "EACH_QUORUM": "LOCAL_QUORUM", "QUORUM": "QUORUM"}
    if datacenters < 2 or "ALL" in (write, read) or local[write] == read:
        return ""
    if write == "EACH_QUORUM":  # a majority everywhere is a majority of all
        return ""
    return (
        f"IOT_WRITE_CONSISTENCY={write} with IOT_READ_CONSISTENCY={read} and {datacenters} "
        "datacenters: a read can miss an acknowledged row, and the audit would call it lost. Set "
        f"both to {write}, or IOT_WRITE_CONSISTENCY=EACH_QUORUM"
    )
