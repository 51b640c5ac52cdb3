"""A declaration of readings from its YAML, or what is wrong with it: file, line, key.

`iot_pipeline/declarations/seed.yaml` is one; docs/readings.md says what each key means.
"""

import re
from collections.abc import Callable, Collection, Iterator
from typing import Annotated, Any, Literal, get_args

import msgspec
import yaml
from msgspec import UNSET, Meta, UnsetType

from iot_pipeline.core.reading.declaration import (
    Declaration,
    DeviceSource,
    IgnoreRule,
    Path,
    TimeSource,
    TimeUnit,
    path_text,
)
from iot_pipeline.core.reading.formats import Format, FormatName, WriterSchema
from iot_pipeline.core.reading.group_file import (
    Group,
    GroupQuantity,
    group_problems,
    made_groups,
)
from iot_pipeline.core.reading.quantities import (
    NO_GREATEST,
    NO_LEAST,
    RANGES,
    Quantity,
    QuantityType,
)
from iot_pipeline.core.yaml_lines import find_line, path_and_message, read_yaml
from iot_pipeline.errors import ConfigurationError

SCHEMA_LINE = "# yaml-language-server: $schema=reading.schema.json"
MOST_QUANTITIES = 64
# Columns of ours beside the quantities'.
OUR_COLUMNS = ("device_id", "day", "timestamp")
# Words that CQL does not take for a column's name.
# https://cassandra.apache.org/doc/latest/cassandra/reference/cql-commands/appendix-A.html
_CQL_WORDS = """
    active add allow alter and any application applications apply asc authentication authorize
    batch begin by call calls cluster columnfamily columns commit config create default
    delegation delete desc describe drop entries execute executor executors field from full
    grant if in index indices infinity insert internal into is java kerberos keyspace ldap limit
    lowercasestring materialized mbean mbeans method modify nan no node nodes norecursive not
    null object of on or order plan primary profiles rebuild redact reload remote rename renew
    replace restrict revoke rows schema scheme schemes search select set std_err std_out
    submission table to token truncate unlogged unrestrict unset update use using view where
    with workpool
"""
RESERVED = frozenset(_CQL_WORDS.split())
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")

_Text = Annotated[str, Meta(min_length=1)]
# A text with dots between the names; a list of names where a name has a dot itself.
_Path = _Text | Annotated[list[_Text], Meta(min_length=1)]
_Paths = Annotated[list[_Path], Meta(min_length=1, description="the first that leads to something")]
_Share = Annotated[float, Meta(ge=0)]
_More = Annotated[float, Meta(gt=0)]


class _Struct(msgspec.Struct, forbid_unknown_fields=True):
    pass


class _Device(_Struct):
    path: _Path | UnsetType = UNSET
    paths: _Paths | UnsetType = UNSET
    header: _Text | UnsetType = UNSET


class _Time(_Struct):
    unit: TimeUnit = msgspec.field(name="as")
    path: _Path | UnsetType = UNSET
    paths: _Paths | UnsetType = UNSET


class _Ignored(_Struct):
    path: _Path
    exists: Literal[True] | UnsetType = UNSET
    equals: str | int | bool | list[str | int | bool] | UnsetType = UNSET


class _Jump(_Struct):
    at_once: _More
    per_minute: _Share = 0.0


class _Quantity(_Struct):
    path: _Path | UnsetType = UNSET
    paths: _Paths | UnsetType = UNSET
    type: QuantityType = "double"
    unit: str = ""
    min: Annotated[float, Meta(description="below is a dead letter")] | UnsetType = UNSET
    max: Annotated[float, Meta(description="above is a dead letter")] | UnsetType = UNSET
    plausible: (
        Annotated[
            list[float], Meta(min_length=2, max_length=2, description="outside is stored and told")
        ]
        | UnsetType
    ) = UNSET
    jump: Annotated[_Jump, Meta(description="between two readings of a device")] | UnsetType = UNSET
    apart: (
        Annotated[_More, Meta(description="from the middle of the device's group")] | UnsetType
    ) = UNSET
    decimals: Annotated[int, Meta(ge=0, le=12, description="that are shown and simulated")] = 2
    optional: bool = False
    scale: Annotated[float, Meta(description="value = what is there * scale + shift")] = 1.0
    shift: float = 0.0


