"""What messages show is read by path, whatever their format and wherever their device is."""

from dataclasses import replace

import pytest

from iot_pipeline.core.checks.messages_seen import MessagesSeen
from iot_pipeline.core.reading.declaration import SEED, DeviceSource
from iot_pipeline.core.reading.messages import Headers, ReadingRules, Record
from iot_pipeline_tests.core.reading import messages_by_schema as formats


@pytest.mark.parametrize(
    ("rules", "value"),
    [
        (formats.AVRO, formats.write(formats.FIRST, formats.MESSAGE, 1)),
        (formats.PROTOBUF, formats.write_proto(formats.MESSAGE)),
    ],
)
def test_a_message_by_schema_shows_its_fields_and_values(rules: ReadingRules, value: bytes) -> None:
    seen = MessagesSeen(rules)
    seen.add([Record(0, 7, formats.AT_MS, b"k", value), Record(0, 8, 0, b"k", value[:-3])])
    assert seen.records == 2
    assert seen.fields.seen["fw"].offset == 7
    assert seen.types == {}
    assert all(len(of_devices) == 1 for of_devices in seen.values.values())


@pytest.mark.parametrize(
    ("device", "name"),
    [
        (DeviceSource((("device_id",),)), "a"),
        (DeviceSource(header="who"), "second"),
        (DeviceSource(), "key"),
    ],
)
def test_values_are_those_of_the_declared_device_as_they_would_be_stored(
    device: DeviceSource, name: str
) -> None:
    quantity = replace(SEED.quantities[0], scale=0.1, shift=-1.0)
    declared = replace(SEED, device=device, quantities=(quantity,))
    value = b'{"device_id": "a", "timestamp": 1735444918.5, "temperature": 9000}'
    headers: Headers = [("who", b"first"), ("who", b"second")]
    seen = MessagesSeen(ReadingRules(declared))
    seen.add([Record(3, 1, 5, b"key", value, headers)])
    assert seen.values == {"temperature": {name: [pytest.approx(899.0)]}}, "whatever its limits"
    assert seen.parts == {(name, 3): 1}
