"""Whatever is sent by a schema, the drain and the audit tell the same of it."""

from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf import message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.reading import protobuf
from iot_pipeline.core.reading.formats import frame
from iot_pipeline.core.reading.messages import (
    ReadingRules,
    Reason,
    Rejection,
)
from iot_pipeline_tests.core.reading.messages_by_schema import (
    ALL_NULL,
    AT_MS,
    AVRO,
    AVRO_PARTS,
    FIRST,
    MESSAGE,
    NO_CO2,
    NULLS,
    PROTOBUF,
    PROTOBUF_PARTS,
    SECOND,
    audited,
    drained,
    goes_the_fast_way,
    write,
    write_proto,
)


def write_part(at: int, values: Mapping[str, Any] | None) -> tuple[ReadingRules, bytes]:
    """A message of one of the schemas of parts, with what the schema has a place for."""
    message = {**MESSAGE, "values": values, "more": []}
    if at == 4:
        of_parts = protobuf.parse_file(PROTOBUF_PARTS.schemas.find(1))
        descriptor = of_parts.named("a.b.Message")
        made = message_factory.GetMessageClass(descriptor)(
            sensor=message["sensor"], ts=message["ts"], values=values
        )
        indexes = protobuf.write_indexes(protobuf.indexes_of(descriptor))
        return PROTOBUF_PARTS, frame(1) + indexes + made.SerializeToString()
    return AVRO_PARTS, write((FIRST, NULLS, NO_CO2, ALL_NULL)[at], message, at + 1)


@pytest.mark.parametrize(
    ("at", "values", "told"),
    [
        (0, {"temp_c": 21.5, "co2_ppm": 612}, [21.5, 612]),
        (1, {"temp_c": None, "co2_ppm": 612}, [None, 612]),
        (1, {"temp_c": 21.5, "co2_ppm": None}, [21.5, None]),
        (2, {"temp_c": 21.5}, [21.5, None]),
        (3, {"temp_c": 21.5, "co2_ppm": None}, [21.5, None]),
        (4, {"temp_c": 21.5}, [21.5, None]),
        (4, {"co2_ppm": 0}, [None, 0]),
    ],
)
def test_what_is_optional_may_be_absent_in_message_and_schema(
    at: int, values: Mapping[str, Any], told: list[Any]
) -> None:
    rules, value = write_part(at, values)
    assert goes_the_fast_way(rules, value)
    assert drained(rules, value) == [audited(rules, value)]
    assert audited(rules, value) == ("a/1", AT_MS, *told)


@pytest.mark.parametrize(
    ("at", "values"),
    [(1, {"temp_c": None, "co2_ppm": None}), (2, {"temp_c": None}), (3, None), (4, {}), (4, None)],
)
def test_a_reading_without_any_quantity_is_none(at: int, values: Mapping[str, Any] | None) -> None:
    rules, value = write_part(at, values)
    (told,) = drained(rules, value)
    assert isinstance(told, Rejection)
    assert told.reason is Reason.MISSING_FIELD
    assert audited(rules, value) == told


# Whatever is sent.

NUMBERS = st.floats(allow_nan=True) | st.floats(-200, 200) | st.integers(-(2**31), 2**31 - 1)
MESSAGES = st.fixed_dictionaries(
    {
        "sensor": st.sampled_from(["a/1", "", "é", "x" * 300]),
        "ts": st.integers(AT_MS - 10, AT_MS + 10) | st.integers(-(2**63), 2**63 - 1),
        "values": st.fixed_dictionaries(
            {"temp_c": NUMBERS.map(float), "co2_ppm": st.integers(-5, 20_000)}
        ),
        "kind": st.sampled_from(["", "status"]),
        "more": st.just([]),
    }
)


@st.composite
def _messages(draw: st.DrawFn) -> tuple[ReadingRules, bytes]:
    """A message of some schema, sometimes broken in one place."""
    message: dict[str, Any] = draw(MESSAGES)
    told: dict[str, Any] = message["values"]
    at = draw(st.integers(0, 8))
    if at > 3:
        parts = {name: draw(st.none() | st.just(value)) for name, value in told.items()}
        rules, value = write_part(at - 4, parts if at > 4 else told)
    elif at == 3:
        rules, value = PROTOBUF, write_proto(message)
    else:
        rules, value = AVRO, write((FIRST, SECOND, NULLS)[at], message, at + 1)
    broken = bytearray(value)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(broken) - 1))
        kind = draw(st.sampled_from(["change", "cut", "add"]))
        if kind == "change" and place > 4:
            broken[place] = draw(st.integers(0, 255))
        elif kind == "cut" and place > 4:
            del broken[place:]
        elif kind == "add":
            broken += draw(st.binary(max_size=3))
    return rules, bytes(broken)


@settings(max_examples=400, deadline=None)
@given(_messages())
def test_the_drain_and_the_audit_tell_the_same_of_whatever_is_sent(
    sent: tuple[ReadingRules, bytes],
) -> None:
    rules, value = sent
    assert repr(drained(rules, value)) == repr([audited(rules, value)])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 3))
def test_and_of_any_bytes_at_all(body: bytes, kind: int) -> None:
    rules = PROTOBUF if kind == 3 else AVRO
    value = frame(1 if kind == 3 else kind + 1) + body
    assert repr(drained(rules, value)) == repr([audited(rules, value)])
