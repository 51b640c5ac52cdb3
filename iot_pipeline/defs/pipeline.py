"""One pipeline in Dagster: which settings it has, and what everything of it is called there.

The pipeline without a name is that of the process's environment, with the names that the documents
use: assets under `iot/`, the jobs `ingest`, `simulate` and so on. One with a name has its assets
under that name, and the name before those of its jobs, sensors and schedules, so that any number of
them, and a team's own jobs, live in one deployment.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import dagster as dg

from iot_pipeline.defs.names import PIPELINE
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_DEFAULT_PREFIX = "iot"
# What two pipelines of one deployment must not have in common, by the settings' names.
_OF_ONE_ALONE = (
    (("topic", "bootstrap_servers"), "read the same topic: its offsets have one ledger"),
    (("keyspace", "contact_points", "cassandra_port"), "write to the same keyspace"),
    (("data_dir",), "keep local state in the same folder"),
)


@dataclass(frozen=True)
class Pipeline:
    """One topic, its table, and what is asked of them.

    Args:
        name: lower-case letters, digits and `_`; empty: the one of the environment.
        env: its settings as IOT_ variables; None: this process's environment and `.env`, read
            again whenever they are needed.

    Raises:
        ConfigurationError: the name is none, or a setting is wrong.
    """

    name: str = ""
    # Passwords may be among them: a pipeline is printed without.
    env: Mapping[str, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.name and (not _NAME.fullmatch(self.name) or self.name == _DEFAULT_PREFIX):
            raise ConfigurationError(
                f"pipeline {self.name!r}: expected a name of up to 40 lower-case letters, digits "
                f"and _, that begins with a letter and is not {_DEFAULT_PREFIX!r}"
            )
        if self.name and self.env is None:
            raise ConfigurationError(
                f"pipeline {self.name}: expected `env`, its settings as IOT_ variables; the "
                "environment of the process is that of the pipeline without a name"
            )
        if self.env is not None:
            self._checked_settings  # noqa: B018  # wrong ones fail here, before any I/O

    def settings(self) -> Settings:
        """Its settings as they are now.

        Raises:
            ConfigurationError: one of the environment is wrong.
        """
        return Settings.from_env() if self.env is None else self._checked_settings

    @cached_property
    def _checked_settings(self) -> Settings:
        try:
            return Settings.from_env(self.env)
        except ConfigurationError as exc:
            raise ConfigurationError(f"pipeline {_named(self)}: {exc}") from None

    def called(self, what: str) -> str:
        """What its job, sensor, schedule, op or resource of this name is called in Dagster."""
        return f"{self.name}_{what}" if self.name else what

    @property
    def group(self) -> str:
        return self.name or _DEFAULT_PREFIX

    @property
    def iot_data(self) -> dg.AssetKey:
        """The topic."""
        return self._key("iot_data")

    @property
    def sensor_data(self) -> dg.AssetKey:
        """The table of readings."""
        return self._key("sensor_data")

    @property
    def dead_letters(self) -> dg.AssetKey:
        return self._key("dead_letters")

    @property
    def audited_days(self) -> dg.AssetKey:
        """Which days of readings are proven."""
        return self._key("audited_days")

    @property
    def hourly_readings(self) -> dg.AssetKey:
        return self._key("hourly_readings")

    @property
    def daily_readings(self) -> dg.AssetKey:
        return self._key("daily_readings")

    @property
    def resource_keys(self) -> set[str]:
        """What its ops require: `defs.resources.connected` finds them."""
        return {self.called("kafka"), self.called("cassandra")}

    @property
    def tags(self) -> dict[str, str]:
        """On each of its jobs."""
        return {PIPELINE: self.name} if self.name else {}

    def is_own(self, run: dg.DagsterRun) -> bool:
        """Whether a run is of this pipeline; all are of the one without a name."""
        selected = run.asset_selection or ()
        return (
            not self.name
            or run.tags.get(PIPELINE) == self.name
            or (bool(selected) and all(key.path[0] == self.group for key in selected))
        )

    @property
    def lane(self) -> str:
        """What its lanes are called by: two topics of one name may be on two clusters."""
        topic = self.settings().topic
        return f"{self.name}/{topic}" if self.name else topic

    def _key(self, table: str) -> dg.AssetKey:
        return dg.AssetKey([self.group, table])


def _named(pipeline: Pipeline) -> str:
    return pipeline.name or "without a name"


def refuse_shared(pipelines: Sequence[Pipeline]) -> None:
    """Refuse pipelines that would work on each other's data.

    Raises:
        ConfigurationError: two have one name, topic, keyspace or data folder.
    """
    names = Counter(pipeline.name for pipeline in pipelines)
    for name, times in names.items():
        if times > 1:
            raise ConfigurationError(f"{times} pipelines are called {name!r}: expected one of each")
    for number, one in enumerate(pipelines):
        for other in pipelines[:number]:
            for fields, what in _OF_ONE_ALONE:
                values = [
                    tuple(getattr(pipeline.settings(), field) for field in fields)
                    for pipeline in (other, one)
                ]
                if values[0] == values[1]:
                    raise ConfigurationError(
                        f"pipelines {_named(other)} and {_named(one)} {what}: set "
                        f"IOT_{fields[0].upper()} of one of them"
                    )
