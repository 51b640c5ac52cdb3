"""Messages of any schema, read together and one by one: the same is told of each.

A library in C is asked for each message; the messages of a chunk lie behind each other, some of
them broken, so that what is read beyond an end is another message's.
"""

import io
import json
from functools import partial
from typing import Any

import fastavro
import msgspec
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.reading import avro, protobuf
from iot_pipeline.core.reading.compiled import Forms, Wanted
from iot_pipeline.core.reading.compiled_avro import compile_avro
from iot_pipeline.core.reading.compiled_protobuf import compile_protobuf
from iot_pipeline.core.reading.formats import UndecodableError, WriterSchema
from iot_pipeline.core.reading.joined import Joined
from iot_pipeline.core.reading.told_columns import Kind
from iot_pipeline.proto_files import compile_texts

_ANY = frozenset(("int", "long", "float", "double", "string", "enum", "boolean"))
_WORDS = st.text(max_size=12) | st.sampled_from(["", "é", "a\0", "x" * 200])
_INTS = st.integers(-(2**31), 2**31 - 1)
_LONGS = st.integers(-(2**63), 2**63 - 1)
_DOUBLES = st.floats(width=64)
_FLOATS = st.floats(width=32)
_KEPT: dict[str, Any] = {
    "int": "int64", "long": "int64", "double": "float64", "float": "float64",
    "boolean": "bool", "string": "text", "enum": "text",
}  # fmt: skip


def read_both_ways(forms: Forms, wanted: list[Wanted], values: list[bytes]) -> int:
    """How many of them are read together; each as it is read alone."""
    if forms.read_many is None:
        return 0
    rows, told, left = forms.read_many(Joined(values), np.arange(len(values)))
    assert sorted([*rows.tolist(), *left.tolist()]) == list(range(len(values)))
    columns = [column.tolist() for column in told.values]
    has = [mask.tolist() for mask in told.has]
    for at, row in enumerate(rows.tolist()):
        alone = forms.read(values[row])
        for number, one in enumerate(wanted):
            found = columns[number][at] if has[number][at] else None
            assert repr(found) == repr(_as_kept(alone[number], one)), (one.path, values[row])
    return len(rows)


def _as_kept(value: Any, one: Wanted) -> Any:
    return float(value) if one.kept_as == "float64" and value is not None else value


def is_read(forms: Forms, value: bytes) -> bool:
    """Whether it is read alone."""
    try:
        forms.read(value)
    except msgspec.DecodeError:
        return False
    return True


@st.composite
def asked(draw: st.DrawFn, path: tuple[str, ...], kept: Kind, may_lack: bool) -> list[Wanted]:
    """What may be asked of a field: its value, to compare it, whether it is there, nothing."""
    kinds: list[Kind | None] = [kept, kept, "any", None]
    if kept == "int64":
        kinds.append("float64")
    if may_lack:
        kinds.append("presence")
    kind = draw(st.sampled_from(kinds))
    if kind is None:
        return []
    is_optional = may_lack and draw(st.booleans())
    return [Wanted(path, None if kind in ("any", "presence") else _ANY, is_optional, kind)]


def broken(draw: st.DrawFn, value: bytes) -> bytes:
    told = bytearray(value)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(told)))
        kind = draw(st.sampled_from(["change", "cut", "add"]))
        if kind == "change" and place < len(told):
            told[place] = draw(st.integers(0, 255))
        elif kind == "cut":
            del told[place:]
        else:
            told[place:place] = draw(st.binary(max_size=9))
    return bytes(told)


# Avro.