class _File(_Struct):
    version: Literal[1]
    device: _Device | Literal["key"]
    time: _Time | Literal["kafka"]
    quantities: Annotated[
        dict[str, _Quantity | None], Meta(min_length=1, max_length=MOST_QUANTITIES)
    ]
    format: FormatName = "json"
    schema: (
        Annotated[_Text, Meta(description="file of the schema; without it a registry's")]
        | UnsetType
    ) = UNSET
    message: (
        Annotated[_Text, Meta(description="which message of the .proto file it is")] | UnsetType
    ) = UNSET
    ignore: list[_Ignored] = []
    groups: Annotated[
        list[Group], Meta(description="of devices; the first that names a device has it")
    ] = []
    unknown_fields: Literal["count", "pass"] = "pass"


# Which keys there are, by the last name of a path.
_STRUCTS: dict[str, type[msgspec.Struct]] = {
    "": _File,
    "device": _Device,
    "time": _Time,
    "ignore": _Ignored,
    "jump": _Jump,
    "groups": Group,
}
# What msgspec calls things, and what a person does.
_WORDS = {"`array`": "a list", "`str`": "text", "`int`": "a whole number", "`float`": "a number"}
_WORDS |= {"`object`": "keys and values", "`null`": "nothing", "`bool`": "true or false"}
_WORDS |= {"Expected": "expected", "Object missing required field": "expected the key"}
_WORDS |= {" | ": " or "}
_CHOICES = {
    "as": " or ".join(get_args(TimeUnit)),
    "type": " or ".join(get_args(QuantityType)),
    "device": "`key`, or one of path, paths, header",
    "time": "`kafka`, or path and as",
    "format": " or ".join(get_args(FormatName)),
    "version": "1",
    "exists": "true",
    "unknown_fields": "count or pass",
}


def parse_declaration(
    text: str,
    source: str,
    endings: Collection[str] = (),
    read_schema: Callable[[FormatName, str, str], WriterSchema] | None = None,
) -> Declaration:
    """Read a declaration.

    Args:
        source: the file's name, for messages.
        endings: of the names that are made of a quantity's, `min` of `co2_min`.
        read_schema: what a file holds that the declaration names, by format, file and message;
            raises ConfigurationError.

    Raises:
        ConfigurationError: `source:line: key: what is expected`, for the first thing that is wrong.
    """
    value, node = read_yaml(text, source, "a declaration of readings")
    try:
        file = msgspec.convert(value, _File)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(_explain(source, node, *path_and_message(exc))) from None
    for path, message in _problems(file, endings):
        line, _ = find_line(node, path)
        where = path.removeprefix("$").lstrip(".")
        raise ConfigurationError(f"{source}:{line}: {where}: {message}")
    declared = Format(file.format)
    if file.schema is not UNSET and read_schema is not None:
        message = "" if file.message is UNSET else file.message
        try:
            declared = Format(file.format, read_schema(file.format, file.schema, message))
        except ConfigurationError as exc:
            line, _ = find_line(node, "$.schema")
            raise ConfigurationError(f"{source}:{line}: schema: {exc}") from None
    return Declaration(
        _device(file.device),
        TimeSource() if file.time == "kafka" else TimeSource(_paths(file.time), file.time.unit),
        tuple(_quantity(name, said or _Quantity()) for name, said in file.quantities.items()),
        tuple(IgnoreRule(_path(rule.path), _equals(rule)) for rule in file.ignore),
        file.unknown_fields == "count",
        declared,
        made_groups(file.groups),
    )


def schema() -> dict[str, Any]:
    """The JSON schema that editors use."""
    made = msgspec.json.schema(_File)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "iot_pipeline declaration of readings",
        **made,
    }


def _path(written: str | list[str]) -> Path:
    return tuple(written.split(".")) if isinstance(written, str) else tuple(written)


def _paths(said: _Device | _Time | _Quantity) -> tuple[Path, ...]:
    if said.paths is not UNSET:
        return tuple(map(_path, said.paths))
    return () if said.path is UNSET else (_path(said.path),)


