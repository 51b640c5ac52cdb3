"""Pictures of the fleet as metadata of a materialization.

`picture_metadata` is for ingest runs: it draws when that is due, and otherwise says where the
newest pictures are. `day_picture` and `days_picture` are for rollups.
"""

import base64
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from iot_pipeline.artifacts.kept import LastDrawing, last_drawing
from iot_pipeline.connections import Connections
from iot_pipeline.core.checks.device_table import DeviceTable
from iot_pipeline.core.fleet.problems import Fleet
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.rollups.day_view import DayView, recent_days
from iot_pipeline.core.rollups.days import DayRecord
from iot_pipeline.core.times import moment_of
from iot_pipeline.errors import ConfigurationError, PipelineError
from iot_pipeline.extras import extras_named
from iot_pipeline.files import why_unwritable
from iot_pipeline.stages.fleet.view import view_fleet

_MOST_PROBLEMS = 15
# Between drawing and the event that Dagster records.
_SAID_WITHIN_MS = 1_500
Metadata = Mapping[str, dg.MetadataValue[Any]]


def picture_metadata(
    connections: Connections, run_id: str, fleet: Fleet | None, asset_key: dg.AssetKey
) -> Metadata:
    """The fleet's pictures and its devices with problems, at most once a minute per data folder.

    Costs half a second per minute at most, by resting as long as that takes; in between it is
    one line that links to the run with the newest pictures. `fleet` is None where it could not be
    looked at.
    """
    if fleet is None:
        return {"pictures": dg.MetadataValue.text("not drawn: the devices could not be looked at")}
    try:
        return _due_pictures(connections, run_id, fleet, asset_key)
    except (PipelineError, OSError) as exc:
        # The rows are stored: a server that went away, or a disk that is full, must not fail the
        # run for a picture.
        return _not_drawn(exc)


def _not_drawn(why: Exception | str) -> Metadata:
    return {"pictures": dg.MetadataValue.text(f"not drawn: {why}")}


def _due_pictures(
    connections: Connections, run_id: str, fleet: Fleet, asset_key: dg.AssetKey
) -> Metadata:
    settings = connections.settings
    kept = last_drawing(settings)
    last = kept.read() or LastDrawing()
    now = datetime.now(UTC)
    now_ms = round(now.timestamp() * 1000)
    if not last.is_over(now_ms):
        return {"pictures": dg.MetadataValue.md(_where(last, asset_key))}
    # Where nothing can be kept each run would draw, and that costs half a second of CPU.
    folder = kept.path.parent
    if why := why_unwritable(folder):
        return _not_drawn(
            f"nothing can be kept in {folder} ({why}), so each run would draw them anew; the rows "
            "and all counts are in Cassandra"
        )
    began = time.monotonic()
    # Half a second of imports, only when something is drawn.
    with extras_named():
        from iot_pipeline.artifacts.fleet_pictures import draw_album

    view = view_fleet(connections, settings.topic, fleet, now)
    album = {name: _embed(name, png) for name, png in draw_album(view).items()}
    cost_seconds = round(time.monotonic() - began, 3)
    kept.write(LastDrawing(now_ms, run_id, cost_seconds))
    return {
        **album,
        "devices_with_problems": dg.MetadataValue.md(problem_table(view.fleet)),
        "pictures_seconds": dg.MetadataValue.float(cost_seconds),
    }


def day_picture(view: DayView, quantities: Sequence[Quantity]) -> Metadata:
    """The fleet by the hour of a day that was rolled up; nothing of a day without readings."""
    if not view.readings:
        return {}
    try:
        with extras_named():
            from iot_pipeline.artifacts.rollup_pictures import draw_day
    except ConfigurationError as exc:
        return _not_drawn(exc)
    busiest = max(view.reporting)
    return {
        "day_by_the_hour": _embed("day", draw_day(view, quantities)),
        "devices_in_busiest_hour": dg.MetadataValue.int(busiest),
    }


def days_picture(records: Iterable[DayRecord]) -> Metadata:
    """Readings and devices of the last days that were rolled up."""
    days = recent_days(records)
    if not days:
        return {}
    try:
        with extras_named():
            from iot_pipeline.artifacts.rollup_pictures import draw_days
    except ConfigurationError as exc:
        return _not_drawn(exc)
    return {"days": _embed("days", draw_days(days))}


def _where(last: LastDrawing, asset_key: dg.AssetKey) -> str:
    drawn_at = f"{moment_of(last.drawn_ms):%Y-%m-%d %H:%M:%S} UTC"
    # The page opens at the newest event of that time: the one with the pictures.
    said_ms = last.drawn_ms + round(1000 * last.cost_seconds) + _SAID_WITHIN_MS
    page = f"/assets/{'/'.join(asset_key.path)}?view=events&time={said_ms}"
    by = f"[{last.drawn_by[:8]}](/runs/{last.drawn_by})"
    return f"[drawn at {drawn_at}]({page}) by run {by}"


def _embed(name: str, png: bytes) -> dg.MetadataValue[Any]:
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})")


def problem_table(fleet: Fleet) -> str:
    """The devices with problems, as markdown, the worst first."""
    looked = f"{len(fleet.states):,} devices"
    if fleet.unlooked:
        looked = f"{len(fleet.states):,} of {fleet.known:,} devices; the others were not looked at"
    if not fleet.worst:
        return f"No problem was found with any of {looked}."
    rows = fleet.worst[:_MOST_PROBLEMS]
    table = DeviceTable(("device", "problem", "what was seen"), rows, len(fleet.worst) - len(rows))
    return (
        f"{len(fleet.worst):,} of {looked}; `iot devices --problems` and `iot report` list all:"
        f"\n\n{table.markdown()}"
    )
