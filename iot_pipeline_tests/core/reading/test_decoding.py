from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.declared_times import EARLIEST_SECONDS, LATEST_SECONDS, timestamp_ms
from iot_pipeline.core.reading.decoding import UNREADABLE, ReadingDecoder
from iot_pipeline.core.reading.messages import (
    Ignored,
    Reading,
    ReadingRules,
    Reason,
    Record,
    Rejection,
    find_device_id_problem,
)
from iot_pipeline.core.reading.read_chunk import read_chunk
from iot_pipeline_tests.core.reading.encoded import encode_reading
from iot_pipeline_tests.core.reading.limits import limited_seed

ORIGINAL = (
    b'{"device_id": "device_2", "timestamp": 1735444918.3166866, '
    b'"temperature": 26.51, "humidity": 40.78}'
)
RULES = ReadingRules()


def decode(value: bytes | None, rules: ReadingRules = RULES) -> Reading | Rejection:
    decoded = ReadingDecoder(rules).decode(value)
    assert not isinstance(decoded, Ignored)
    plain = decode_plainly(value, rules)
    assert plain is None or plain == decoded, "the drain's fast way may give up, never differ"
    return decoded


def decode_plainly(value: bytes | None, rules: ReadingRules) -> Reading | None:
    """As the drain's hot loop does; None where that has to ask `decode`."""
    decoder = ReadingDecoder(rules)
    fast = decoder.decode_plain if decoder.are_small([value]) else decoder.decode_small
    try:
        found = fast(value)
    except UNREADABLE:
        return None
    shape = decoder.shape
    assert shape is not None
    assert shape.device is not None
    assert shape.time is not None
    device_id = shape.device(found)
    if find_device_id_problem(device_id) is not None:
        return None
    return Reading(device_id, shape.time(found), *(value_of(found) for value_of in shape.columns))


def message(**parts: str) -> bytes:
    """A good message with some fields written otherwise; a field of "" is left out."""
    fields = {
        "device_id": '"device_1"',
        "timestamp": "1735444918.25",
        "temperature": "20.5",
        "humidity": "40.5",
    } | parts
    return ("{" + ",".join(f'"{k}":{v}' for k, v in fields.items() if v) + "}").encode()


def test_the_original_message_is_read_as_it_always_was():
    assert decode(ORIGINAL) == Reading("device_2", 1735444918.3166866, 26.51, 40.78)
    at = datetime.fromtimestamp(timestamp_ms(1735444918.3166866) / 1000, UTC)
    assert at == datetime(2024, 12, 29, 4, 1, 58, 316000, tzinfo=UTC)


def test_the_original_message_goes_the_fast_way_and_one_at_each_limit_too():
    assert decode_plainly(ORIGINAL, RULES) == decode(ORIGINAL)
    for field, limit in (("temperature", -100), ("temperature", 150.0), ("humidity", 0)):
        assert decode_plainly(message(**{field: str(limit)}), RULES) is not None
    assert decode_plainly(message(timestamp=repr(LATEST_SECONDS)), RULES) is None
    assert decode_plainly(message(timestamp=repr(EARLIEST_SECONDS)), RULES) is not None


def test_a_message_is_written_with_the_fields_in_the_order_of_the_contract():
    assert encode_reading(Reading("d", 1735444918.25, 0.0, 100.0)) == (
        b'{"device_id":"d","timestamp":1735444918.25,"temperature":0.0,"humidity":100.0}'
    )


@pytest.mark.parametrize("field", ["temperature", "humidity"])
@pytest.mark.parametrize("zero", ["0.0", "0", "-0.0", "0e5"])
def test_zero_is_a_reading(field, zero):
    reading = decode(message(**{field: zero}))
    assert isinstance(reading, Reading)
    assert getattr(reading, field) == 0.0