def _device(said: _Device | str) -> DeviceSource:
    if isinstance(said, str):
        return DeviceSource()
    return DeviceSource(_paths(said), "" if said.header is UNSET else said.header)


def _equals(rule: _Ignored) -> tuple[str | int | bool, ...]:
    if rule.equals is UNSET:
        return ()
    return tuple(rule.equals) if isinstance(rule.equals, list) else (rule.equals,)


def _quantity(name: str, said: _Quantity) -> Quantity:
    lowest, highest = RANGES.get(said.type, (NO_LEAST, NO_GREATEST))
    least = lowest if said.min is UNSET else max(said.min, lowest)
    greatest = highest if said.max is UNSET else min(said.max, highest)
    low, high = (least, greatest) if said.plausible is UNSET else said.plausible
    paths = _paths(said)
    return Quantity(
        name,
        said.unit,
        least=least,
        greatest=greatest,
        plausible_least=low,
        plausible_greatest=high,
        jump=NO_GREATEST if said.jump is UNSET else said.jump.at_once,
        jump_per_minute=0.0 if said.jump is UNSET else said.jump.per_minute,
        apart=NO_GREATEST if said.apart is UNSET else said.apart,
        decimals=said.decimals,
        type=said.type,
        optional=said.optional,
        paths=() if paths == ((name,),) else paths,
        scale=said.scale,
        shift=said.shift,
    )


# What no single key shows.


def _problems(file: _File, endings: Collection[str]) -> Iterator[tuple[str, str]]:
    """(Path in the file, what is expected) of everything that does not fit."""
    by_schema = file.format in ("avro", "protobuf")
    if file.schema is not UNSET and not by_schema:
        yield "$.schema", f"format: {file.format} has none; expected format: avro or protobuf"
    if file.message is not UNSET and (file.format != "protobuf" or file.schema is UNSET):
        yield "$.message", "expected it beside `format: protobuf` and `schema`"
    if by_schema and file.unknown_fields == "count":
        yield "$.unknown_fields", f"format: {file.format} has no unknown fields; expected pass"
    if not isinstance(file.device, str):
        given = [file.device.path, file.device.paths, file.device.header]
        if sum(one is not UNSET for one in given) != 1:
            yield "$.device", "expected one of path, paths, header; or `device: key`"
        yield from _path_problems("$.device", file.device)
    if not isinstance(file.time, str):
        if (file.time.path is UNSET) == (file.time.paths is UNSET):
            yield "$.time", "expected one of path, paths; or `time: kafka`"
        yield from _path_problems("$.time", file.time)
    for number, rule in enumerate(file.ignore):
        path = f"$.ignore[{number}]"
        if (rule.exists is UNSET) == (rule.equals is UNSET):
            yield path, "expected one of `exists: true`, equals"
        if rule.equals == []:
            yield f"{path}.equals", "expected at least one value"
        yield from _wrong_path(f"{path}.path", rule.path)
    if all(said is not None and said.type not in RANGES for said in file.quantities.values()):
        yield "$.quantities", "none of them is a number; expected at least one"
    names = file.quantities.keys()
    for name, said in file.quantities.items():
        path = f"$.quantities.{name}"
        if not _NAME.fullmatch(name):
            yield path, "expected a name of small letters, digits and _, a letter first, at most 41"
        elif name in OUR_COLUMNS:
            yield path, f"{', '.join(OUR_COLUMNS)} are columns of ours; expected another name"
        elif name in RESERVED:
            yield path, "it is a word of CQL; expected another name"
        elif taken := names & {f"{name}_{ending}" for ending in endings}:
            made = min(taken)
            yield f"$.quantities.{made}", f"{name} has a {made} already; expected another name"
        if said is not None:
            yield from _quantity_problems(path, said)
    types = {name: (said or _Quantity()).type for name, said in file.quantities.items()}
    yield from group_problems(file.groups, types)


