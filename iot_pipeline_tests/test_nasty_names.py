"""What a device calls itself stays text in everything that is written of it.

A spreadsheet runs `=...`, markdown and HTML run tags and links, matplotlib sets `$...$` as a
formula, a terminal obeys escapes.
"""

import csv
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from iot_pipeline.artifacts.drawing import DARK
from iot_pipeline.artifacts.fleet_pictures import draw_album
from iot_pipeline.artifacts.readings_picture import _as_label, draw_readings
from iot_pipeline.artifacts.report import render_report
from iot_pipeline.artifacts.terminal import plot_readings
from iot_pipeline.cli.readings import _csv_readings
from iot_pipeline.core.checks.device_table import DeviceTable, as_cell, as_command
from iot_pipeline.core.fleet.series import Series
from iot_pipeline.core.proof.dead_letters import SourceCoordinates, StoredLetter
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.spans import Page
from iot_pipeline.core.words import iot_command
from iot_pipeline.defs.pictures import problem_table
from iot_pipeline.defs.run_report import _letter_table
from iot_pipeline_tests.artifacts.views import make_health, make_view
from iot_pipeline_tests.load import produce, reading_json
from iot_pipeline_tests.pipeline import Pipeline

NASTY = (
    '=HYPERLINK("http://evil.example","click")',
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](http://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "a|b|c",
    "`code` | ``` fence",
    "**bold** _it_ ~~gone~~",
    "$\\frac{",
    "\x1b[31mred\x1b]0;title\x07",
    "line\nbreak | | |",
    "_hidden",
    "\u202egnp.exe",
)
SOURCE = SourceCoordinates("t", "id", 0, 0)
# All of it in one name: a view and its pictures take seconds.
COMBINED = (
    "$\\frac{{<script>alert(1)</script>|`[x](javascript:alert(1))\x1b[31m\x07"
    "<img src=x onerror=alert(1)>\u202e\n=1+1 ** ``` {}"
)
LINK = re.compile(r"(?<!\\)\]\(")


def outside_code(markdown: str) -> str:
    """What a renderer of markdown takes for itself."""
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", markdown)


def assert_is_text(markdown: str, columns: int) -> None:
    """No tag, no link, no picture, and each row of the table has as many cells as its head."""
    bare = outside_code(markdown)
    assert not re.search(r"(?<!\\)<[a-z!/]", bare, re.IGNORECASE), markdown
    assert not LINK.search(bare), markdown
    assert "\x1b" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert rows
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) == columns + 1, row


@pytest.mark.parametrize("name", NASTY)
def test_tables_of_checks_and_runs_stay_tables(name: str) -> None:
    assert_is_text(DeviceTable(("device", "seen", "why"), [(name, name, name)]).markdown(), 3)
    letter = StoredLetter(SOURCE, name, name, name.encode(), b"{}", (), None, 0, 0, 0)
    assert_is_text(_letter_table([letter], 1), 3)


def test_what_pictures_and_pages_say_of_a_device_is_text() -> None:
    view = make_view(3, name=COMBINED)
    assert_is_text(problem_table(view.fleet), 3)
    album = draw_album(view, DARK)
    assert all(png.startswith(b"\x89PNG") for png in album.values())
    page = render_report(make_health(view))
    for piece in ("<script>alert", "<img src=x", 'javascript:alert(1)"', "\x1b", "\u202e"):
        assert piece not in page
    tags = {tag.lower() for tag in re.findall(r"<([a-zA-Z]+)", page[page.index("<body") :])}
    assert not tags & {"script", "iframe", "object", "embed", "link", "form", "input"}


@pytest.mark.parametrize("name", NASTY)
def test_a_command_that_names_it_is_code_and_whole(name: str) -> None:
    command = iot_command("trace", then=(name * 9, "1"))
    shown = as_command(command)
    assert outside_code(shown) == ""
    assert len(shown) >= len(command)


def test_a_cell_keeps_the_code_that_we_write_ourselves() -> None:
    assert as_cell("run `iot lag` | now") == "run `iot lag` \\| now"


def test_plots_are_drawn_whatever_devices_call_themselves() -> None:
    series = [Series.of(name, len(QUANTITIES)) for name in NASTY]
    for item in series:
        item.extend([(0, 20.0, 40.0), (60_000, 21.0, 41.0)])
    assert draw_readings(series, QUANTITIES).startswith(b"\x89PNG")
    assert not _as_label("_hidden").startswith("_")
    shown = plot_readings(series, QUANTITIES, is_colored=False, width=100)
    assert "\x1b" not in shown
    assert "\x07" not in shown


@pytest.mark.parametrize("name", [*NASTY, "+1", "-1", "@SUM(A1)", "\n=1", "＝1"])
def test_a_spreadsheet_runs_no_cell_of_a_csv(name: str) -> None:
    sink = io.BytesIO()
    with _csv_readings(sink, QUANTITIES) as write:
        write(Page(name, [(1_735_444_918_316, -4.5, 40.0)]))
    _, (cell, *_) = csv.reader(io.StringIO(sink.getvalue().decode(), newline=""))
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))
    assert cell.removeprefix("'") == name


@pytest.mark.services
def test_no_command_passes_on_what_a_terminal_or_a_browser_would_run(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    now = datetime.now(UTC).timestamp()
    # The others are refused as ids, and are letters.
    ids = [name for name in NASTY if not re.search(r"[\x00-\x1f]", name)]
    messages = [
        *((b"k", reading_json(name, now - 60 + second)) for name in NASTY for second in range(3)),
        # Letters: each name is too warm for a reading, so its sender and its text are shown.
        *((name.encode(), reading_json(name, now, 9_999.0)) for name in NASTY),
        *((name.encode(), name.encode()) for name in NASTY),
    ]
    produce(pipeline.brokers, pipeline.topic, messages)
    pipeline.drain()
    outputs = [
        pipeline.iot("devices", "--all"),
        pipeline.iot("readings", "--last", "1h", "--", *ids),
        pipeline.iot("dead-letters", "list"),
        pipeline.iot("dead-letters", "stats"),
        pipeline.iot("trace", ids[-1], str(now - 60)),
        pipeline.iot("audit", "--all"),
        pipeline.iot("cql", "SELECT device_id FROM devices_by_day"),
    ]
    for output in outputs:
        assert "\x1b" not in output
        assert "\x07" not in output
        assert "\u202e" not in output
    sheet = tmp_path / "readings.csv"
    pipeline.iot("readings", "--last", "1h", "--format", "csv", "--out", str(sheet), "--", *ids)
    cells = [row[0] for row in csv.reader(sheet.open(encoding="utf-8", newline=""))]
    assert {cell.removeprefix("'") for cell in cells[1:]} == set(ids)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    report = json.loads(json.dumps(pipeline.iot("report")))
    (page,) = (pipeline.settings.data_dir / "reports").glob("latest.html")
    assert "<script>" not in page.read_text()
    assert "\x1b" not in report
