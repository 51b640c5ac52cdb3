"""Messages of any declared form: the drain's fast way and the plain reader never differ."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from iot_pipeline.core.reading.by_path import PathReader
from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.columns import cells_of
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.kept_values import kept_values
from iot_pipeline.core.reading.messages import (
    Ignored,
    ReadingRules,
    Reason,
    Rejection,
    find_device_id_problem,
    values_getter,
)
from iot_pipeline.core.reading.read_chunk import read_chunk
from iot_pipeline_tests.core.reading.declared import SENSOR, SENSOR_YAML, declared, of_one

MS = 1_764_230_400_123
NOTHING: dict[str, Any] = {}


def read(declaration: Declaration, *values: bytes | None, **beside: Any) -> list[Any]:
    """Each message as (device_id, ms, values), Rejection or Ignored; both ways have to agree."""
    rules = ReadingRules(declaration, max_value_bytes=400)
    decoder, reader = ReadingDecoder(rules), PathReader(rules)
    count = len(values)
    keys, headers = [beside.get("key")] * count, [beside.get("headers")] * count
    produced = [beside.get("produced_ms", MS)] * count
    chunk = RecordChunk(0, range(count), produced, values, keys, headers)
    found = read_chunk(decoder, chunk)
    fast: dict[int, Any] = dict(found.rejections)
    rows = zip(
        found.devices,
        found.ms.tolist(),
        zip(*map(cells_of, found.values, found.has), strict=True),
        strict=True,
    )
    places = [at for at in range(count) if at not in found.left_out]
    for at, row in zip(places, rows, strict=True):
        # Asked by the drain once per device.
        problem = find_device_id_problem(row[0])
        fast[at] = Rejection(Reason.OUT_OF_RANGE, problem) if problem else row
    told: list[Any] = []
    for at, value in enumerate(values):
        one: Any = reader.read(value, keys[at], headers[at], produced[at])
        if not isinstance(one, Rejection | Ignored):
            values_of = values_getter(declaration.quantities)
            values_kept = kept_values(values_of(one), declaration.quantities)
            one = one.device_id, timestamp_ms(one.timestamp), values_kept
        told.append(one)
    ignored = [one for one in told if isinstance(one, Ignored)]
    assert found.ignored == len(ignored)
    assert [fast.get(at) for at in range(count)] == [
        None if isinstance(one, Ignored) else one for one in told
    ]
    return told


def read_one(declaration: Declaration, message: Any, **beside: Any) -> Any:
    value = message if isinstance(message, bytes) else json.dumps(message).encode()
    return read(declaration, value, **beside)[0]


def test_a_message_of_another_vendor_is_read_without_code() -> None:
    found = read_one(declared(SENSOR_YAML), SENSOR)
    assert found == ("a/1", 1_795_762_800_000, (21.5, 40.0, 612.0))


@pytest.mark.parametrize(
    ("unit", "told", "ms"),
    [
        ("seconds", 1764230400.123, MS),
        ("seconds", "1764230400.123", MS),
        ("seconds", 1764230400, MS - 123),
        ("milliseconds", MS, MS),
        ("milliseconds", str(MS), MS),
        ("milliseconds", MS + 0.9, MS),
        ("milliseconds", 1.764230400123e12, MS),
        ("microseconds", MS * 1000 + 999, MS),
        ("nanoseconds", MS * 1_000_000 + 999_999, MS),
        ("nanoseconds", str(MS * 1_000_000 + 999_999), MS),
        ("iso8601", "2025-11-27T08:00:00.123Z", MS),
        ("iso8601", "2025-11-27T08:00:00.123999+00:00", MS),
        ("iso8601", "2025-11-27T08:00:00.1239999999Z", MS),
        ("iso8601", "2025-11-27 13:30:00.123+05:30", MS),
        ("iso8601", "20251127T080000.123Z", MS),
        ("iso8601", "2025-11-26T08:00:00.123-24:00", None),
    ],
)
def test_a_time_is_exact_to_the_millisecond_in_every_unit(
    unit: str, told: Any, ms: int | None
) -> None:
    found = read_one(of_one(time=f"{{path: t, as: {unit}}}"), {"d": "a", "t": told, "x": 1})
    if ms is None:
        assert found.reason is Reason.WRONG_TYPE
    else:
        assert found == ("a", ms, (1.0,))


@pytest.mark.parametrize(
    ("unit", "told", "reason", "said"),
    [
        ("seconds", MS, Reason.OUT_OF_RANGE, f"t {MS} is not a second between 2000 and 2100; as "),
        ("seconds", MS, Reason.OUT_OF_RANGE, "`time: {path: t, as: milliseconds}`"),
        ("milliseconds", MS / 1000, Reason.OUT_OF_RANGE, "`time: {path: t, as: seconds}`"),
        ("milliseconds", str(MS * 1000), Reason.OUT_OF_RANGE, "as: microseconds}`"),
        ("seconds", "2025-11-27T08:00:00Z", Reason.WRONG_TYPE, "`time: {path: t, as: iso8601}`"),
        ("iso8601", MS, Reason.WRONG_TYPE, "`time: {path: t, as: milliseconds}`"),
        ("iso8601", "2025-11-27T08:00:00", Reason.WRONG_TYPE, "has no offset from UTC"),
        ("iso8601", "noon", Reason.WRONG_TYPE, "t: 'noon' is no ISO 8601 time"),
        ("iso8601", "1999-12-31T23:59:59Z", Reason.OUT_OF_RANGE, "is not a time between 2000"),
        ("nanoseconds", "1_0", Reason.WRONG_TYPE, "t: '1_0' is no number of nanoseconds"),
        ("seconds", True, Reason.WRONG_TYPE, "got `bool` - at `$.t`"),
        ("seconds", None, Reason.WRONG_TYPE, "t is null"),
    ],
)
def test_another_time_is_told_with_the_line_that_would_take_it_in(
    unit: str, told: Any, reason: Reason, said: str
) -> None:
    found = read_one(of_one(time=f"{{path: t, as: {unit}}}"), {"d": "a", "t": told, "x": 1})
    assert found.reason is reason
    assert said in found.message


def test_the_device_may_be_the_message_key_or_a_header() -> None:
    message = {"t": MS / 1000, "x": 1}
    assert read_one(of_one(device="key"), message, key="gärtnerei/1".encode())[0] == "gärtnerei/1"
    assert read_one(of_one(device="key"), message).message == "the message key is missing"
    assert read_one(of_one(device="key"), message, key=b"").reason is Reason.OUT_OF_RANGE
    assert read_one(of_one(device="key"), message, key=b"\xff").reason is Reason.WRONG_TYPE
    header = of_one(device="{header: id}")
    assert read_one(header, message, headers=[("id", b"a"), ("id", b"b")])[0] == "b"
    assert read_one(header, message, headers=None).message == "the header id is missing"


def test_the_time_may_be_kafkas_own() -> None:
    found = read_one(of_one(time="kafka"), {"d": "a", "x": 1}, produced_ms=MS)
    assert found == ("a", MS, (1.0,))
    wrong = read_one(of_one(time="kafka"), {"d": "a", "x": 1}, produced_ms=-1)
    assert wrong.message == "Kafka's timestamp -1 is not a millisecond between 2000 and 2100"


def test_a_value_is_converted_before_its_limits_are_asked() -> None:
    celsius = of_one(
        quantities="{x: {path: f, scale: 0.5555555555555556, shift: -17.77777777777778, max: 100}}"
    )
    message = {"d": "a", "t": MS / 1000}
    assert read_one(celsius, message | {"f": 212})[2] == (pytest.approx(100),)
    assert "x (f) 177.7" in read_one(celsius, message | {"f": 352}).message


def test_names_with_dots_slashes_and_letters_of_any_alphabet_are_names() -> None:
    odd = of_one(quantities="{x: {path: [a.b, 'c/d', 'ü€[0]']}, y: {path: über/morgen.z}}")
    message = {"d": "a", "t": 1e9, "a.b": {"c/d": {"ü€[0]": 1}}, "über/morgen": {"z": 2}}
    assert read_one(odd, message) == ("a", 10**12, (1.0, 2.0))
    gone = read_one(odd, {"d": "a", "t": 1e9, "a": {"b": 1}})
    assert gone.message == '["a.b", "c/d", "ü€[0]"] is missing'


def test_mixed_firmware_is_read_by_the_first_path_that_leads_to_something() -> None:
    mixed = of_one(
        device="{paths: [d, meta.id]}",
        quantities="{x: {paths: [v.x, x, v]}}",
    )
    t = {"t": 1e9}
    assert read(
        mixed,
        *(
            json.dumps(one | t).encode()
            for one in (
                {"d": "a", "v": {"x": 1}, "x": 9},
                {"meta": {"id": "b"}, "v": {"x": None}, "x": 2},
                {"d": "c", "v": 3},
                {"d": None, "meta": {"id": "d"}, "x": 4},
            )
        ),
    ) == [(name, 10**12, (value,)) for name, value in zip("abcd", (1, 2, 3, 4), strict=True)]
    assert "got `object` - at `$.v`" in read_one(mixed, t | {"d": "a", "v": {"x": None}}).message
    assert read_one(mixed, t | {"d": "a"}).message == "none of v.x, x, v is there"
    assert read_one(mixed, t | {"x": 1}).message == "none of d, meta.id is there"


def test_what_the_declaration_ignores_is_known_and_no_reading() -> None:
    some = of_one(
        ignore="[{path: beat, exists: true}, {path: kind, equals: [status, 7, true]}, "
        "{path: meta.test, equals: true}]"
    )
    reading = {"d": "a", "t": 1e9, "x": 1}
    extra: dict[str, Any]
    for extra in (
        {"beat": 0},
        {"beat": {"deep": []}},
        {"kind": "status"},
        {"kind": 7},
        {"kind": True},
        {"meta": {"test": True}},
    ):
        assert isinstance(read_one(some, reading | extra), Ignored), extra
        assert isinstance(read_one(some, extra), Ignored), extra
    for extra in (
        NOTHING,
        {"beat": None},
        {"kind": "reading"},
        {"kind": 1},
        {"kind": 7.0},
        {"kind": ["status"]},
        {"meta": {"test": 1}},
        {"meta": "test"},
    ):
        assert read_one(some, reading | extra) == ("a", 10**12, (1.0,)), extra
    assert str(some.ignore[1]) == 'kind is "status" or 7 or true'


def test_each_fault_says_the_declared_path() -> None:
    form = declared(SENSOR_YAML)
    good = json.loads(SENSOR)
    for change, reason, said in (
        ({"values": {"rh": 1, "co2_ppm": 1}}, Reason.MISSING_FIELD, "values.temp_c is missing"),
        ({"values": 3}, Reason.MISSING_FIELD, "values.temp_c is missing"),
        (
            {"values": good["values"] | {"rh": "40"}},
            Reason.WRONG_TYPE,
            "Expected `float`, got `str` - at `$.values.rh`",
        ),
        (
            {"values": good["values"] | {"rh": 140}},
            Reason.OUT_OF_RANGE,
            "humidity (values.rh) 140.0 is not within 0 to 100 %",
        ),
        ({"sensor": 5}, Reason.WRONG_TYPE, "Expected `str`, got `int` - at `$.sensor`"),
        ({"sensor": ""}, Reason.OUT_OF_RANGE, "device_id has 0 bytes"),
        ({"padding": "x" * 400}, Reason.TOO_LARGE, "bytes, at most 400"),
    ):
        found = read_one(form, good | change)
        assert (found.reason, said in found.message) == (reason, True), found


KINDS = of_one(
    quantities="{x: {type: float, path: x}, n: {type: int, min: -5.5, path: y}, "
    "big: {type: bigint, path: e}, is_on: {type: boolean, path: b}, state: {type: text, path: k}}"
)


def test_values_of_each_type_are_what_they_are_in_their_columns() -> None:
    message = {"d": "a", "t": 1e9, "x": 0.1, "y": -5, "e": 2**63 - 1, "b": True, "k": "ok"}
    found = read_one(KINDS, message)
    assert found == ("a", 10**12, (0.10000000149011612, -5, 2**63 - 1, True, "ok"))
    for change, reason in (
        ({"x": 1e39}, Reason.OUT_OF_RANGE),
        ({"x": "1"}, Reason.WRONG_TYPE),
        ({"y": -6}, Reason.OUT_OF_RANGE),
        ({"y": 2**31}, Reason.OUT_OF_RANGE),
        ({"y": 0.5}, Reason.WRONG_TYPE),
        ({"e": 2**63}, Reason.OUT_OF_RANGE),
        ({"b": 1}, Reason.WRONG_TYPE),
        ({"k": False}, Reason.WRONG_TYPE),
    ):
        assert read_one(KINDS, message | change).reason is reason, change


def test_a_quantity_that_may_be_absent_is_nothing_where_it_is_absent_or_null() -> None:
    form = of_one(
        quantities="{x: {optional: true, max: 9}, y: {path: v.y, optional: true, scale: 2}, "
        "n: {optional: true, type: int}, b: {optional: true, type: boolean}, "
        "k: {optional: true, type: text}}"
    )
    head = {"d": "a", "t": 1e9}
    messages: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
        ({"x": 0}, (0.0, None, None, None, None)),
        ({"x": None, "v": {"y": 3}}, (None, 6.0, None, None, None)),
        ({"v": None, "n": 0, "b": False, "k": ""}, (None, None, 0, False, "")),
        ({"v": {}, "x": 9}, (9.0, None, None, None, None)),
    ]
    told = read(form, *(json.dumps(head | message).encode() for message, _ in messages))
    assert told == [("a", 10**12, values) for _, values in messages]
    for message in ({}, {"x": None, "v": {"y": None}}, {"v": 5}):
        found = read_one(form, head | message)
        assert found.reason is Reason.MISSING_FIELD
        assert found.message == "it has none of x, y, n, b, k"
    # What is there has to be right.
    assert read_one(form, head | {"x": 10, "n": 1}).reason is Reason.OUT_OF_RANGE
    assert read_one(form, head | {"x": 1, "n": "1"}).reason is Reason.WRONG_TYPE


FORMS = [
    KINDS,
    declared(SENSOR_YAML),
    of_one(),
    of_one(
        time="{paths: [t, ts], as: milliseconds}",
        quantities="{x: {paths: [x, v.x], scale: 2, shift: 0.1, min: -9}, y: {path: v.y}}",
        ignore="[{path: v.k, equals: [s, 1]}, {path: b, exists: true}]",
    ),
    of_one(device="key", time="kafka", quantities="{x: {path: d}, y: {path: d.e}}"),
    of_one(
        quantities="{x: {optional: true, min: -5}, y: {path: v.y, optional: true, scale: 2, "
        "shift: -3, max: 9}, k: {path: v.k, type: text, optional: true}}"
    ),
    of_one(
        quantities="{x: {}, y: {paths: [v.y, y], optional: true, type: int}, b: {optional: true, "
        "type: boolean}}"
    ),
]
# Values and text that mean something to one of the forms, or are almost such.
numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([MS, MS / 1000, 21.5, 0, 1, -9.0, 1e9]),
)
texts = st.sampled_from(["a", "s", "", "2025-11-27T08:00:00Z", "é\0", str(MS), "x" * 300])
leaves = st.one_of(numbers, texts, st.none(), st.booleans())
names = st.sampled_from(["d", "t", "ts", "x", "y", "v", "b", "k", "e", "sensor", "values", "fw"])
names |= st.sampled_from(["temp_c", "rh", "co2_ppm"])
messages = st.recursive(leaves, lambda below: st.dictionaries(names, below, max_size=7))
good = st.sampled_from(
    [
        SENSOR,
        b'{"d":"a","t":1764230400.5,"x":1}',
        b'{"d":"a","t":1764230400123,"x":1,"v":{"y":2}}',
        b'{"d":"a","ts":1764230400123,"v":{"x":1,"y":2,"k":3}}',
    ]
)
values = st.one_of(
    st.none(),
    st.binary(max_size=20),
    good,
    st.builds(lambda message: json.dumps(message).encode(), messages),
    st.builds(
        lambda value, at, junk, length: (
            value[: at % len(value)] + junk + value[at % len(value) + length :]
        ),
        good,
        st.integers(0, 200),
        st.binary(max_size=6) | st.sampled_from([b'"\xff"', b"\\ud800", b"1e999", b"null", b"[]"]),
        st.integers(0, 12),
    ),
)


@settings(max_examples=300)
@given(st.sampled_from(FORMS), st.lists(values, min_size=1, max_size=8))
@example(FORMS[0], [SENSOR.replace(b'"1.2"', b'"\xff"'), SENSOR.replace(b'"1.2"', b"1e999")])
@example(FORMS[0], [SENSOR[:-1] + b',"\xff":1}', SENSOR[:-1] + b',"values":{}}'])
@example(FORMS[1], [b'{"d":"a","t":4102444799.9999995,"x":1}'])
@example(FORMS[1], [b'{"d":"a","t":"x","t":1764230400.5,"x":1}'])
def test_both_ways_read_every_message_alike(form: Declaration, found: list[bytes | None]) -> None:
    for one in read(form, *found, key=b"key"):
        assert isinstance(one, tuple | Rejection | Ignored)
