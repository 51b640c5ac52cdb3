"""All pictures of the fleet, by name, with the words below them on a page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from iot_pipeline.artifacts.drawing import LIGHT, Theme
from iot_pipeline.artifacts.fleet_pictures import draw_completeness, draw_small_multiples
from iot_pipeline.artifacts.flow_pictures import draw_flow, draw_lateness
from iot_pipeline.core.fleet.view import FleetView
from iot_pipeline.core.reading.quantities import QUANTITIES


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture; left out where `content` of the view is empty."""

    name: str
    caption: str
    content: Callable[[FleetView], Any]
    draw: Callable[[FleetView, Theme], bytes]


PICTURES = (
    Picture(
        "last_day",
        f"{QUANTITIES[0].name.capitalize()} of some devices; those with a problem are orange. A "
        "line that ends is a device that fell silent.",
        lambda view: view.lines,
        draw_small_multiples,
    ),
    Picture(
        "completeness",
        "Each row is a device, each column an hour of the last day. Blue: all readings that were "
        "due have arrived. Orange: they are missing.",
        lambda view: view.shares,
        draw_completeness,
    ),
    Picture(
        "lag_and_throughput",
        "How many readings were stored, and how old the newest one was by then. Dots that climb "
        "mean that storing cannot keep up.",
        lambda view: view.flow.runs,
        lambda view, theme: draw_flow(view.flow, theme),
    ),
    Picture(
        "lateness",
        "From the moment a device measured to the moment its reading arrived. A clock that is "
        "ahead makes readings seem to come from the future.",
        lambda view: view.fleet.delays.total,
        lambda view, theme: draw_lateness(view.fleet.delays, theme),
    ),
)


def draw_album(view: FleetView, theme: Theme = LIGHT) -> dict[str, bytes]:
    """PNG by name, under 50 KB each."""
    return {item.name: item.draw(view, theme) for item in PICTURES if item.content(view)}