@st.composite
def avro_types(draw: st.DrawFn, names: list[str], depth: int = 0) -> tuple[Any, Any]:
    """A type, and a strategy of its values."""
    kinds = ["int", "long", "float", "double", "boolean", "string", "enum", "fixed", "bytes"]
    kind = draw(st.sampled_from([*kinds, *(["record", "union", "null", "array"] * (depth < 2))]))
    simple = {
        "int": _INTS,
        "long": _LONGS,
        "float": _FLOATS,
        "double": _DOUBLES,
        "boolean": st.booleans(),
        "string": _WORDS,
        "bytes": st.binary(max_size=5),
        "null": st.none(),
    }
    if kind in simple:
        return kind, simple[kind]
    name = f"N{len(names)}"
    names.append(name)
    if kind == "enum":
        symbols = ["low", "high", "off"]
        return {"type": kind, "name": name, "symbols": symbols}, st.sampled_from(symbols)
    if kind == "fixed":
        return {"type": kind, "name": name, "size": 3}, st.binary(min_size=3, max_size=3)
    if kind == "array":
        item, values = draw(avro_types(names, depth + 1))
        return {"type": kind, "items": item}, st.lists(values, max_size=1)
    if kind == "union":
        other, values = draw(avro_types(names, 2))
        branches = draw(st.permutations(["null", other]))
        return branches, st.none() | values
    told = [draw(avro_types(names, depth + 1)) for _ in range(draw(st.integers(1, 3)))]
    fields = [{"name": f"f{at}", "type": one} for at, (one, _) in enumerate(told)]
    values = st.fixed_dictionaries({f"f{at}": one for at, (_, one) in enumerate(told)})
    return {"type": "record", "name": name, "fields": fields}, values


def avro_leaves(told: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str, bool]]:
    """Path, kind, and whether it may be null, of all that may be wanted of a record."""
    found = []
    for one in told["fields"]:
        inner, at = one["type"], (*path, one["name"])
        is_optional = isinstance(inner, list)
        if is_optional:
            inner = next(branch for branch in inner if branch != "null")
        kind = inner if isinstance(inner, str) else inner["type"]
        if kind in _KEPT:
            found.append((at, kind, is_optional))
        elif kind == "record" and not is_optional:
            found += avro_leaves(inner, at)
    return found


@st.composite
def avro_chunks(draw: st.DrawFn) -> tuple[Forms, list[Wanted], list[bytes], list[bytes], bool]:
    """A schema with what is wanted of it, messages of it, what is none; whether it has lists."""
    names: list[str] = ["N0"]
    told = [draw(avro_types(names)) for _ in range(draw(st.integers(1, 5)))]
    fields = [{"name": f"f{at}", "type": one} for at, (one, _) in enumerate(told)]
    schema = {"type": "record", "name": "N0", "fields": fields}
    wanted = [
        one
        for path, kind, may_lack in avro_leaves(schema)
        for one in draw(asked(path, _KEPT[kind], may_lack))
    ]
    parsed = fastavro.parse_schema(schema)
    messages = []
    for _ in range(draw(st.integers(1, 4))):
        stream = io.BytesIO()
        told_one = {f"f{at}": draw(values) for at, (_, values) in enumerate(told)}
        fastavro.schemaless_writer(stream, parsed, told_one)
        messages.append(stream.getvalue())
    wrong = [broken(draw, draw(st.sampled_from(messages))) for _ in range(draw(st.integers(0, 3)))]
    forms = compile_avro(WriterSchema("AVRO", json.dumps(schema).encode()), wanted, 0)
    return forms, wanted, messages, wrong, "array" in json.dumps(schema)


@settings(max_examples=150, deadline=None)
@given(avro_chunks(), st.randoms(use_true_random=False))
def test_avro_of_any_schema_is_read_together_as_it_is_alone(told: Any, order: Any) -> None:
    forms, wanted, messages, wrong, has_list = told
    both = [*messages, *wrong]
    order.shuffle(both)
    read_both_ways(forms, wanted, both)
    if not has_list:
        assert read_both_ways(forms, wanted, messages) == sum(
            map(partial(is_read, forms), messages)
        )


# Protobuf.

