"""A declaration that is kept reads every message as it did, and says what differs from another."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.reading.by_path import PathReader
from iot_pipeline.core.reading.declaration import SEED, Declaration
from iot_pipeline.core.reading.differences import differences
from iot_pipeline.core.reading.formats import Format, WriterSchema
from iot_pipeline.core.reading.kept_declaration import KeptDeclaration
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.errors import PermanentError
from iot_pipeline.settings_reading import load_declaration
from iot_pipeline_tests.core.reading.declared import SENSOR, SENSOR_YAML, declared, of_one

AVRO = """\
{"type": "record", "name": "R", "fields": [
 {"name": "d", "type": "string"}, {"name": "t", "type": "double"}, {"name": "x", "type": "double"}]}
"""
NAMING = """\
version: 1
format: avro
schema: r.avsc
device: {path: d}
time: {path: t, as: seconds}
quantities: {x: {}}
"""
_NAMES = st.sampled_from(["d", "values.x", '["a.b", "c"]', "ü/1"])

_TIMES = st.sampled_from(["kafka", "{path: t, as: iso8601}", "{paths: [t, u], as: seconds}"])


@st.composite
def declarations(draw: st.DrawFn) -> Declaration:
    """Everything that a declaration can say, but a schema file."""
    paths = draw(st.lists(_NAMES, min_size=1, max_size=2))
    kind = draw(st.sampled_from(["double", "float", "int", "bigint", "boolean", "text"]))
    about = [f"type: {kind}", f"optional: {str(draw(st.booleans())).lower()}"]
    about.append(f"paths: [{', '.join(paths)}]")
    if kind not in ("boolean", "text"):
        about += [f"min: {draw(st.integers(-(2**40), 0))}", f"max: {draw(st.floats(0.5, 1e9))!r}"]
    if kind in ("double", "float"):
        about += [f"scale: {draw(st.floats(0.1, 9))!r}", f"shift: {draw(st.floats(-9, 9))!r}"]
    equals = draw(st.sampled_from(["true", "1", "'1'", "[boot, 2, false]"]))
    return of_one(
        device=draw(st.sampled_from(["{path: d}", "{paths: [d, a.b]}", "{header: h}", "key"])),
        time=draw(_TIMES),
        format=draw(st.sampled_from(["json", "json-schema", "avro", "protobuf"])),
        quantities=f"{{x: {{min: -5}}, y: {{{', '.join(about)}}}}}",
        ignore=f"[{{path: kind, equals: {equals}}}, {{path: ping, exists: true}}]",
    )  # fmt: skip


@settings(max_examples=50)
@given(declarations())
def test_what_is_kept_is_the_same_declaration(declaration: Declaration) -> None:
    kept = KeptDeclaration.of(declaration)
    read = kept.read()
    assert read.fingerprint == kept.fingerprint == declaration.fingerprint
    assert KeptDeclaration.of(read) == kept
    assert differences(declaration, read) == []


def test_a_kept_declaration_reads_a_message_as_it_did() -> None:
    then = declared(SENSOR_YAML)
    told = PathReader(ReadingRules(KeptDeclaration.of(then).read())).read(SENSOR)
    as_before = PathReader(ReadingRules(then)).read(SENSOR)
    assert msgspec.to_builtins(told) == msgspec.to_builtins(as_before)


def test_a_schema_file_is_kept_with_the_declaration_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "r.avsc").write_text(AVRO)
    path = tmp_path / "reading.yaml"
    path.write_text(NAMING)
    then = load_declaration(path, "reading.yaml")
    kept = KeptDeclaration.of(then)
    assert kept.schema == AVRO.encode()
    assert kept.read().format == then.format
    other = replace(then, format=Format("avro", WriterSchema("AVRO", AVRO.encode() + b" ")))
    assert differences(then, other) == ["the schema of the format is another one"]


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda text: text.replace('"version":1', '"version":2'), "Invalid enum value 2"),
        (lambda text: text.replace("150.0", "160.0"), "has the fingerprint"),
        (lambda text: text[:-1], "a later version of iot_pipeline kept it"),
    ],
)
def test_what_was_changed_or_is_of_a_later_version_is_refused(spoilt, said: str) -> None:
    kept = KeptDeclaration.of(SEED)
    with pytest.raises(PermanentError, match=f"(?i){said}"):
        replace(kept, text=spoilt(kept.text)).read()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"device": "key"}, ["device: d, now the message key"]),
        ({"time": "{path: t, as: milliseconds}"}, ["time: t as seconds, now t as milliseconds"]),
        ({"quantities": "{x: {min: -100, max: 120}}"}, ["x: max 100, now 120"]),
        (
            {"quantities": "{y: {}}"},
            ["x: no longer declared", "y: not declared then"],
        ),
        ({"quantities": "{x: {min: -100}}"}, ["x: max 100, now none"]),
        ({"ignore": "[{path: p, exists: true}]"}, ["ignored now where p is there"]),
        ({"quantities": "{x: {min: -100, max: 100, plausible: [0, 1]}}"}, []),
    ],
)
def test_what_differs_is_said_line_by_line(keys: dict[str, str], said: list[str]) -> None:
    assert differences(of_one(), of_one(**keys)) == said
