from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click

from iot_pipeline.cli.output import json_option, print_json_list, print_long_table, say
from iot_pipeline.connections import open_connections
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.times import in_utc, moment_of
from iot_pipeline.core.words import counted
from iot_pipeline.settings import Settings
from iot_pipeline.stages.fleet.latest import Newest, newest_readings


@click.command("latest")
@click.argument("devices", metavar="[DEVICE]...", nargs=-1)
@json_option
def latest_command(devices: tuple[str, ...], as_json: bool) -> None:
    """Print the newest reading of each device, or of these, by the device's own clock.

    It is asked of the rows, so it is right however late they came: one question of one row per
    device, of the last IOT_EXPECTED_DAYS. A reading of a clock that is ahead is passed over. For a
    device's state and its problems: `iot devices`.
    """
    settings = Settings.from_env()
    limits = settings.quality_limits
    shown, lacking = 0, dict.fromkeys(devices)

    def count(found: Iterator[Newest]) -> Iterator[Newest]:
        nonlocal shown
        for item in found:
            shown += 1
            lacking.pop(item.device_id, None)
            yield item

    with open_connections(settings) as connections:
        now_ms = round(datetime.now(UTC).timestamp() * 1000)
        found = count(
            newest_readings(
                connections.rows,
                connections.days,
                limits,
                now_ms,
                limits.expected_days,
                devices,
            )
        )
        if as_json:
            names = [quantity.name for quantity in settings.quantities]
            print_json_list(
                "readings",
                (
                    {
                        "device_id": item.device_id,
                        "timestamp": moment_of(item.measured_ms),
                        "arrived_at": moment_of(item.arrived_ms),
                        **dict(zip(names, item.values, strict=True)),
                    }
                    for item in found
                ),
                lambda: {"listed": shown, "without": list(lacking)},
            )
            return
        units = [f"{quantity.name} ({quantity.unit})" for quantity in settings.quantities]
        print_long_table(
            ("device", "newest reading", "arrived at", *units),
            (_row(item, settings.quantities) for item in found),
        )
        say(f"{counted(shown, 'device')} with a reading of the last {limits.expected_days:g} days")
        if lacking:
            say(f"no reading of the last {limits.expected_days:g} days: {', '.join(lacking)}")


def _row(item: Newest, quantities: Sequence[Quantity]) -> tuple[object, ...]:
    return (
        item.device_id,
        in_utc(moment_of(item.measured_ms), "milliseconds"),
        moment_of(item.arrived_ms),
        *(
            quantity.shown_if_any(value)
            for quantity, value in zip(quantities, item.values, strict=True)
        ),
    )