_F = descriptor_pb2.FieldDescriptorProto
_PROTO: dict[str, tuple[Kind, Any]] = {
    "DOUBLE": ("float64", _DOUBLES),
    "FLOAT": ("float64", _FLOATS),
    "INT64": ("int64", _LONGS),
    "INT32": ("int64", _INTS),
    "SINT64": ("int64", _LONGS),
    "SINT32": ("int64", _INTS),
    "SFIXED64": ("int64", _LONGS),
    "SFIXED32": ("int64", _INTS),
    "UINT32": ("int64", st.integers(0, 2**32 - 1)),
    "FIXED32": ("int64", st.integers(0, 2**32 - 1)),
    "BOOL": ("bool", st.booleans()),
    "STRING": ("text", _WORDS),
}
# Never wanted; they may be there.
_BESIDE: dict[str, Any] = {
    "BYTES": st.binary(max_size=5),
    "UINT64": st.integers(0, 2**64 - 1),
    "FIXED64": st.integers(0, 2**64 - 1),
}


@st.composite
def proto_messages(
    draw: st.DrawFn, message: Any, path: tuple[str, ...], wanted: list[Wanted], *, may_lack: bool
) -> Any:
    """Fills a message's descriptor and what is wanted of it; a strategy of its values."""
    values = {}
    numbers = st.sampled_from([1, 2, 3, 15, 16, 17, 2047, 2048, 2049])
    used = draw(st.lists(numbers, unique=True, min_size=1, max_size=4))
    choice = draw(st.integers(0, 3))
    for at, number in enumerate(used):
        name = f"f{at}"
        one = message.field.add(name=name, number=number, label=_F.LABEL_OPTIONAL)
        kinds = [*_PROTO, *_BESIDE, *(["MESSAGE"] * 4 if not path else [])]
        kind = draw(st.sampled_from(kinds))
        one.type = getattr(_F, f"TYPE_{kind}")
        lacks = may_lack
        if kind == "MESSAGE":
            inner = message.nested_type.add(name=f"M{at}")
            one.type_name = f".m.{message.name}.M{at}"
            below = draw(proto_messages(inner, (*path, name), wanted, may_lack=True))
            values[name] = st.none() | below
            continue
        is_choice = len(used) > 2 and choice == 1 and at < 2
        if is_choice:
            # One of two.
            if not message.oneof_decl:
                message.oneof_decl.add(name="either")
            one.oneof_index = 0
            lacks = True
        told = _PROTO[kind][1] if kind in _PROTO else _BESIDE[kind]
        values[name] = st.none() | told
        if kind in _PROTO:
            wanted += [
                one
                for one in draw(asked((*path, name), _PROTO[kind][0], lacks))
                # Of others it is not known whether they were sent.
                if one.kept_as != "presence" or is_choice
            ]
    return st.fixed_dictionaries(values)


@st.composite
def proto_chunks(draw: st.DrawFn) -> tuple[Forms, list[Wanted], list[bytes], list[bytes]]:
    """A message's type with what is wanted of it, messages of it, and what is none."""
    file = descriptor_pb2.FileDescriptorProto(name="m.proto", package="m", syntax="proto3")
    wanted: list[Wanted] = []
    told = draw(proto_messages(file.message_type.add(name="M"), (), wanted, may_lack=False))
    text = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    schema = WriterSchema("PROTOBUF", text, message="m.M")
    made = message_factory.GetMessageClass(protobuf.parse_file(schema).named("m.M"))
    messages = [made(**draw(told)).SerializeToString() for _ in range(draw(st.integers(1, 4)))]
    wrong = [broken(draw, draw(st.sampled_from(messages))) for _ in range(draw(st.integers(0, 3)))]
    return compile_protobuf(schema, wanted, is_framed=False), wanted, messages, wrong


