"""How every picture looks: one palette, two themes, small PNG files; matplotlib lives here.

No pyplot: it would look for a screen, keep figures alive and cost a third of a second. Figures
are drawn by Agg alone. The palette is Okabe and Ito's, told apart by people who do not see all
colours; on both themes every colour has a contrast of 3:1 or more.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from PIL import Image

# A device that calls itself $\\frac{ is no formula, and must not end a run's pictures.
rcParams["text.parse_math"] = False

DPI = 100
_COLORS = 48


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of one background; `series` in the order they are used."""

    background: str
    text: str
    grid: str
    empty: str
    half: str
    good: str
    warn: str
    series: Sequence[str]


LIGHT = Theme(
    background="#ffffff",
    text="#24292f",
    grid="#d8dee4",
    empty="#eceff2",
    half="#f3dcc4",
    good="#0072b2",
    warn="#c04d00",
    series=("#0072b2", "#c04d00", "#00795a", "#a8477f", "#8a6500", "#1f83b5", "#24292f"),
)
DARK = Theme(
    background="#161b22",
    text="#e6edf3",
    grid="#3a424c",
    empty="#252c35",
    half="#6b5a3c",
    good="#56b4e9",
    warn="#e69f00",
    series=("#56b4e9", "#e69f00", "#2fc59a", "#e08fc0", "#f0e442", "#8fb8ff", "#e6edf3"),
)


def new_figure(theme: Theme, width: float, height: float) -> Figure:
    """An empty figure, in inches of 100 pixels."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=theme.background)
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, theme: Theme, title: str = "", *, grid: bool = True) -> None:
    """Axes in the theme's colours, without the frame that says nothing."""
    axes.set_facecolor(theme.background)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(theme.grid)
    axes.tick_params(colors=theme.text, labelsize=8, length=0)
    axes.yaxis.label.set_color(theme.text)
    axes.xaxis.label.set_color(theme.text)
    if grid:
        axes.grid(True, axis="y", color=theme.grid, linewidth=0.6)
        axes.set_axisbelow(True)
    if title:
        axes.set_title(title, loc="left", fontsize=9, color=theme.text, fontweight="bold")


def headline(figure: Figure, theme: Theme, text: str, left: float) -> None:
    figure.text(
        left,
        1 - 0.06 / figure.get_figheight(),
        text,
        ha="left",
        va="top",
        fontsize=9,
        color=theme.text,
        fontweight="bold",
    )


def time_axis(axes: Axes, ticks: int = 6, *, is_dated: bool = True) -> None:
    """Times along x, said as shortly as they can be; `is_dated` adds the day at the end."""
    locator: Any = AutoDateLocator(  # type: ignore[no-untyped-call]
        maxticks=ticks, minticks=2, tz=UTC
    )
    formatter: Any = ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator, tz=UTC
    )
    formatter.formats[3] = formatter.zero_formats[4] = "%H:%M"
    formatter.show_offset = is_dated
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)
    axes.xaxis.get_offset_text().set(fontsize=7, color=axes.xaxis.label.get_color())


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG with a palette: a third of the size, and no colour is missed."""
    canvas: Any = figure.canvas
    canvas.draw()
    size = canvas.get_width_height()
    image = Image.frombytes("RGBA", size, bytes(canvas.buffer_rgba())).convert("RGB")
    small = image.quantize(_COLORS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    out = io.BytesIO()
    small.save(out, "PNG", optimize=True)
    return out.getvalue()
