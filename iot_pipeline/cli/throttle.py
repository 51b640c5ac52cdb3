import re

import click

from iot_pipeline.cli.output import json_option, print_json, say
from iot_pipeline.cli.runs import who
from iot_pipeline.connections import asked_limit, open_connections
from iot_pipeline.core.ingest.throttle import Limit, SetLimit
from iot_pipeline.core.times import in_utc
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ingest.throttle import LOOK_SECONDS

rows_option = click.option(
    "--max-rows-per-second",
    type=click.IntRange(min=1),
    help="Write no faster; without it IOT_MAX_ROWS_PER_SECOND, or what `iot throttle` set.",
)
bytes_option = click.option(
    "--max-bytes-per-second", type=click.IntRange(min=1), help="The same in bytes of requests."
)


@click.command("throttle")
@click.argument("rows", metavar="[ROWS|off|default]", required=False)
@click.option("--bytes", "size_bytes", type=click.IntRange(min=1), help="Bytes a second, too.")
@json_option
def throttle_command(rows: str | None, size_bytes: int | None, as_json: bool) -> None:
    """Show or change how many rows a second a run may write; runs at work obey in seconds.

    It is about each run of the topic, until it is changed: ROWS a second at most, `off` for no
    limit whatever IOT_MAX_ROWS_PER_SECOND says, `default` for what the settings say. A run that is
    started later with a limit of its own keeps to that. Bytes are those of the requests to
    Cassandra, about.
    """
    settings = Settings.from_env()
    asked = _parse(rows, size_bytes)
    with open_connections(settings) as connections:
        throttles, topic = connections.throttles, settings.topic
        if asked is not None:
            throttles.keep_limit(topic, asked)
        elif rows == "default":
            throttles.keep_limit(topic, None)
        kept = throttles.read_limit(topic)
    by_setting = Limit(settings.max_rows_per_second, settings.max_bytes_per_second)
    if as_json:
        print_json({"topic": topic, **limit_as_dict(kept, by_setting)})
        return
    say(f"{topic}: {in_force(kept, by_setting)}")
    if rows is not None or size_bytes is not None:
        say(f"runs at work take it in within {LOOK_SECONDS:g} s or so")


def _parse(rows: str | None, size_bytes: int | None) -> SetLimit | None:
    """What is to be set; None: nothing, or what was set is taken back."""
    if rows in ("off", "default") and size_bytes is not None:
        raise ConfigurationError(f"throttle {rows}: leave --bytes out with it")
    by_name = {"off": Limit(), "default": None, None: None}
    if rows in by_name and size_bytes is None:
        limit = by_name[rows]
    elif rows is None:
        limit = Limit(0, size_bytes or 0)
    elif re.fullmatch("[1-9][0-9]{0,8}", rows):
        limit = Limit(int(rows), size_bytes or 0)
    else:
        raise ConfigurationError(
            f"throttle {rows}: expected rows a second such as 5000, or off, or default"
        )
    said = asked_limit(limit.rows_per_second, limit.bytes_per_second) if limit is not None else None
    return SetLimit(said.limit, said.set_at, who()) if said is not None else None


def in_force(kept: SetLimit | None, by_setting: Limit) -> str:
    """The limit that holds, and who said so."""
    if kept is not None:
        by = f", by {kept.set_by}" if kept.set_by else ""
        return f"{kept.limit} for each run (`iot throttle` at {in_utc(kept.set_at)}{by})"
    if by_setting:
        return f"{by_setting} for each run (IOT_MAX_ROWS_PER_SECOND, IOT_MAX_BYTES_PER_SECOND)"
    return "no limit"


def limit_as_dict(kept: SetLimit | None, by_setting: Limit) -> dict[str, object]:
    limit = by_setting if kept is None else kept.limit
    return {
        "max_rows_per_second": limit.rows_per_second or None,
        "max_bytes_per_second": limit.bytes_per_second or None,
        "set_at": None if kept is None else kept.set_at,
        "set_by": None if kept is None else kept.set_by,
    }