# The wording is msgspec's: the reason is found in it, so an upgrade must not change it unseen.
REJECTED = [
    (None, Reason.NO_VALUE, "the record has no value (a tombstone)"),
    (b"", Reason.NOT_JSON, "Input data was truncated"),
    (b"hello", Reason.NOT_JSON, "JSON is malformed: invalid character (byte 0)"),
    (message(temperature="NaN"), Reason.NOT_JSON, "JSON is malformed: invalid character (byte 64)"),
    (message(humidity="Infinity"), Reason.NOT_JSON, "JSON is malformed: invalid character"),
    (message() + b"x", Reason.NOT_JSON, "JSON is malformed: trailing characters (byte 86)"),
    (message() + message(), Reason.NOT_JSON, "JSON is malformed: trailing characters (byte 86)"),
    (message()[:-1], Reason.NOT_JSON, "Input data was truncated"),
    (b"\xef\xbb\xbf" + message(), Reason.NOT_JSON, "JSON is malformed: invalid character"),
    (message().decode().encode("utf-16"), Reason.NOT_JSON, "JSON is malformed"),
    (
        message().replace(b"device_1", b"device_\xff"),
        Reason.NOT_JSON,
        "'utf-8' codec can't decode byte 0xff in position 7: invalid start byte",
    ),
    (
        message().replace(b"device_1", b"\xed\xa0\x80"),
        Reason.NOT_JSON,
        "'utf-8' codec can't decode byte 0xed in position 0: invalid continuation byte",
    ),
    (
        message(device_id=r'"\ud800"'),
        Reason.NOT_JSON,
        "JSON is malformed: unexpected end of hex escape",
    ),
    (
        message(device_id=r'"\udc00"'),
        Reason.NOT_JSON,
        "JSON is malformed: invalid utf-16 surrogate pair",
    ),
    (
        message(extra="[" * 30_000 + "]" * 30_000),
        Reason.NOT_JSON,
        "maximum recursion depth exceeded",
    ),
    (b"[" * 60_000, Reason.WRONG_TYPE, "Expected `object`, got `array`"),
    (b"null", Reason.WRONG_TYPE, "Expected `object`, got `null`"),
    (b"[]", Reason.WRONG_TYPE, "Expected `object`, got `array`"),
    (b"{}", Reason.MISSING_FIELD, "device_id is missing"),
    (message(humidity=""), Reason.MISSING_FIELD, "humidity is missing"),
    (
        message(humidity="", extra="1"),
        Reason.MISSING_FIELD,
        "humidity is missing",
    ),
    (
        message(temperature="true"),
        Reason.WRONG_TYPE,
        "Expected `float`, got `bool` - at `$.temperature`",
    ),
    (
        message(temperature="null"),
        Reason.WRONG_TYPE,
        "temperature is null",
    ),
    (
        message(temperature='"20.5"'),
        Reason.WRONG_TYPE,
        "Expected `float`, got `str` - at `$.temperature`",
    ),
    (message(device_id="5"), Reason.WRONG_TYPE, "Expected `str`, got `int` - at `$.device_id`"),
    (message(device_id="null"), Reason.WRONG_TYPE, "device_id is null"),
    (
        message(temperature="1e999"),
        Reason.OUT_OF_RANGE,
        "Number out of range - at `$.temperature`",
    ),
    (
        message(temperature="1" * 400),
        Reason.OUT_OF_RANGE,
        "Number out of range - at `$.temperature`",
    ),
    (
        message(timestamp="1735444918250"),
        Reason.OUT_OF_RANGE,
        "timestamp 1735444918250 is not a second between 2000 and 2100",
    ),
    (
        message(timestamp="0"),
        Reason.OUT_OF_RANGE,
        "timestamp 0 is not a second between 2000 and 2100",
    ),
    (
        message(temperature="150.1"),
        Reason.OUT_OF_RANGE,
        "temperature 150.1 is not within -100 to 150 °C",
    ),
    (
        message(temperature="-100.1"),
        Reason.OUT_OF_RANGE,
        "temperature -100.1 is not within -100 to 150 °C",
    ),
    (
        message(humidity="100.1"),
        Reason.OUT_OF_RANGE,
        "humidity 100.1 is not within 0 to 100 %",
    ),
    (message(humidity="-0.1"), Reason.OUT_OF_RANGE, "humidity -0.1 is not within 0 to 100 %"),
    (message(device_id='""'), Reason.OUT_OF_RANGE, "device_id has 0 bytes, expected 1 to 256"),
    (
        message(device_id='"' + "é" * 128 + 'x"'),
        Reason.OUT_OF_RANGE,
        "device_id has 257 bytes, expected 1 to 256",
    ),
    (
        message(device_id=r'"a\u0000b"'),
        Reason.OUT_OF_RANGE,
        "device_id contains a control character",
    ),
    (
        message(device_id=r'"a\n"'),
        Reason.OUT_OF_RANGE,
        "device_id contains a control character",
    ),
    (
        message(device_id='"a\u0085"'),
        Reason.OUT_OF_RANGE,
        "device_id contains a control character",
    ),
    (b" " * 65_537, Reason.TOO_LARGE, "65537 bytes, at most 65536 are read"),
]


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    REJECTED,
    ids=[f"{reason}-{at}" for at, (_, reason, _) in enumerate(REJECTED)],
)
def test_what_cannot_be_a_reading_is_rejected_with_its_reason(value, reason, words):
    rejection = decode(value)
    assert isinstance(rejection, Rejection)
    assert rejection.reason is reason
    assert rejection.message.startswith(words)


