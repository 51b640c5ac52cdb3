"""Two pipelines of readings, one from Python and one from YAML, beside an asset of the team."""

import os
from pathlib import Path

import dagster as dg

from iot_pipeline import Pipeline, build_definitions

north = Pipeline(
    "north",
    {
        "IOT_TOPIC": "readings_north",
        "IOT_KEYSPACE": "north",
        "IOT_BOOTSTRAP_SERVERS": os.environ.get("KAFKA", "127.0.0.1:9092"),
        "IOT_CONTACT_POINTS": os.environ.get("CASSANDRA", "127.0.0.1"),
        "IOT_CASSANDRA_PORT": os.environ.get("CASSANDRA_PORT", "9042"),
        "IOT_DATA_DIR": os.environ.get("DATA", "data") + "/north",
        "IOT_INGEST_MODE": "follow",
    },
)


@dg.asset(deps=[north.hourly_readings])
def warm_hours() -> None:
    """The team's own: what it makes of the hours of `north`."""


defs = dg.Definitions.merge(
    dg.Definitions(assets=[warm_hours]),
    build_definitions([north]),
    dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
)