@settings(max_examples=150, deadline=None)
@given(proto_chunks(), st.randoms(use_true_random=False))
def test_protobuf_of_any_type_is_read_together_as_it_is_alone(told: Any, order: Any) -> None:
    forms, wanted, messages, wrong = told
    both = [*messages, *wrong]
    order.shuffle(both)
    read_both_ways(forms, wanted, both)
    assert read_both_ways(forms, wanted, messages) == sum(map(partial(is_read, forms), messages))


# Numbers of a length of their own.


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 2**16), min_size=1), st.booleans())
def test_numbers_of_seven_bits_a_byte_are_read_whatever_their_length(
    numbers: list[int], is_padded: bool
) -> None:
    values = []
    for number in numbers:
        told = protobuf.write_tag(number >> 3, number & 7)
        if is_padded and len(told) < 10:
            # As long as it may be.
            told = told[:-1] + bytes([told[-1] | 0x80, *[0x80] * (9 - len(told)), 0])
        values.append(told)
    joined = Joined(values)
    found, after, is_none = joined.varints(joined.starts)
    assert found.tolist() == numbers
    assert after.tolist() == joined.ends.tolist()
    assert is_none is None or not is_none.any()


@pytest.mark.parametrize("last", [b"\2", b"\x80\0"])
def test_a_number_of_more_than_64_bits_is_none(last: bytes) -> None:
    joined = Joined([b"\xff" * 9 + last, b"\5"])
    found, _, is_none = joined.varints(joined.starts)
    assert is_none is not None
    assert is_none.tolist() == [True, False]
    assert found[1] == 5


# What chance finds rarely.


@pytest.mark.parametrize(
    ("kinds", "value"),
    [
        (["boolean"], b"\2"),
        ([{"type": "enum", "name": "E", "symbols": ["low", "high"]}], b"\4"),
        (["long"], b"\xff" * 9 + b"\2"),
        # A list of one number, which would be the length of the text behind it.
        ([{"type": "array", "items": "int"}, "string"], b"\2\4\0\0"),
        (["string"], b"\2\xff"),
        (["string"], b"\1"),
    ],
)
@pytest.mark.parametrize("is_asked", [True, False])
def test_avro_that_is_wrong_or_rare_is_left(kinds: list[Any], value: bytes, is_asked: bool) -> None:
    schema = record_of(kinds)
    wanted = [
        Wanted(path, _ANY, is_optional=False, kept_as=_KEPT[kind])
        for path, kind, _ in avro_leaves(schema)
        if is_asked
    ]
    forms = compile_avro(WriterSchema("AVRO", json.dumps(schema).encode()), wanted, 0)
    assert read_both_ways(forms, wanted, [value]) == 0


@pytest.mark.parametrize(("size", "fields"), [(2**63, 1), (2**62, 4), (-2, 1)])
def test_a_fixed_of_a_size_that_no_message_has_is_not_read(size: int, fields: int) -> None:
    fixed = [{"type": "fixed", "name": f"F{at}", "size": size} for at in range(fields)]
    kinds: list[Any] = ["string", *fixed, "string"]
    schema = WriterSchema("AVRO", json.dumps(record_of(kinds)).encode())
    wanted = [Wanted(("f0",), frozenset(("string",)), is_optional=False, kept_as="text")]
    forms = compile_avro(schema, wanted, 0)
    assert forms.read_many is None
    # As long as its two texts, and cut where a text of two ends if the size is -2.
    for value in (b"\2a\0", b"\4\2a"):
        assert not is_read(forms, value)
        with pytest.raises(UndecodableError):
            avro.read_message(avro.parse_schema(schema), value, 0)


def record_of(kinds: list[Any], name: str = "R") -> dict[str, Any]:
    fields = [{"name": f"f{at}", "type": kind} for at, kind in enumerate(kinds)]
    return {"type": "record", "name": name, "fields": fields}


