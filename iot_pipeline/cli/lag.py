from datetime import UTC, datetime

import click

from iot_pipeline.cli.output import json_option, print_json, print_table, say
from iot_pipeline.cli.throttle import in_force, limit_as_dict
from iot_pipeline.connections import open_connections
from iot_pipeline.core.ingest.stopped import say_stop
from iot_pipeline.core.ingest.throttle import Limit, choose_limit
from iot_pipeline.core.reading.lag import total_lag
from iot_pipeline.core.times import in_words
from iot_pipeline.core.words import counted
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.lag import read_lag
from iot_pipeline.stages.ingest.stops import read_standing

# Of one kind, mostly: a thousand partitions would say it a thousand times.
_REASONS = 5


@click.command("lag")
@json_option
def lag_command(as_json: bool) -> None:
    """Show how far ingestion is behind Kafka, in offsets and in seconds.

    Seconds are the age of the record at the checkpoint, by Kafka's clock; 0 when none waits. What
    an open transaction holds back lies between the last stable offset and the log's end.
    """
    settings = Settings.from_env()
    with open_connections(settings) as connections:
        lags = read_lag(connections.log, connections.ledger, settings.topic, datetime.now(UTC))
        kept = read_standing(connections.stops, connections.ledger, settings.topic)
        set_limit = connections.throttles.read_limit(settings.topic)
    by_setting = Limit(settings.max_rows_per_second, settings.max_bytes_per_second)
    limit = choose_limit(by_setting, set_limit)
    waits = {lag.state.partition: lag.state.lag for lag in lags if lag.state.lag}
    stops = {stop.partition: stop for stop in kept if stop.partition in waits}
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
                        "lag_seconds": _rounded(lag.lag_seconds),
                        "why_unknown": lag.why_unknown or None,
                        "log_end_offset": lag.state.last_stable + lag.held_offsets,
                        "held_back": lag.held_offsets,
                        "held_back_seconds": _rounded(lag.held_seconds),
                        "stopped_by": stops[p].cause
                        if (p := lag.state.partition) in stops
                        else None,
                    }
                    for lag in lags
                ],
                "lag": total.lag_offsets,
                "lag_seconds": None if total.unknown else _rounded(total.lag_seconds),
                "held_back": total.held_offsets,
                "limit": limit_as_dict(set_limit, by_setting),
                "catch_up_seconds_at_least": _rounded(limit.seconds_for_lag(total.lag_offsets)),
            }
        )
        return
    rows: list[tuple[object, ...]] = [
        (
            lag.state.partition,
            "never ingested" if lag.state.checkpoint is None else lag.state.checkpoint,
            lag.state.last_stable,
            f"{lag.state.lag:,}",
            _seconds(lag.lag_seconds),
            lag.state.last_stable + lag.held_offsets,
        )
        for lag in lags
    ]
    seconds = _seconds(None if total.unknown else total.lag_seconds)
    rows.append(("total", "", "", f"{total.lag_offsets:,}", seconds, ""))
    columns = (
        "partition", "checkpoint", "last stable", "lag (offsets)", "(seconds)", "log end",
    )  # fmt: skip
    print_table(columns, rows, title=settings.topic)
    if limit:
        takes = in_words(limit.seconds_for_lag(total.lag_offsets))
        say(f"writing is limited to {in_force(set_limit, by_setting)}")
        if total.lag_offsets:
            waits_for = counted(total.lag_offsets, "offset")
            say(f"{waits_for}: {takes} at least for one run, what arrives meanwhile not counted")
    unknown = [lag for lag in lags if lag.why_unknown]
    for lag in unknown[:_REASONS]:
        say(f"partition {lag.state.partition}: seconds are unknown, because {lag.why_unknown}")
    if len(unknown) > _REASONS:
        more = f"{len(unknown) - _REASONS:,} more partitions"
        say(f"seconds are unknown in {more} too; --json has the reason of each")
    for stop in stops.values():
        say(say_stop(stop, waits[stop.partition]))
    for lag in lags:
        if lag.held_offsets:
            since = "" if lag.held_seconds is None else f" since {in_words(lag.held_seconds)}"
            held = counted(lag.held_offsets, "offset is", "offsets are")
            say(
                f"partition {lag.state.partition}: {held} held back by "
                f"an open transaction{since}; the check no_transaction_is_left_open names it"
            )


def _seconds(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds:,.1f}"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