def test_every_reason_that_decoding_can_give_is_in_the_list_above():
    assert {reason for _, reason, _ in REJECTED} == set(Reason) - {
        Reason.REJECTED_BY_CASSANDRA,
        Reason.UNDECODABLE,  # of other formats
    }


def test_a_reading_of_exactly_the_largest_size_is_read_and_a_byte_more_is_not():
    largest = message() + b" " * (65_536 - len(message()))
    assert isinstance(decode(largest), Reading)
    rejection = decode(largest + b" ")
    assert isinstance(rejection, Rejection)
    assert rejection.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "parts",
    [
        {"temperature": "-100"},
        {"temperature": "150"},
        {"humidity": "100"},
        {"timestamp": "946684800"},
        {"timestamp": "4102444799.999"},
        {"device_id": '"' + "é" * 128 + '"'},
        {"device_id": '"' + "x" * 256 + '"'},
        {"device_id": '" "'},
        {"device_id": r'"\ud83d\ude00"'},
    ],
)
def test_limits_belong_to_what_is_allowed(parts):
    assert isinstance(decode(message(**parts)), Reading)


def test_the_year_2100_does_not():
    assert isinstance(decode(message(timestamp="4102444800")), Rejection)


def test_limits_are_those_of_the_rules():
    rules = ReadingRules(
        limited_seed(temperature={"greatest": 10.0}, humidity={"least": 50.0}), max_value_bytes=100
    )
    assert isinstance(decode(message(), rules), Rejection)
    assert isinstance(decode(message(temperature="10", humidity="50"), rules), Reading)
    assert isinstance(decode(message(extra='"' + "x" * 50 + '"'), rules), Rejection)


def test_an_integer_is_a_number():
    assert decode(message(temperature="21", timestamp="1735444918")) == Reading(
        "device_1", 1735444918.0, 21.0, 40.5
    )


def test_of_two_equal_fields_the_last_counts():
    twice = message().replace(b'"temperature":20.5', b'"temperature":1,"temperature":2')
    reading = decode(twice)
    assert isinstance(reading, Reading)
    assert reading.temperature == 2.0


def test_unknown_fields_are_ignored_and_counted_once_per_message():
    decoder = ReadingDecoder(RULES)
    odd = message(extra='{"deep": [1, null]}', more="1")
    assert decoder.decode(odd) == decode(message())
    values = [message(), odd, message(humidity="", extra="1"), message()]
    nothing = [None] * len(values)
    found = read_chunk(decoder, RecordChunk(0, range(4), [1] * 4, values, nothing, nothing))
    assert (found.left_out, found.devices) == ([2], ["device_1"] * 3)
    assert decoder.unknown_fields == 1