def _quantity_problems(path: str, said: _Quantity) -> Iterator[tuple[str, str]]:
    if said.path is not UNSET and said.paths is not UNSET:
        yield f"{path}.paths", "expected one of path, paths"
    yield from _path_problems(path, said)
    if said.type not in RANGES:
        of_numbers = {"min", "max", "plausible", "jump", "apart", "decimals", "scale", "shift"}
        for key in sorted(of_numbers & _given(said)):
            yield f"{path}.{key}", f"a {said.type} has none: it is for numbers"
        return
    if said.type in ("int", "bigint") and {"scale", "shift"} & _given(said):
        yield (
            path,
            f"scale and shift make a double of a number; expected that type, not {said.type}",
        )
    if said.scale == 0:
        yield f"{path}.scale", "expected another number than 0"
    least = NO_LEAST if said.min is UNSET else said.min
    greatest = NO_GREATEST if said.max is UNSET else said.max
    if not least < greatest:
        yield f"{path}.min", f"{least:g}; expected less than max, {greatest:g}"
    if said.plausible is not UNSET and not said.plausible[0] < said.plausible[1]:
        yield f"{path}.plausible", "expected two numbers, the lower one first"


def _given(said: _Quantity) -> set[str]:
    """The keys that are not as where they are left out."""
    left_out = _Quantity()
    return {
        item.name
        for item in msgspec.structs.fields(_Quantity)
        if getattr(said, item.name) != getattr(left_out, item.name)
    }


def _path_problems(at: str, said: _Device | _Time | _Quantity) -> Iterator[tuple[str, str]]:
    if said.path is not UNSET:
        yield from _wrong_path(f"{at}.path", said.path)
    if said.paths is not UNSET:
        for number, path in enumerate(said.paths):
            yield from _wrong_path(f"{at}.paths[{number}]", path)


def _wrong_path(at: str, path: str | list[str]) -> Iterator[tuple[str, str]]:
    if any(set(name) & set('\\"') or not name.isprintable() for name in path):
        yield at, f"{path!r}: names with quotes, backslashes or control characters are not read"
        return
    if isinstance(path, list):
        return
    if path.startswith("$"):
        yield at, f"{path}: it begins at the message; expected such as values.temp_c"
    elif "[" in path:
        yield (
            at,
            f"{path}: lists are not read; a name with brackets is written in a list of names, such "
            f"as {path_text(('values', 'a[0]'))}",
        )
    elif "" in path.split("."):
        yield (
            at,
            f"{path}: a name between dots is empty; a name with a dot is written in a list of "
            f"names, such as {path_text(('values', 'temp.c'))}",
        )


def _explain(source: str, node: yaml.Node, path: str, message: str) -> str:
    unknown = re.search(r"unknown field `([^`]*)`", message)
    # Of a quantity by its name; msgspec writes [...] for a key of a mapping.
    path = _with_names(path, node, message)
    if unknown is not None:
        *_, last = re.findall(r"[a-z_]+", path) or [""]
        known = _STRUCTS.get(last, GroupQuantity if "$.groups" in path else _Quantity)
        names = ", ".join(item.encode_name for item in msgspec.structs.fields(known))
        path, message = f"{path}.{unknown[1]}", f"there is no such key here; expected {names}"
    *_, key = path.split(".")
    if message.startswith("Invalid enum value") and key in _CHOICES:
        message = f"expected {_CHOICES[key]}"
    for word, plain in _WORDS.items():
        message = message.replace(word, plain)
    line, found = find_line(node, path)
    value = f" {found.value!r}" if isinstance(found, yaml.ScalarNode) else ""
    return f"{source}:{line}: {path.removeprefix('$').lstrip('.') or 'the file'}{value}: {message}"


def _with_names(path: str, node: yaml.Node, message: str) -> str:
    """The path with a quantity's name where msgspec says only that it is one."""
    place, step, rest = path.partition("[...]")
    entries = find_line(node, place)[1]
    if not step or not isinstance(entries, yaml.MappingNode):
        return path
    kind = _Quantity | None if place == "$.quantities" else GroupQuantity
    for key, value in entries.value:
        try:
            msgspec.convert(yaml.safe_load(yaml.serialize(value)), kind)
        except msgspec.ValidationError as exc:
            if path_and_message(exc) == (f"${rest}", message):
                return f"{place}.{key.value}{rest}"
    return place
