"""A CSV of readings can be opened in a spreadsheet, whatever a device calls itself."""

import csv
import io

import pytest

from iot_pipeline.cli.readings import _csv_readings
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.spans import Page
from iot_pipeline_tests.core.reading.air import KINDS


@pytest.mark.parametrize("name", ["=1+1", "+1", "-pump", "@SUM(A1)", "'=1", "\t=1"])
def test_an_id_that_looks_like_a_formula_is_text(name: str) -> None:
    sink = io.BytesIO()
    with _csv_readings(sink, QUANTITIES) as write:
        write(Page(name, [(1_735_444_918_316, -4.5, 40.0)]))
        write(Page("device_1", [(1_735_444_918_316, 20.0, 40.0)]))
    _, first, second = csv.reader(io.StringIO(sink.getvalue().decode(), newline=""))
    assert first == [f"'{name}", "2024-12-29T04:01:58.316Z", "-4.5", "40.0"]
    assert second[0] == "device_1"


def test_text_that_a_device_sent_is_no_formula_and_truth_is_as_in_json() -> None:
    sink = io.BytesIO()
    with _csv_readings(sink, KINDS) as write:
        write(Page("d", [(1_735_444_918_316, "=1+1", 612.0, 0.5, -1, 2, True)]))
    _, row = csv.reader(io.StringIO(sink.getvalue().decode(), newline=""))
    assert row[2:] == ["'=1+1", "612.0", "0.5", "-1", "2", "true"]
