"""What the assets are, as Dagster shows them: the topic, the table, the dead letters."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg
import msgspec

from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.settings import Settings

_KEY = [
    dg.TableColumn(
        "device_id",
        "text",
        description="Who measured: 1 to 256 bytes. First half of the partition key.",
        constraints=dg.TableColumnConstraints(nullable=False),
    ),
    dg.TableColumn(
        "day",
        "date",
        description="UTC day of `timestamp`. Second half of the partition key: always ask by it.",
        constraints=dg.TableColumnConstraints(nullable=False),
    ),
    dg.TableColumn(
        "timestamp",
        "timestamp",
        description="When it was measured, by the device's clock, in milliseconds; newest first.",
        constraints=dg.TableColumnConstraints(nullable=False),
    ),
]


def _values(quantities: Sequence[Quantity]) -> Iterator[dg.TableColumn]:
    for item in quantities:
        unit = item.unit or item.name
        limits = f", {item.least:g} to {item.greatest:g}" if item.has_limits else ""
        lacking = "; empty where no message told it" if item.optional else ""
        yield dg.TableColumn(item.name, item.type, description=f"{unit}{limits}{lacking}.")


def _example(quantities: Sequence[Quantity]) -> str:
    values = {item.name: _value_of(item) for item in quantities}
    message = {"device_id": "device_2", "timestamp": 1735444918.3166866, **values}
    return msgspec.json.encode(message).decode()


def _value_of(item: Quantity) -> float | str:
    if item.type == "text":
        return "ok"
    if item.type == "boolean":
        return True
    value = item.plausible_greatest / 2 if item.has_limits else 1
    return int(value) if item.type in ("int", "bigint") else value


def table_metadata(
    pipeline: Pipeline, table: str, columns: dg.TableSchema | None = None
) -> Mapping[str, Any]:
    """What Dagster shows of a table beside its name: where it is, its columns, whose code it is."""
    settings = pipeline.settings()
    hosts = _addresses(settings.contact_points, settings.cassandra_port)
    return {
        "dagster/table_name": f"{settings.keyspace}.{table}",
        "dagster/uri": f"cassandra://{hosts}/{settings.keyspace}/{table}",
        **({} if columns is None else {"dagster/column_schema": columns}),
        **_code(settings),
    }


def _topic_metadata(settings: Settings, topic: str) -> Mapping[str, Any]:
    return {"dagster/uri": f"kafka://{settings.bootstrap_servers}/{topic}", **_code(settings)}


def _addresses(hosts: Sequence[str], port: int) -> str:
    """Each with its port: the two settings of Cassandra have no secret in them."""
    bare = (host.strip("[]") for host in hosts)
    return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in bare)


def _code(settings: Settings) -> Mapping[str, Any]:
    if not settings.code_url:
        return {}
    with warnings.catch_warnings():
        # Beta for years, and who sets the link can do nothing about it.
        warnings.simplefilter("ignore", dg.BetaWarning)
        link = dg.UrlCodeReference(url=settings.code_url, label="code of this deployment")
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[link])}


def topic_spec(pipeline: Pipeline) -> dg.AssetSpec:
    return dg.AssetSpec(
        pipeline.iot_data,
        group_name=pipeline.group,
        kinds={"kafka"},
        owners=pipeline.settings().owners,
        description=(
            "The topic of readings: one message per reading, or a part of one, in the declared "
            "format.\n\n"
            f"`{_example(pipeline.settings().quantities)}`\n\n"
            "The log is the truth; everything else can be made from it again while Kafka keeps it. "
            "Each ingest run observes here how far behind it ingestion is, and how the run worked: "
            "Overview > Metadata > Plots. The job `simulate` sends a "
            "fleet's readings to it."
        ),
        metadata=_topic_metadata(pipeline.settings(), pipeline.settings().topic),
    )


def _freshness(pipeline: Pipeline) -> dg.FreshnessPolicy | None:
    """Notices ingestion that has stopped though every sensor and schedule is off, too."""
    seconds = pipeline.settings().freshness_seconds
    if not seconds:
        return None
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(seconds=seconds))


def table_spec(pipeline: Pipeline) -> dg.AssetSpec:
    return dg.AssetSpec(
        pipeline.sensor_data,
        freshness_policy=_freshness(pipeline),
        deps=[pipeline.iot_data],
        group_name=pipeline.group,
        kinds={"cassandra", "python"},
        owners=pipeline.settings().owners,
        skippable=True,  # a run steps aside while another one is at work
        description=(
            "The readings, one row per device and millisecond, in Cassandra's table "
            "`sensor_data`.\n\n"
            f"`SELECT * FROM {pipeline.settings().keyspace}.sensor_data WHERE device_id = "
            "'device_2' AND day = '2026-01-31' LIMIT 10`, or `iot readings device_2 --last 1h`.\n\n"
            f"Materialize drains all that lags; the sensor `{pipeline.called('iot_data_lag')}` "
            "does so every few seconds, or keeps a run that writes what arrives "
            "(IOT_INGEST_MODE=follow). "
            "Every offset of the topic is accounted for: the checks on this asset prove it run by "
            "run.\n\n"
            "Pictures of the fleet: under Events, in the newest event, [Show Markdown] "
            "beside a picture's name, or the link beside `pictures`. One page with all of them: "
            "`iot report`. How the runs worked (micro-batches, waiting, latencies): under Events "
            f"of `{pipeline.iot_data.to_user_string()}`."
        ),
        metadata=table_metadata(
            pipeline,
            pipeline.sensor_data.path[-1],
            dg.TableSchema(columns=[*_KEY, *_values(pipeline.settings().quantities)]),
        ),
    )


def dead_letters_spec(pipeline: Pipeline) -> dg.AssetSpec:
    return dg.AssetSpec(
        pipeline.dead_letters,
        deps=[pipeline.iot_data],
        group_name=pipeline.group,
        kinds={"kafka"},
        owners=pipeline.settings().owners,
        description=(
            "The topic of records that could not be readings, kept without time limit: the "
            "message's bytes unchanged, and headers that say where it was, why it was rejected, "
            "and when. "
            "`iot dead-letters list` shows them. Each run that rejected records says how many, for "
            "which reasons and from whom, and how many are kept: Overview > Metadata > Plots."
        ),
        metadata=_topic_metadata(pipeline.settings(), pipeline.settings().dead_letter_topic),
    )


def audited_days_spec(pipeline: Pipeline) -> dg.AssetSpec:
    return dg.AssetSpec(
        pipeline.audited_days,
        deps=[pipeline.sensor_data],
        group_name=pipeline.group,
        kinds={"cassandra"},
        owners=pipeline.settings().owners,
        description=(
            "Which days of readings are proven by an audit, which were only counted, and which "
            "were not looked at: the table `audited_days`. "
            f"Each run of the job `{pipeline.called('audit')}` leaves the last 60 days here, as of "
            f"then, beside `days`. The schedule "
            f"`{pipeline.called('audit_nightly')}` audits each day once it is over. "
            "`iot audits` shows the days as of now."
        ),
        metadata=table_metadata(pipeline, pipeline.audited_days.path[-1]),
    )
