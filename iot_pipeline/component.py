"""A pipeline as a Dagster component: a few lines of YAML in a team's project (`defs.yaml`)."""

import re

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field

from iot_pipeline.definitions import build_definitions
from iot_pipeline.defs.pipeline import Pipeline


class _Example(dg.Scaffolder[BaseModel]):
    """Writes a `defs.yaml` to be edited: every address a local one, every name that of the folder.

    `dg scaffold defs iot_pipeline.KafkaToCassandra FOLDER`.
    """

    def scaffold(self, request: dg.ScaffoldRequest[BaseModel]) -> None:
        name = re.sub(r"[^a-z0-9_]", "_", request.target_path.name.lower())
        attributes = {
            "name": name,
            "topic": "iot_data",
            "keyspace": name,
            "bootstrap_servers": "127.0.0.1:9092",
            "contact_points": "127.0.0.1",
            "data_dir": f"data/{name}",
            "settings": {"ingest_mode": "follow"},
        }
        dg.scaffold_component(request, attributes)


@dg.scaffold_with(_Example)
class KafkaToCassandra(dg.Component, dg.Model, dg.Resolvable):
    """IoT readings from a Kafka topic into Cassandra, every offset accounted for.

    Assets for the topic, the table with its checks, the dead letters and the rollups; jobs to
    ingest, to set up, to audit, to replay and to simulate; sensors and schedules that start
    stopped.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str
    """Stands before the names of its jobs and sensors, and is the first part of its asset keys."""
    topic: str
    """Kafka topic of the readings; its dead letters go to <topic>.dlq."""
    keyspace: str
    """Cassandra keyspace, of this pipeline alone."""
    bootstrap_servers: str
    """Kafka brokers, host:port, comma-separated."""
    contact_points: str
    """Cassandra nodes, comma-separated, no ports."""
    data_dir: str
    """Folder for reports, manifests and what else is local, of this pipeline alone."""
    reading: str = ""
    """Declaration of its readings, a YAML file; a relative path begins at the folder of the
    defs.yaml. Empty: the original message."""
    settings: dict[str, str | bool | int | float] = Field({})
    """Any other setting, as `iot settings` lists them, in lower case without IOT_; secrets as
    "{{ env.CASSANDRA_PASSWORD }}"."""

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions of the pipeline.

        Raises:
            ConfigurationError: a setting is wrong.
        """
        named = {
            field: getattr(self, field)
            for field in ("topic", "keyspace", "bootstrap_servers", "contact_points", "data_dir")
        }
        if self.reading:
            named["reading"] = str(context.path / self.reading)
        asked = {**self.settings, **named}
        env = {f"IOT_{name.upper()}": str(value) for name, value in asked.items()}
        return build_definitions([Pipeline(self.name, env)])