def in_each_other(levels: int, leaf: str, last: Any, uses: int = 2) -> WriterSchema:
    """Records of which each has that before it so often; `last` is the schema's own."""
    told = [record_of([leaf], "N0")]
    told += [record_of([f"N{at - 1}"] * uses, f"N{at}") for at in range(1, levels)]
    texts = [json.dumps(one).encode() for one in (*told, last)]
    return WriterSchema("AVRO", texts[-1], references=tuple(texts[:-1]))


@pytest.mark.parametrize(
    "kind", ["N39", {"type": "array", "items": "N39"}, ["null", "N39"]], ids=str
)
def test_a_record_that_is_used_twice_at_each_of_forty_levels_is_looked_at_once(
    kind: Any,
) -> None:
    schema = in_each_other(40, "int", record_of(["string", kind]))
    assert not avro.can_run_away(avro.parse_schema(schema))
    wanted = [Wanted(("f0",), frozenset(("string",)), is_optional=False, kept_as="text")]
    assert not is_read(compile_avro(schema, wanted, 0), b"\2a\1")


@pytest.mark.parametrize("last", ["null", {"type": "fixed", "name": "F", "size": 0}, None], ids=str)
def test_a_schema_of_which_no_byte_is_a_million_values_is_none(last: Any) -> None:
    first = [record_of([last] if last else [], "N0")]
    schema = WriterSchema("AVRO", json.dumps([*first, "string"]).encode())
    assert not avro.can_run_away(avro.parse_schema(schema))
    told = in_each_other(40, "int", record_of(["string", "N39"]))
    texts = (json.dumps(first[0]).encode(), *told.references[1:])
    with pytest.raises(UndecodableError, match="each N10 has more than 1000 values that take no"):
        avro.parse_schema(WriterSchema("AVRO", told.text, references=texts))


@pytest.mark.parametrize("levels", [1, 100, 200, 3_000])
def test_records_that_are_in_each_other_too_deep_are_left_to_the_audits_code(levels: int) -> None:
    schema = in_each_other(levels, "int", record_of([f"N{levels - 1}"]), uses=1)
    assert avro.can_run_away(avro.parse_schema(schema)) is (levels > 128)
    # Each of them known before the next one is asked.
    schema = in_each_other(levels, "int", record_of([f"N{at}" for at in range(levels)]), uses=1)
    assert avro.can_run_away(avro.parse_schema(schema)) is (levels > 128)


_TYPE = """
syntax = "proto3";
package m;
message Inner { int32 a = 1; }
message M {
  oneof either { int64 one = 1; int64 two = 2; }
  int32 small = 3; string word = 4; Inner inner = 5; repeated int32 more = 6;
}
"""


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"\x08\1\x18\5", 1),
        # Both of a choice, another order, a field twice, a list, an unknown one, no text.
        (b"\x08\1\x10\2", 0),
        (b"\x18\5\x08\1", 0),
        (b"\x18\5\x18\6", 0),
        (b"\x32\1\1", 0),
        (b"\x38\1", 0),
        (b"\x22\1\xff", 0),
        # More than 32 bits of a number of 32.
        (b"\x18\x85\x80\x80\x80\x10", 1),
        # A message in it that ends elsewhere than it says.
        (b"\x2a\2\x08\1", 1),
        (b"\x2a\3\x08\1", 0),
        (b"\x2a\1\x08\1", 0),
    ],
)
@pytest.mark.parametrize("is_asked", [True, False])
def test_protobuf_that_is_wrong_or_rare_is_left(value: bytes, number: int, is_asked: bool) -> None:
    schema = WriterSchema("PROTOBUF", compile_texts({"m.proto": _TYPE}, "m.proto"), message="m.M")
    kept: dict[str, Kind] = {"one": "int64", "two": "int64", "small": "int64", "word": "text"}
    wanted = [Wanted((name,), _ANY, is_optional=True, kept_as=one) for name, one in kept.items()]
    wanted = wanted if is_asked else wanted[:1]
    forms = compile_protobuf(schema, wanted, is_framed=False)
    assert read_both_ways(forms, wanted, [value]) == number
