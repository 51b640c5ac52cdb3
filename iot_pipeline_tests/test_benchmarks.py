"""What a benchmark computes from what it measured; the measuring itself is `make bench`."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.bench import Load
from benchmarks.load import message, row_of
from benchmarks.marks import rate_between, seconds_at
from benchmarks.report import Found, Measurement, ratios, text, write_docs

_RUN = Measurement("devices", "group", 1000, 4, "packed", 0, 1000, 1.0, 1000.0, 3.0, 0.2, 9.0, 300)


def test_a_rate_between_two_rows_lies_on_lines_between_the_marks() -> None:
    marks = [(10.0, 200), (17.5, 950), (27.5, 1000)]
    assert seconds_at(marks, 575) == pytest.approx(13.75)
    assert rate_between(marks, 200, 950) == pytest.approx(100)
    assert rate_between(marks, 950, 1000) == pytest.approx(5)
    assert rate_between([(2.0, 1000)], 0, 1000) == pytest.approx(500)


def test_ratios_are_taken_within_a_round() -> None:
    runs = [
        replace(_RUN, contender=name, round=number, rate=rate)
        for number, rates in enumerate([(1000.0, 100.0), (300.0, 10.0)])
        for name, rate in zip(("packed", "handwritten"), rates, strict=True)
    ]
    assert ratios(runs)["group", 1000, "packed"] == [10.0, 30.0]
    assert "| 20.00 (10.00–30.00) |" in text(Found(runs))


def test_runs_of_one_series_are_one_line_with_their_spread() -> None:
    runs = [replace(_RUN, series="avro", round=at, rate=1000.0 * (at + 1)) for at in range(3)]
    assert "| avro | group | 1,000 | 2,000 (1,000–3,000) | 3.0 (3.0–3.0) | 300 |  |" in text(
        Found(runs)
    )


def test_lanes_are_compared_with_one_lane_of_the_same_round() -> None:
    runs = [
        replace(_RUN, series=f"lanes: {lanes}", round=number, client_us=us, kafka_us=0.0)
        for number, costs in enumerate([{1: 1.0, 2: 2.0}, {1: 11.0, 2: 13.0}])
        for lanes, us in costs.items()
    ]
    said = text(Found(runs))
    assert "| lanes: 1 | 1,000 | 1,000 (1,000–1,000) | 6.0 (1.0–11.0) |" in said
    assert "| 1.10 (1.10–1.10) | 300 |" in said
    assert "packed drain" not in said


def test_results_replace_those_before_and_leave_the_page_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    begin, end = "<!-- results: written by make bench -->", "<!-- end of results -->"
    page.write_text(f"before\n\n{begin}\nold\n{end}\nafter\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "throughput.png").write_bytes(b"png")
    found = Found([_RUN], profile=[("f", 1.0, 0.5)], left_out=["group: two processes"])
    for _ in range(2):
        write_docs(found, tmp_path / "out", page)
    written = page.read_text()
    assert written.startswith("before\n\n")
    assert written.endswith("\nafter\n")
    assert "old" not in written
    assert written.count("| group | 1,000 | packed |") == 1
    assert "group: two processes" in written
    assert (tmp_path / "throughput.png").read_bytes() == b"png"


def test_a_message_of_the_load_is_the_row_that_is_looked_for() -> None:
    assert message(7, 3, padding=5)[1].endswith(b', "pad": "xxxxx"}')
    device, ms, temperature, humidity = row_of(7, 3)
    assert device == "device_1"
    assert ms == 1_735_444_802_001
    assert -100 <= temperature <= 150
    assert 0 <= humidity <= 100
    assert Load(1, 2, 3).topic != Load(1, 2, 4).topic
    assert Load(1, 2, 3).topic != Load(1, 2, 3, form="avro").topic
