"""All pictures of the fleet at once, by name; a picture without anything in it is left out."""

from collections.abc import Callable

from iot_pipeline.artifacts.drawing import LIGHT, Theme
from iot_pipeline.artifacts.fleet_pictures import draw_completeness, draw_small_multiples
from iot_pipeline.artifacts.flow_pictures import draw_flow, draw_lateness
from iot_pipeline.core.fleet.view import FleetView

LAST_DAY, COMPLETENESS, FLOW, LATENESS = (
    "last_day",
    "completeness",
    "lag_and_throughput",
    "lateness",
)


def draw_album(view: FleetView, theme: Theme = LIGHT) -> dict[str, bytes]:
    """PNG by name, under 50 KB each."""
    drawings: dict[str, tuple[bool, Callable[[], bytes]]] = {
        LAST_DAY: (
            bool(view.lines),
            lambda: draw_small_multiples(view.lines, view.words, view.slot_ms, theme),
        ),
        COMPLETENESS: (
            bool(view.shares),
            lambda: draw_completeness(view.shares, view.first_hour, view.fleet.known, theme),
        ),
        FLOW: (bool(view.flow.runs), lambda: draw_flow(view.flow, theme)),
        LATENESS: (
            bool(view.fleet.delays.total),
            lambda: draw_lateness(view.fleet.delays, theme),
        ),
    }
    return {name: draw() for name, (has_content, draw) in drawings.items() if has_content}
