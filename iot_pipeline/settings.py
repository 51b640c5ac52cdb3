"""Settings from the environment and `.env`, read once, at the edge.

Every variable starts with `IOT_`, has a default that fits the local services, and is checked
before anything is contacted. What a run may change is Dagster config, never a setting; where a
server is and what is secret is a setting, never Dagster config.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from iot_pipeline import (
    settings_alerts,
    settings_cassandra,
    settings_dagster,
    settings_kafka,
    settings_registry,
)
from iot_pipeline.core.checks.topics import Acceptable
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.proof.dead_letters import dead_letter_topic_of
from iot_pipeline.core.reading.declaration import SEED, Declaration
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.reading.quantities import LIMITS, Quantity
from iot_pipeline.core.reading.retention import Retention
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings_alerts import AlertSettings
from iot_pipeline.settings_cassandra import CassandraSettings
from iot_pipeline.settings_dagster import DagsterSettings, split
from iot_pipeline.settings_kafka import KafkaSettings, is_secret, take_properties
from iot_pipeline.settings_local import LocalSettings, Port
from iot_pipeline.settings_reading import declared_limits, read_declaration
from iot_pipeline.settings_registry import RegistrySettings
from iot_pipeline.settings_sources import (
    env_file,
    in_project,
    our_variables,
    project_root,
    read_env_file,
    take_secrets_from_files,
)
from iot_pipeline.settings_words import GONE, HIDDEN, explain, shown
from iot_pipeline.tls import Tls


def _limits() -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Name, type and definition of each setting that its owner in core declares."""
    for item in fields(QualityLimits):
        if about := item.metadata:
            definition = Field(item.default, description=about["meaning"], **about["bounds"])
            yield item.name, (item.type, definition)


if TYPE_CHECKING:
    _Limits = BaseModel
else:
    _Limits = create_model("_Limits", **dict(_limits()))