def test_a_known_device_is_still_checked_in_everything_else():
    decoder = ReadingDecoder(RULES)
    assert isinstance(decoder.decode(message()), Reading)
    assert isinstance(decoder.decode(message(temperature="151")), Rejection)
    assert isinstance(decoder.decode(message(timestamp="1")), Rejection)
    assert isinstance(decoder.decode(message(humidity="-1")), Rejection)


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0)])
def test_no_control_character_may_be_in_a_device_id(code):
    assert find_device_id_problem(f"a{chr(code)}")


def test_every_millisecond_of_half_an_hour_survives_the_trip_from_float_seconds():
    # All 86.4 million of a day are half a minute; half an hour holds every fraction of a second
    # 1,800 times, and the property below samples a hundred years.
    first = 1_735_444_918_001
    wrong = [ms for ms in range(first, first + 1_800_000) if timestamp_ms(ms / 1000) != ms]
    assert wrong == []


def test_the_usual_truncation_would_lose_milliseconds_of_2004_and_2038():
    # Where seconds are just above a power of two and milliseconds just below the one 1024 times
    # that, the product rounds down; elsewhere between 2000 and 2100 truncation happens to be right.
    first = 1_080_000_000_001
    assert all(timestamp_ms(ms / 1000) == ms for ms in range(first, first + 10_000))
    assert any(int(ms / 1000 * 1000) != ms for ms in range(first, first + 10_000))


@given(st.integers(int(EARLIEST_SECONDS) * 1000, int(LATEST_SECONDS) * 1000 - 1))
def test_any_millisecond_of_a_hundred_years_survives(ms):
    assert timestamp_ms(ms / 1000) == ms
    assert timestamp_ms(msgspec.json.decode(str(ms / 1000))) == ms


@given(
    st.integers(int(EARLIEST_SECONDS) * 1000, int(LATEST_SECONDS) * 1000 - 1), st.integers(0, 998)
)
def test_what_is_finer_than_a_millisecond_is_floored(ms, microseconds):
    assert timestamp_ms((ms * 1000 + microseconds) / 1e6) == ms


readings = st.builds(
    Reading,
    device_id=st.text(
        st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=64
    ).filter(lambda name: find_device_id_problem(name) is None),
    timestamp=st.floats(EARLIEST_SECONDS, LATEST_SECONDS, exclude_max=True),
    temperature=st.floats(-100, 150),
    humidity=st.floats(0, 100),
)


@given(readings)
@example(Reading("device_2", 1735444918.3166866, 26.51, 40.78))
@example(Reading("d", EARLIEST_SECONDS, -0.0, 5e-324))
def test_decoding_what_was_encoded_gives_the_same_reading(reading):
    assert decode(encode_reading(reading)) == reading


@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda at, junk, length: ORIGINAL[:at] + junk + ORIGINAL[at + length :],
            st.integers(0, len(ORIGINAL)),
            st.binary(max_size=6),
            st.integers(0, 12),
        ),
    )
)
def test_no_bytes_whatever_stop_a_partition(value):
    result = decode(value)
    assert isinstance(result, Reading | Rejection)
    if isinstance(result, Reading):
        assert EARLIEST_SECONDS <= result.timestamp < LATEST_SECONDS
        assert -100 <= result.temperature <= 150
        assert 0 <= result.humidity <= 100


def test_the_size_of_a_record_counts_its_bytes_and_headers():
    bare = Record(0, 1, 2, None, None).size_bytes
    assert Record(0, 1, 2, b"key", b"value").size_bytes == bare + 8
    assert Record(0, 1, 2, None, None, [("h", b"12"), ("i", None)]).size_bytes == bare + 4
