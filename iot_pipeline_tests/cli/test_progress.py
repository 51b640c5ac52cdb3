"""Progress says how far something is, in whole words, on whatever there is."""

import io
import os
import sys
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from iot_pipeline.cli.progress import ProgressLine


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(line: ProgressLine, width: int) -> str:
    """What a terminal of this width gets."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(line, end="")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip("\n")


@given(
    st.integers(0, 10**9),
    st.none() | st.integers(0, 10**9),
    st.sampled_from(["", "records, 1,234/s", "12,345 rows", "500 a second, p50 4 ms, p95 9 ms"]),
    st.integers(30, 200),
    st.sampled_from(["draining offsets", "exporting 2026-01-31 (day 3 of 30), devices"]),
)
def test_a_line_fits_and_no_word_of_it_is_cut(
    done: int, total: int | None, more: str, width: int, doing: str
) -> None:
    line = ProgressLine(doing)
    line.show(done, total, more)
    text = shown(line, width)
    assert "\n" not in text
    assert cell_len(text) <= width
    assert f"{done:,}" in text
    whole = f"{doing}: {done:,}{'' if total is None else f' of {total:,}'}"
    said = text.rstrip("━─ ")
    kept = whole if said.startswith(whole) else whole.removeprefix(f"{doing}: ")
    assert said.startswith(kept)
    parts = [part for part in said.removeprefix(kept).split(", ") if part]
    assert parts == [part for part in more.split(", ") if part][: len(parts)]


def test_an_estimate_comes_after_a_second_and_before_what_else_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    line = ProgressLine("draining offsets")
    line.show(50, 200, "records")
    assert shown(line, 80).startswith("draining offsets: 50 of 200, records ━")
    now = 140.0
    assert shown(line, 80).startswith("draining offsets: 50 of 200, about 2 min left, records ━")
    assert shown(line, 50) == "draining offsets: 50 of 200, about 2 min left"


def test_a_total_that_is_not_known_yet_is_no_error_on_a_terminal() -> None:
    with (
        mock.patch.object(sys, "stderr", _Terminal()) as stderr,
        mock.patch.dict(os.environ, {"TERM": "xterm", "COLUMNS": "80"}),
    ):
        with ProgressLine("reading, rows") as line:
            line.show(12_345)
            line.show(12_346, 20_000)
        assert "reading, rows: 12,346 of 20,000" in stderr.getvalue()


@pytest.mark.parametrize("term", ["dumb", None])
def test_what_cannot_take_a_line_back_gets_one_every_ten_seconds(
    term: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if term is not None:
        monkeypatch.setattr(sys, "stderr", _Terminal())
        monkeypatch.setenv("TERM", term)
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with ProgressLine("draining offsets") as line:
        for _ in range(30):
            now += 1
            line.show(round(now), 1_000, "records")
    said = sys.stderr.getvalue() if isinstance(sys.stderr, _Terminal) else capsys.readouterr().err
    assert said.splitlines() == [
        "draining offsets: 110 of 1,000, about 1.3 min left, records",
        "draining offsets: 120 of 1,000, about 2.4 min left, records",
        "draining offsets: 130 of 1,000, about 3.3 min left, records",
    ]
