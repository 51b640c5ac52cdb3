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
                        "partition": lag.partition,
                        "checkpoint": lag.checkpoint,
                        "low_watermark": lag.low,
                        "last_stable_offset": lag.last_stable,
                        "lag": lag.lag_offsets,
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
            lag.partition,
            "never ingested" if lag.checkpoint is None else lag.checkpoint,
            lag.last_stable,
            f"{lag.lag_offsets:,}",
            f"{lag.lag_seconds:,.1f}",
        )
        for lag in lags
    ]
    rows.append(("total", "", "", f"{total.lag_offsets:,}", f"{total.lag_seconds:,.1f}"))
    columns = ("partition", "checkpoint", "last stable offset", "lag (offsets)", "lag (seconds)")
    print_table(columns, rows, title=settings.topic)
