"""Pictures of the fleet as metadata of a materialization.

`picture_metadata` is for whoever ingests: it draws when it is due, and says where the newest ones
are when it is not. `day_picture` and `days_picture` are for whoever rolls up.
"""

import base64
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from iot_pipeline.artifacts.board_file import board_path, read_board, write_board
from iot_pipeline.connections import Connections, quality_limits, reading_rules
from iot_pipeline.core.day_view import DayView, recent_days
from iot_pipeline.core.device_table import DeviceTable
from iot_pipeline.core.fleet_day import Board
from iot_pipeline.core.fleet_view import FleetView
from iot_pipeline.core.lag import PartitionLag, total_lag
from iot_pipeline.core.moments import moment_of
from iot_pipeline.core.picture_budget import is_due
from iot_pipeline.core.rollup_days import DayRecord
from iot_pipeline.errors import TransientError
from iot_pipeline.stages.fleet_view import GLANCE, view_fleet

_MOST_PROBLEMS = 15
# Between drawing and the event that Dagster records.
_SAID_WITHIN_MS = 1_500
Metadata = Mapping[str, dg.MetadataValue[Any]]


def picture_metadata(
    connections: Connections, run_id: str, lags: Sequence[PartitionLag] | None
) -> Metadata:
    """The fleet's pictures and its devices with problems, at most once a minute per data folder.

    Costs half a second per minute at most, by resting as long as that takes; in between it is
    one line that links to the run with the newest pictures.
    """
    if lags is None:
        return {"pictures": dg.MetadataValue.text("not drawn: the lag could not be read")}
    settings = connections.settings
    path = board_path(settings.data_dir, settings.topic)
    board = read_board(path)
    now = datetime.now(UTC)
    now_ms = round(now.timestamp() * 1000)
    if not is_due(board.drawn_ms, board.cost_seconds, now_ms):
        return {"pictures": dg.MetadataValue.md(_where(board))}
    began = time.monotonic()
    try:
        view = view_fleet(
            connections,
            settings.topic,
            reading_rules(settings),
            board,
            now,
            GLANCE,
            quality_limits(settings),
            total_lag(lags).lag_seconds,
        )
    except TransientError as exc:
        # The rows are stored: a server that went away now must not fail the run for a picture.
        return {"pictures": dg.MetadataValue.text(f"not drawn: {exc}")}
    metadata = _drawn(view)
    board.drawn_ms, board.drawn_by = now_ms, run_id
    board.cost_seconds = round(time.monotonic() - began, 3)
    write_board(path, board)
    return {**metadata, "pictures_seconds": dg.MetadataValue.float(board.cost_seconds)}


def day_picture(view: DayView) -> Metadata:
    """The fleet by the hour of a day that was rolled up; nothing of a day without readings."""
    if not view.readings:
        return {}
    from iot_pipeline.artifacts.rollup_pictures import draw_day

    busiest = max(view.reporting)
    return {
        "day_by_the_hour": _embed("day", draw_day(view)),
        "devices_in_busiest_hour": dg.MetadataValue.int(busiest),
    }


def days_picture(records: Iterable[DayRecord]) -> Metadata:
    """Readings and devices of the last days that were rolled up."""
    days = recent_days(records)
    if not days:
        return {}
    from iot_pipeline.artifacts.rollup_pictures import draw_days

    return {"days": _embed("days", draw_days(days))}


def _where(board: Board) -> str:
    drawn_at = f"{moment_of(board.drawn_ms):%Y-%m-%d %H:%M:%S} UTC"
    # The page opens at the newest event of that time: the one with the pictures.
    said_ms = board.drawn_ms + round(1000 * board.cost_seconds) + _SAID_WITHIN_MS
    page = f"/assets/iot/sensor_data?view=events&time={said_ms}"
    by = f"[{board.drawn_by[:8]}](/runs/{board.drawn_by})"
    return f"[drawn at {drawn_at}]({page}) by run {by}"


def _drawn(view: FleetView) -> dict[str, dg.MetadataValue[Any]]:
    # Half a second of imports, only when something is drawn.
    from iot_pipeline.artifacts.fleet_album import draw_album

    album = {name: _embed(name, png) for name, png in draw_album(view).items()}
    return {**album, "devices_with_problems": dg.MetadataValue.md(problem_table(view))}


def _embed(name: str, png: bytes) -> dg.MetadataValue[Any]:
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})")


def problem_table(view: FleetView) -> str:
    """The devices somebody should look at, as markdown, the worst first."""
    looked = len(view.devices)
    of = f"{looked} devices" if looked == view.known else f"{looked} of {view.known} devices"
    if not view.problems:
        return f"None of {of} is silent, late, or has gaps."
    shown = view.problems[:_MOST_PROBLEMS]
    rows = [(problem.device_id, problem.sentence) for problem in shown]
    table = DeviceTable(("device", "problem"), rows, len(view.problems) - len(rows))
    return (
        f"{len(view.problems)} of {of}; `iot devices` and `iot report` list all:\n\n"
        f"{table.markdown()}"
    )
