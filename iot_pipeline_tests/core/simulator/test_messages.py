"""The simulator writes what the declaration reads, of any form."""

from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from iot_pipeline.core.reading.by_path import PathReader
from iot_pipeline.core.reading.chunks import chunk_records
from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.formats import KINDS, Format, FormatName, WriterSchema
from iot_pipeline.core.reading.messages import (
    Ignored,
    Reading,
    ReadingRules,
    Reason,
    Record,
    Rejection,
)
from iot_pipeline.core.reading.read_chunk import read_chunk
from iot_pipeline.core.simulator.encoding import first_schema
from iot_pipeline.core.simulator.fault_specs import MALFORMED_REASONS
from iot_pipeline.core.simulator.messages import MessageWriter
from iot_pipeline.core.simulator.plan import plan_scenario
from iot_pipeline.core.simulator.scenario_fleet import ScenarioFleet
from iot_pipeline.core.simulator.scenarios import Scenario
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local.scenario_files import load_scenario
from iot_pipeline.proto_files import compile_texts
from iot_pipeline_tests.core.reading.declared import SENSOR_YAML, declared, of_one

NOW = datetime(2026, 11, 27, 8, tzinfo=UTC)
AT_US = 1_795_766_400_123_456
CELSIUS = "{x: {path: f, scale: 0.5555555555555556, shift: -17.77777777777778, min: 0, max: 100}}"
FORMS = {
    "sensor": declared(SENSOR_YAML),
    "seconds": of_one(),
    "milliseconds": of_one(time="{paths: [a.t, t], as: milliseconds}"),
    "nanoseconds": of_one(time="{path: t, as: nanoseconds}", device="key"),
    "kafka": of_one(time="kafka", quantities="{x: {path: [a.b, c]}, y: {path: e.e, min: 7}}"),
    "kinds": of_one(
        quantities="{x: {type: float, path: v.x}, n: {type: int, min: 7}, is_on: {type: boolean}, "
        "state: {type: text}}"
    ),
    "fahrenheit": of_one(quantities=CELSIUS),
    "parts": of_one(quantities="{x: {max: 100}, y: {path: v.y, optional: true}}"),
    "all optional": of_one(quantities="{x: {max: 100, optional: true}, y: {optional: true}}"),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_is_written_is_read_again(name: str) -> None:
    rules = ReadingRules(FORMS[name], max_value_bytes=2_000)
    writer, reader = MessageWriter(rules), PathReader(rules)
    ends = [(max(item.least, -9.0), min(item.greatest, 99.0)) for item in rules.quantities]
    for values in ([50.0] * len(ends), [low for low, _ in ends], [high for _, high in ends]):
        found = reader.read(writer.write("a/1", AT_US, values), b"a/1", None, AT_US // 1000)
        assert not isinstance(found, Rejection | Ignored), found
        assert (found.device_id, timestamp_ms(found.timestamp)) == ("a/1", AT_US // 1000)
        told = [getattr(found, item.name) for item in rules.quantities]
        for item, value, sent in zip(rules.quantities, told, values, strict=True):
            if item.is_number and not (item.optional and value is None):
                assert value == pytest.approx(sent, rel=1e-6, abs=1e-6)
            else:
                assert value in ("low", "high", False, True) or item.optional


@pytest.mark.parametrize("reason", MALFORMED_REASONS)
@pytest.mark.parametrize("name", FORMS)
def test_what_is_wrong_is_rejected_for_just_that_reason(name: str, reason: Reason) -> None:
    rules = ReadingRules(FORMS[name], max_value_bytes=2_000)
    values = [50.0] * len(rules.quantities)
    payload = MessageWriter(rules).write_wrong(reason, "a/1", AT_US, values)
    found = PathReader(rules).read(payload, b"a/1", None, AT_US // 1000)
    assert isinstance(found, Rejection)
    assert found.reason is reason


@pytest.mark.parametrize("form", ["avro", "protobuf", "json-schema"])
@pytest.mark.parametrize(
    "name", ["sensor", "milliseconds", "kinds", "fahrenheit", "parts", "all optional"]
)
def test_by_a_schema_of_its_own_making_it_writes_what_is_read(name: str, form: FormatName) -> None:
    form_of = replace(FORMS[name], format=Format(form))
    text = first_schema(form_of)
    content = compile_texts({"m.proto": text}, "m.proto") if form == "protobuf" else text.encode()
    rules = ReadingRules(form_of, max_value_bytes=2_000)
    schema = WriterSchema(KINDS[form], content)
    rules.schemas.add(7, schema)
    rules.schemas.writing = (7, schema)
    writer, values = MessageWriter(rules), [50.0] * len(rules.quantities)
    payload = writer.write("a/1", AT_US, values)
    found = PathReader(rules).read(payload)
    assert not isinstance(found, Rejection | Ignored), found
    assert (found.device_id, timestamp_ms(found.timestamp)) == ("a/1", AT_US // 1000)
    (chunk,) = chunk_records([Record(0, 0, 0, None, payload)])
    assert read_chunk(ReadingDecoder(rules), chunk).devices == ["a/1"]
    others = [PathReader(rules).read(writer.write("a/1", AT_US + at, values)) for at in range(40)]
    for item in rules.quantities:
        lacking = [one for one in others if getattr(one, item.name) is None]
        assert bool(lacking) == item.optional, item.name
    for reason in MALFORMED_REASONS:
        wrong = PathReader(rules).read(writer.write_wrong(reason, "a/1", AT_US, values))
        assert isinstance(wrong, Rejection)
        assert wrong.reason is writer.reason_of(reason)


@pytest.mark.parametrize("name", ["parts", "all optional"])
def test_of_four_messages_one_lacks_an_optional_quantity_and_none_lacks_all(name: str) -> None:
    rules = ReadingRules(FORMS[name])
    writer, reader = MessageWriter(rules), PathReader(rules)
    moments = [AT_US + step * 1_000_000 for step in range(400)]
    found = [reader.read(writer.write("a/1", at, [1.0, 2.0])) for at in moments]
    assert not any(isinstance(one, Rejection | Ignored) for one in found)
    told = [[getattr(one, item.name) for one in found] for item in rules.quantities]
    lacking = [column.count(None) for column in told]
    for item, lacks in zip(rules.quantities, lacking, strict=True):
        assert 60 < lacks < 140 if item.optional else not lacks


def test_what_no_simulated_message_can_be_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="simulated messages have no headers"):
        MessageWriter(ReadingRules(of_one(device="{header: d}")))
    crossing = of_one(quantities="{x: {path: v}, y: {path: v.y}}")
    with pytest.raises(ConfigurationError, match="no simulated message can have both"):
        MessageWriter(ReadingRules(crossing))


def test_a_scenario_measures_declared_quantities_within_what_is_plausible() -> None:
    scenario = load_scenario("smart_home")[1]
    plan = plan_scenario(scenario, name="x", now=NOW, start=NOW, duration_seconds=3600, speed="max")
    rules = ReadingRules(declared(SENSOR_YAML))
    reader = PathReader(rules)
    found: list[Reading] = []
    for emission in plan.fleet(0, rules).emissions():
        if emission.injection is None:
            told = reader.read(emission.payload)
            assert not isinstance(told, Rejection | Ignored), told
            found.append(told)
    for quantity in rules.quantities:
        values = [getattr(one, quantity.name) for one in found]
        assert quantity.plausible_least < min(values) < max(values) < quantity.plausible_greatest
        assert len(set(values)) > 20
    again = [one.payload for one in plan.fleet(0, rules).emissions() if one.injection is None]
    assert [reader.read(payload) for payload in again] == found


def test_a_spike_and_a_drift_may_be_about_any_declared_quantity() -> None:
    rules = ReadingRules(of_one())
    name = rules.quantities[0].name
    kinds: tuple[dict[str, object], ...] = (
        {"kind": "spike", "size": 1.0},
        {"kind": "drift", "size": 1.0, "at": "0s", "for": "1h"},
    )
    for kind in kinds:
        told = {"groups": [{"name": "g", "devices": 1}], "faults": [{"quantity": name, **kind}]}
        scenario = msgspec.convert({"description": "a test", **told}, Scenario)
        fleet = ScenarioFleet(scenario, seed=1, start_us=0, end_us=10_000_000, rules=rules)
        assert any(one.injection is not None for one in fleet.emissions())


def test_a_fault_about_a_quantity_that_is_not_declared_is_refused() -> None:
    scenario = load_scenario("rough_day")[1]
    plan = plan_scenario(scenario, name="x", now=NOW, start=NOW, duration_seconds=60, speed="max")
    with pytest.raises(ConfigurationError, match="is about temperature, which is not declared"):
        plan.fleet(0, ReadingRules(of_one()))
