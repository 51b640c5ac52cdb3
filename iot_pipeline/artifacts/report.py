"""The health report as one HTML page that needs nothing else: no script, no font, no address."""

import base64
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from iot_pipeline.artifacts.drawing import DARK, LIGHT
from iot_pipeline.artifacts.fleet_pictures import PICTURES, draw_album
from iot_pipeline.core.fleet.report import REASONS_IN_WORDS, Health, Mood
from iot_pipeline.core.times import in_words
from iot_pipeline.core.words import printable

_MOST_PROBLEMS = 100
_SIGNS = {Mood.GOOD: "✓", Mood.LOOK: "!", Mood.BAD: "✕"}
_HEADLINES = {
    Mood.GOOD: "All is well.",
    Mood.LOOK: "Something deserves a look.",
    Mood.BAD: "Something is wrong and needs a person.",
}


def render_report(health: Health) -> str:
    """The page; everything in it that came from outside is escaped."""
    environment = Environment(
        loader=PackageLoader("iot_pipeline.artifacts", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: type(value)(printable(value)) if isinstance(value, str) else value,
    )
    environment.filters |= {
        "words": lambda check: check.replace("_", " ").capitalize(),
        "code": _code,
        "moment": lambda moment: f"{moment:%Y-%m-%d %H:%M} UTC",
    }
    return environment.get_template("report.html.j2").render(
        health=health,
        answers=health.answers,
        mood=health.mood,
        headline=_HEADLINES[health.mood],
        signs=_SIGNS,
        pictures=_pictures(health),
        problems=health.view.fleet.worst[:_MOST_PROBLEMS],
        problems_left=max(0, len(health.view.fleet.worst) - _MOST_PROBLEMS),
        reasons=REASONS_IN_WORDS,
        in_words=in_words,
    )


def _pictures(health: Health) -> list[Mapping[str, object]]:
    light, dark = draw_album(health.view, LIGHT), draw_album(health.view, DARK)
    return [
        {
            "name": picture.name,
            "light": _data(light[picture.name]),
            "dark": _data(dark[picture.name]),
            "caption": picture.caption,
        }
        for picture in PICTURES
        if picture.name in light
    ]


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _code(text: str) -> Markup:
    """Plain text whose `quoted` parts are commands."""
    parts = str(escape(text)).split("`")
    if len(parts) % 2 == 0:
        return Markup(str(escape(text)))
    return Markup(
        "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))
    )
