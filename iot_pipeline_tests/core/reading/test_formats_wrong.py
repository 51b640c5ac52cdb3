"""What is wrong with a message by a schema is said alike by the drain and the audit."""

import pytest

from iot_pipeline.core.reading.formats import frame
from iot_pipeline.core.reading.messages import (
    ReadingRules,
    Reason,
    Rejection,
)
from iot_pipeline_tests.core.reading.messages_by_schema import (
    AT_MS,
    AVRO,
    FIRST,
    GOOD,
    MESSAGE,
    NULLS,
    PROTOBUF,
    SECOND,
    audited,
    avro,
    drained,
    write,
    write_proto,
)

_MS = "ts 1795000000 is not a millisecond between 2000 and 2100; as seconds it is"
WRONG = [
    (AVRO, None, Reason.NO_VALUE, "the record has no value (a tombstone)"),
    (AVRO, b"", Reason.UNDECODABLE, "0 bytes, and a registry's five bytes come before a message"),
    (
        AVRO,
        b'{"sensor": "a/1"}',
        Reason.UNDECODABLE,
        "it is plain JSON, without a registry's five bytes; send it by the schema, or declare "
        "`format: json`",
    ),
    (
        AVRO,
        b"\x01" + GOOD[1:],
        Reason.UNDECODABLE,
        "it begins with byte 1, expected 0 and a schema's id, as a registry's serializer writes "
        "before Avro",
    ),
    (
        AVRO,
        frame(7) + b"x",
        Reason.UNDECODABLE,
        "schema 7: the registry has no schema of this id",
    ),
    (
        AVRO,
        frame(8) + b"x",
        Reason.UNDECODABLE,
        "schema 8: it is PROTOBUF: send AVRO, or declare `format: protobuf`",
    ),
    (AVRO, frame(10) + b"x", Reason.UNDECODABLE, "schema 10: its schema is no Avro schema"),
    (AVRO, GOOD[:-12], Reason.UNDECODABLE, "schema 1: values.temp_c: it ends after 17 bytes"),
    (
        AVRO,
        GOOD + b"xy",
        Reason.UNDECODABLE,
        "schema 1: 2 bytes are left over behind it: another schema wrote it",
    ),
    (
        AVRO,
        GOOD[:6] + b"\xff\xff\xff" + GOOD[9:],
        Reason.UNDECODABLE,
        "schema 1: sensor: it is not UTF-8",
    ),
    (
        AVRO,
        write(
            avro(values=[{"name": "temp_c", "type": "string"}]),
            {**MESSAGE, "values": {"temp_c": "21.5"}},
            9,
        ),
        Reason.WRONG_TYPE,
        "Expected `float`, got `str` - at `$.values.temp_c`",
    ),
    (
        AVRO,
        write(NULLS, {**MESSAGE, "values": {"temp_c": 1.0, "co2_ppm": None}}, 3),
        Reason.WRONG_TYPE,
        "values.co2_ppm is null",
    ),
    (
        AVRO,
        write(FIRST, {**MESSAGE, "values": {"temp_c": float("nan"), "co2_ppm": 1}}, 1),
        Reason.OUT_OF_RANGE,
        "temperature (values.temp_c) nan is not within -100 to 150 °C",
    ),
    (
        AVRO,
        write(FIRST, {**MESSAGE, "values": {"temp_c": 1.0, "co2_ppm": 10_001}}, 1),
        Reason.OUT_OF_RANGE,
        "co2 (values.co2_ppm) 10001 is not within 0 to 10000 ppm",
    ),
    (AVRO, write(FIRST, {**MESSAGE, "ts": AT_MS // 1000}, 1), Reason.OUT_OF_RANGE, _MS),
    (
        AVRO,
        write(FIRST, {**MESSAGE, "sensor": ""}, 1),
        Reason.OUT_OF_RANGE,
        "device_id has 0 bytes, expected 1 to 256",
    ),
    (PROTOBUF, write_proto(MESSAGE)[:-2], Reason.UNDECODABLE, "schema 1: the message: it ends"),
    (PROTOBUF, frame(1) + b"\x02\x08", Reason.UNDECODABLE, "schema 1: its schema has no message"),
    (PROTOBUF, frame(7) + b"\0", Reason.UNDECODABLE, "schema 7: the registry has no such schema"),
    (
        PROTOBUF,
        write_proto({"sensor": "a/1", "ts": AT_MS}),
        Reason.MISSING_FIELD,
        "values.temp_c is missing",
    ),
    (
        PROTOBUF,
        write_proto(MESSAGE["values"], name="a.b.Values"),
        Reason.MISSING_FIELD,
        "sensor is missing",
    ),
    (PROTOBUF, write_proto({**MESSAGE, "ts": AT_MS // 1000}), Reason.OUT_OF_RANGE, _MS),
]


@pytest.mark.parametrize(("rules", "value", "reason", "message"), WRONG)
def test_what_is_wrong_is_said_and_said_alike_by_drain_and_audit(
    rules: ReadingRules, value: bytes | None, reason: Reason, message: str
) -> None:
    (told,) = drained(rules, value)
    assert isinstance(told, Rejection)
    assert told.reason is reason
    assert told.message.startswith(message)
    assert audited(rules, value) == told


@pytest.mark.parametrize(
    ("rules", "value"),
    [
        (AVRO, write(FIRST, {**MESSAGE, "kind": "status"}, 1)),
        (AVRO, write(SECOND, {**MESSAGE, "more": [], "heartbeat": False}, 2)),
        (PROTOBUF, write_proto({**MESSAGE, "kind": "status"})),
        (PROTOBUF, write_proto({**MESSAGE, "heartbeat": False})),
    ],
)
def test_what_is_ignored_is_ignored_by_both(rules: ReadingRules, value: bytes) -> None:
    assert drained(rules, value) == ["ignored"] == [audited(rules, value)]