class Settings(
    LocalSettings,
    KafkaSettings,
    CassandraSettings,
    RegistrySettings,
    AlertSettings,
    DagsterSettings,
    _Limits,
):
    """All settings, valid, immutable. Durations are seconds, sizes are as the name ends.

    The limits of quality are declared in `core.fleet.quality`, those of each quantity in the
    declaration of the readings, and `from_env` gives a class that has them, too;
    `reading_rules` and `quality_limits` are these values as set.
    """

    _declared: ClassVar[Declaration] = SEED

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _kafka_properties: dict[str, SecretStr] = PrivateAttr(default_factory=dict)

    reading: str = ""
    """YAML file that declares the readings; empty: the original message: docs/readings.md"""

    # Where things are.
    bootstrap_servers: str = ""
    """Kafka brokers, host:port, comma-separated"""
    contact_points: tuple[str, ...] = Field(("127.0.0.1",), min_length=1)
    """Cassandra nodes, comma-separated, no ports"""
    cassandra_port: Port = 9042
    """CQL port of every contact point"""
    datacenter: str = ""
    """datacenter to talk to; empty: that of the first node"""
    data_dir: Path = Path("data")
    """local state, logs, manifests"""

    # Names: two pipelines may share servers under other names.
    topic: str = Field(
        "iot_data",
        pattern=r"^[A-Za-z0-9._-]{1,240}$",
        json_schema_extra={"form": "letters, digits, ., _ and -, at most 240"},
    )
    """topic of the readings"""
    keyspace: str = Field(
        "iot_data",
        pattern=r"^[a-z][a-z0-9_]{0,47}$",
        json_schema_extra={"form": "a small letter, then small letters, digits and _, at most 48"},
    )
    """keyspace of all tables"""

    # What `iot setup` makes.
    partitions: int = Field(4, ge=1, le=10_000)
    """Kafka partitions of a new topic"""
    topic_retention_hours: float = Field(168, ge=-1)
    """how long Kafka keeps readings; -1: for ever"""
    topic_compression: Literal["producer", "zstd"] = "producer"
    """producer: batches stay as they were sent; zstd: brokers pack them anew, and one that unpacks
    to more than 100 MB is unreadable instead of held in memory"""
    topic_replication: int = Field(1, ge=1, le=15)
    """replication factor of new topics"""

    # Rules of ingestion.
    start_at: str = "earliest"
    """first contact with a topic starts at: earliest, latest, or a UTC time"""
    retention_days: float = Field(0, ge=0, le=7300)
    """how long rows live after they arrived in Kafka; 0: for ever; `groups` may have another"""
    accept_producer_timestamps: bool = False
    """accept a topic that is not LogAppendTime (write times then lie)"""
    accept_topic_risks: tuple[Acceptable, ...] = ()
    """what topic_is_safe says without a warning, by Kafka's name: replication.factor, ..."""
    on_expired: Literal["halt", "record"] = "halt"
    """records deleted unread: halt, or record the loss and go on"""
    on_unreadable: Literal["halt", "record"] = "halt"
    """records that cannot be read: halt, or record the loss and go on"""
    max_value_bytes: int = Field(65_536, ge=64, le=16_777_216)
    """larger messages are dead letters"""

    # How ingestion works.
    micro_batch_records: int = Field(50_000, ge=1, le=500_000)
    """records of one micro-batch, about; with many devices up to 20 times that"""
    memory_budget_mb: int = Field(256, ge=128, le=65_536)
    """memory for records and rows of one process, in MB"""
    micro_batch_seconds: float = Field(1.0, gt=0, le=60)
    """how long a micro-batch may gather records"""
    requests_in_flight: int = Field(128, ge=1, le=1024)
    """CQL batches on their way to Cassandra at once"""
    max_rows_per_second: int = Field(0, ge=0, le=10_000_000)
    """rows a second that one run writes at most; 0: no limit; `iot throttle` changes it"""
    max_bytes_per_second: int = Field(0, ge=0, le=10_000_000_000)
    """the same in bytes of the requests, about; 0: no limit"""
    follow_seconds: float = Field(300, gt=0, le=86_400)
    """how long a run that follows the topic stays"""
    write_path: Literal["packed", "driver"] = "packed"
    """how rows are encoded: packed by us, or by the driver; the same rows"""
    retry_seconds: float = Field(30, ge=0, le=3600)
    """transient errors are retried this long, then the run fails"""
    serial_consistency: Literal["SERIAL", "LOCAL_SERIAL"] = "SERIAL"
    """LOCAL_SERIAL only when one datacenter alone ingests"""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read the environment over `.env` over the defaults, and check all of it.

        Of the quantities that IOT_READING's file declares each limit is a setting, too.

        Args:
            env: variables instead of this process's; `.env` is then not read.

        Raises:
            ConfigurationError: names each wrong variable, its value and what is expected;
                also for an `IOT_` variable that does not exist (a misspelt one would
                otherwise be ignored).
        """
        in_file: Mapping[str, str] = {}
        if env is None:
            env, in_file = os.environ, read_env_file(env_file())
        given = our_variables({**in_file, **env})
        declared = declared_settings(read_declaration(given.get("reading", "")))
        return cast(Self, declared._checked(given, env))

    @classmethod
    def _checked(cls, given: dict[str, str], env: Mapping[str, str]) -> Self:
        origins = {
            name: "environment" if env.get(f"IOT_{name.upper()}") == value else ".env"
            for name, value in given.items()
        }
        secrets = [name for name in cls.model_fields if is_secret(cls, name)]
        known = {*cls.model_fields, *(f"{name}_file" for name in secrets)}
        unknown = sorted(name for name in given.keys() - known if not name.startswith("kafka__"))
        if unknown:
            raise ConfigurationError(
                f"{', '.join(f'IOT_{name.upper()}' for name in unknown)}: no such setting; "
                + GONE.get(unknown[0], "`iot settings` lists those there are")
            )
        properties, from_file = take_properties(given)
        origins |= from_file | take_secrets_from_files(given, secrets)
        wrong = ""
        try:
            settings = cls.model_validate(given)
        except ValidationError as exc:
            wrong = explain(exc, cls)
        # Raised here, where no traceback has pydantic's error, which prints what it was given.
        if wrong:
            raise ConfigurationError(wrong)
        settings._origins, settings._kafka_properties = origins, properties
        return settings

    @field_validator("contact_points", "accept_topic_risks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split(value)

    @field_validator("contact_points")
    @classmethod
    def _no_ports(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not re.fullmatch(r"[A-Za-z0-9._-]+|\[?[0-9a-fA-F:]+\]?", host) or (
                host.count(":") == 1
            ):
                raise ValueError(
                    "expected host names without ports; IOT_CASSANDRA_PORT is the port"
                )
        return value

    @field_validator("start_at")
    @classmethod
    def _start(cls, value: str) -> str:
        if value not in ("earliest", "latest"):
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                raise ValueError(
                    "expected earliest, latest or a time such as 2026-01-31T00:00:00+00:00"
                ) from None
            if moment.tzinfo is None:
                raise ValueError("expected a time with its zone, such as 2026-01-31T00:00:00+00:00")
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if not self.bootstrap_servers:
            object.__setattr__(self, "bootstrap_servers", f"127.0.0.1:{self.kafka_port}")
        for address in self.bootstrap_servers.split(","):
            host, _, number = address.strip().rpartition(":")
            if not host or not number.isdecimal() or not 1 <= int(number) <= 65535:
                raise ValueError(
                    f"IOT_BOOTSTRAP_SERVERS={self.bootstrap_servers}: expected host:port, "
                    "comma-separated"
                )
        for quantity in self.quantities:
            for least, greatest in (
                ("least", "greatest"),
                ("plausible_least", "plausible_greatest"),
            ):
                low, high = getattr(quantity, least), getattr(quantity, greatest)
                if not low < high:
                    raise ValueError(
                        f"IOT_{quantity.setting_of(least).upper()}={low}: expected less than "
                        f"IOT_{quantity.setting_of(greatest).upper()}={high}"
                    )
        if not self.data_dir.is_absolute():
            object.__setattr__(self, "data_dir", project_root() / self.data_dir)
        for name in type(self).model_fields:
            if name.endswith(("_location", "_bundle")):
                object.__setattr__(self, name, in_project(getattr(self, name)))
        wrong = [
            *settings_kafka.wrong_with(self),
            *settings_cassandra.wrong_with(self),
            *settings_registry.wrong_with(self),
            *settings_alerts.wrong_with(self),
            *settings_dagster.wrong_with(self, self.follow_seconds),
        ]
        form = self._declared.format
        if form.asks_registry and not self.registry_url:
            wrong.append(
                f"IOT_READING={self.reading}: format: {form.name} reads by the schemas of a "
                "registry: set IOT_REGISTRY_URL, or name a file, `schema: ...`"
            )
        if wrong:
            raise ValueError("; ".join(wrong))
        owners: dict[int, str] = {}
        ports = [name for name in type(self).model_fields if name.endswith("_port")]
        # Those that were set come last: of two that are equal, a person reads the one they set.
        for name in sorted(ports, key=lambda name: name in self.model_fields_set):
            port, variable = getattr(self, name), f"IOT_{name.upper()}"
            if port in owners:
                raise ValueError(f"{variable}={port}: expected another port than {owners[port]}'s")
            owners[port] = variable
        return self

    @property
    def declaration(self) -> Declaration:
        """How each message is read, with the limits that are set."""
        return self._declared.with_quantities(self.quantities)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """All quantities, with the limits that are set."""
        return tuple(
            replace(
                quantity,
                **{
                    name: getattr(self, setting)
                    for name in LIMITS
                    if (setting := quantity.setting_of(name)) in type(self).model_fields
                },
            )
            for quantity in self._declared.quantities
        )

    @property
    def retention(self) -> Retention:
        """How long rows live, by device."""
        return Retention.of(self.retention_days, self._declared.groups)

    @property
    def reading_rules(self) -> ReadingRules:
        """What a reading is at all."""
        return ReadingRules(self.declaration, self.max_value_bytes)

    @property
    def quality_limits(self) -> QualityLimits:
        """When a device is well."""
        set_here = {
            item.name: getattr(self, item.name) for item in fields(QualityLimits) if item.metadata
        }
        return QualityLimits(self.quantities, **set_here).with_groups(self._declared.groups)

    @property
    def kafka_tls(self) -> Tls | None:
        """What Kafka's clients trust and show; None where nothing is encrypted."""
        if not self.kafka_has_tls:
            return None
        how = self.kafka_properties.get("ssl.endpoint.identification.algorithm", "https")
        return Tls(
            "IOT_KAFKA_SSL",
            self.kafka_ssl_ca_location,
            self.kafka_ssl_certificate_location,
            self.kafka_ssl_key_location,
            self.kafka_ssl_key_password.get_secret_value(),
            check_hostname=how != "none",
        )

    @property
    def kafka_properties(self) -> dict[str, str]:
        """Librdkafka's properties that have no setting of their own; the values may be secret."""
        return {name: value.get_secret_value() for name, value in self._kafka_properties.items()}

    @property
    def dead_letter_topic(self) -> str:
        return dead_letter_topic_of(self.topic)

    @property
    def consumer_group(self) -> str:
        return f"iot_pipeline.{self.topic}"

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """(variable, value with secrets hidden, description, where it comes from) per setting.

        It comes from the environment, from `.env`, from another setting; empty: it is the default.
        """
        inherited: list[type[BaseModel]] = [
            DagsterSettings,
            KafkaSettings,
            CassandraSettings,
            RegistrySettings,
            AlertSettings,
            LocalSettings,
            declared_limits(self._declared),
            _Limits,
        ]

        def place(name: str) -> int:
            found = (i for i, kind in enumerate(inherited, 1) if name in kind.model_fields)
            return next(found, 0)

        for name in sorted(type(self).model_fields, key=place):
            origin = self._origins.get(name, "")
            if name == "bootstrap_servers" and not origin and "kafka_port" in self._origins:
                origin = "IOT_KAFKA_PORT"
            meaning = type(self).model_fields[name].description or ""
            yield f"IOT_{name.upper()}", shown(getattr(self, name)), meaning, origin
        for name in sorted(self._kafka_properties):
            variable = f"IOT_KAFKA__{name.replace('.', '_').upper()}"
            origin = self._origins.get(name, self._origins.get(variable[4:].lower(), ""))
            yield variable, HIDDEN, f"librdkafka's {name}", origin


@cache
def declared_settings(declaration: Declaration) -> type[Settings]:
    """The settings of a pipeline that reads by a declaration: each limit of its quantities, too.

    Raises:
        ConfigurationError: a limit would have the name of another setting.
    """
    limits = declared_limits(declaration)
    if twice := sorted(limits.model_fields.keys() & Settings.model_fields.keys()):
        raise ConfigurationError(
            f"IOT_READING: IOT_{twice[0].upper()} is a setting already, so the limit of a quantity "
            "cannot be called so; expected another name of the quantity"
        )
    made = type("Settings", (Settings, limits), {"__module__": __name__, "_declared": declaration})
    return cast(type[Settings], made)
