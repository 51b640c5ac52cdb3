from datetime import UTC, datetime

import click

from iot_pipeline.cli.output import json_option, print_json, print_table
from iot_pipeline.connections import open_connections
from iot_pipeline.core.reading.lag import total_lag
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.lag import read_lag


@click.command("lag")
@json_option
def lag_command(as_json: bool) -> None:
    """Show how far ingestion is behind Kafka, in offsets and in seconds.

    Seconds are the age of the record at the checkpoint, by Kafka's clock; 0 when none waits.
    """
    settings = Settings.from_env()
    with open_connections(settings) as connections:
        lags = read_lag(connections.log, connections.ledger, settings.topic, datetime.now(UTC))
    total = total_lag(lags)
    if as_json:
        print_json(
            {
                "topic": settings.topic,
                "partitions": [
                    {
                        "partition": lag.state.partition,
                        "checkpoint": lag.state.checkpoint,
                        "low_watermark": lag.state.low,
                        "last_stable_offset": lag.state.last_stable,
                        "lag": lag.state.lag,
                        "lag_seconds": round(lag.lag_seconds, 3),
                    }
                    for lag in lags
                ],
                "lag": total.lag_offsets,
                "lag_seconds": round(total.lag_seconds, 3),
            }
        )
        return
    rows: list[tuple[object, ...]] = [
        (
            lag.state.partition,
            "never ingested" if lag.state.checkpoint is None else lag.state.checkpoint,
            lag.state.last_stable,
            f"{lag.state.lag:,}",
            f"{lag.lag_seconds:,.1f}",
        )
        for lag in lags
    ]
    rows.append(("total", "", "", f"{total.lag_offsets:,}", f"{total.lag_seconds:,.1f}"))
    columns = ("partition", "checkpoint", "last stable offset", "lag (offsets)", "lag (seconds)")
    print_table(columns, rows, title=settings.topic)
