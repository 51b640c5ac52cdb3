import dataclasses

import click

from iot_pipeline.cli.output import (
    exit_as_found,
    exit_code_option,
    json_option,
    print_json,
    print_table,
    say,
)
from iot_pipeline.connections import open_connections
from iot_pipeline.core.rollups.day_grid import HEADS, SHOWN_DAYS, DayGrid, DayState
from iot_pipeline.settings import Settings
from iot_pipeline.stages.rollups.day_grid import read_grid


@click.command("audits")
@click.option(
    "--days",
    type=click.IntRange(1, 36_525),
    default=SHOWN_DAYS,
    show_default=True,
    help="How many days up to today, UTC.",
)
@exit_code_option("an audit found a defect in one of these days")
@json_option
def audits_command(days: int, has_exit_code: bool, as_json: bool) -> None:
    """Show which days of readings are proven, which were only counted, which no one looked at.

    A day is the one on which something was measured. It is proven when an audit compared every
    record of it with its row, and nothing of it was written or deleted since: `iot audit --day`.
    """
    settings = Settings.from_env()
    with open_connections(settings) as connections:
        grid = read_grid(connections.rollup_ports, connections.audits, settings.topic, days=days)
    if as_json:
        print_json(_as_dict(grid))
    else:
        if grid.days:
            print_table(HEADS, grid.table())
        for sentence in grid.sentences():
            say(sentence)
    exit_as_found(has_exit_code, bool(grid.states[DayState.DEFECTS]))


def _as_dict(grid: DayGrid) -> dict[str, object]:
    return {
        "days": [
            {
                "day": item.day,
                "state": item.state.value,
                "stored": item.stored,
                "rows": item.rows,
                "looked_at": item.looked_at,
                "audit": None if item.audited is None else dataclasses.asdict(item.audited),
            }
            for item in grid.days
        ],
        "older": grid.older,
    }
