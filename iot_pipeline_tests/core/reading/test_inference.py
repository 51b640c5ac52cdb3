"""A draft of a declaration takes in the messages it was made from."""

import json
from typing import Any

import pytest

from iot_pipeline.core.reading.inference import infer
from iot_pipeline.core.reading.messages import ReadingRules, Record
from iot_pipeline.core.reading.preview import preview
from iot_pipeline.errors import PermanentError
from iot_pipeline_tests.core.reading.declared import declared

MS = 1_764_230_400_123


def records(*messages: Any, key: str | None = None, times: int = 20) -> list[Record]:
    return [
        Record(0, at, MS + at, key.encode() if key else None, json.dumps(message).encode())
        for at, message in enumerate(messages * times)
    ]


def draft(found: list[Record]) -> str:
    return infer(found, "mine")


SENSOR = {
    "sensor": "a/1",
    "ts": "2025-11-27T09:00:00+01:00",
    "values": {"temp_c": 21.5, "rh": 40, "co2_ppm": 612},
    "fw": "1.2",
}


def test_a_draft_names_device_time_and_quantities_and_reads_every_message() -> None:
    found = records(SENSOR, {"kind": "status", "sensor": "a/1"})
    text = draft(found)
    form = declared(text)
    assert str(form.device) == "sensor"
    assert (str(form.time), form.time.unit) == ("ts", "iso8601")
    assert [(one.name, one.unit) for one in form.quantities] == [
        ("temp_c", "°C"),
        ("rh", "%"),
        ("co2_ppm", "ppm"),
    ]
    assert "# 21.5 to 21.5 in 100.0% of readings" in text
    assert '#   fw: "1.2" in 50.0% of messages' in text
    seen = preview(found, ReadingRules(form))
    assert {name: fate.records for name, fate in seen.fates.items()} == {
        "reading": 20,
        "ignored": 20,
    }
    assert seen.rejected == 0
    assert seen.ends["co2_ppm"] == (612, 612)


@pytest.mark.parametrize(
    ("told", "unit"),
    [(MS // 1000, "seconds"), (MS, "milliseconds"), (str(MS * 1000), "microseconds")],
)
def test_the_unit_of_a_time_is_found_with_its_reason(told: Any, unit: str) -> None:
    text = draft(records({"id": "a", "when": told, "x": 1}))
    assert declared(text).time.unit == unit
    assert f"# as {unit} {json.dumps(told)} is when it arrived" in text


def test_without_a_field_for_them_the_key_is_the_device_and_the_time_kafkas() -> None:
    form = declared(draft(records({"x": 1.5}, key="pump")))
    assert (str(form.device), str(form.time)) == ("the message key", "Kafka's timestamp")
    text = draft(records({"x": 1.5}))
    assert "EDIT: no field looks like the name of a device" in text


def test_a_field_that_equals_the_message_key_is_the_device() -> None:
    form = declared(draft(records({"name": "pump", "sensor": "pt100", "x": 1}, key="pump")))
    assert str(form.device) == "name"


def test_one_name_in_two_places_is_one_quantity_of_mixed_firmware() -> None:
    old, new = {"id": "a", "temp": 20.5}, {"id": "a", "values": {"temp": 21}}
    found = records(old, new)
    form = declared(draft(found))
    assert form.quantities[0].paths == (("temp",), ("values", "temp"))
    assert preview(found, ReadingRules(form)).rejected == 0


def test_a_quantity_that_most_messages_lack_is_optional() -> None:
    text = draft(records({"id": "a", "x": 1, "y": 2}, {"id": "a", "x": 1}))
    assert [one.optional for one in declared(text).quantities] == [False, True]


def test_names_become_those_of_columns() -> None:
    form = declared(
        draft(records({"id": "a", "CO2 ppm!": 1, "9lives": 2, "select": 3, "a": {"select": 4}}))
    )
    assert [one.name for one in form.quantities] == ["co2_ppm", "q_9lives", "select_2", "a_select"]


def test_what_is_no_json_is_said() -> None:
    with pytest.raises(PermanentError, match=r"mine: none of its newest 1 messages.*gzip"):
        draft([Record(0, 0, MS, None, b"\x1f\x8b....")])
    with pytest.raises(PermanentError, match="no number in 20 messages"):
        draft(records({"id": "a"}))
