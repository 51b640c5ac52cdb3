"""A declaration is read strictly, its line is told, and its fingerprint is of what it decides."""

import msgspec
import pytest
import yaml
from cassandra.metadata import cql_keywords_reserved
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.reading.declaration import SEED, path_text
from iot_pipeline.core.reading.declaration_file import (
    RESERVED,
    SCHEMA_LINE,
    _path,
    parse_declaration,
)
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.settings_reading import (
    SCHEMA_NAME,
    declared_limits,
    read_declaration,
    schema_text,
    shipped_folder,
)
from iot_pipeline_tests.core.reading.declared import SENSOR_YAML, declared, of_one

HEAD = "version: 1\ndevice: {path: d}\ntime: {path: t, as: seconds}\n"
ONE = HEAD + "quantities:\n  x: {min: 0, max: 9}\n"


def test_the_shipped_declaration_is_the_original_message() -> None:
    text = (shipped_folder() / "seed.yaml").read_text("utf-8")
    found = declared(text)
    assert found == SEED
    assert found.fingerprint == SEED.fingerprint


def test_editors_are_given_the_schema_that_the_code_reads_by() -> None:
    from jsonschema import Draft202012Validator

    assert (shipped_folder() / SCHEMA_NAME).read_text("utf-8") == schema_text(), (
        "python -m iot_pipeline.settings_reading writes it"
    )
    text = (shipped_folder() / "seed.yaml").read_text("utf-8")
    assert text.startswith(SCHEMA_LINE + "\n")
    validator = Draft202012Validator(msgspec.json.decode(schema_text()))
    for good in (text, SENSOR_YAML, ONE):
        assert not list(validator.iter_errors(yaml.safe_load(good)))
    assert list(validator.iter_errors(yaml.safe_load(ONE.replace("min", "least"))))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "my.yaml:1: the file is empty; expected a declaration of readings"),
        ("a: [", "my.yaml:1: not YAML"),
        (ONE + "formt: json\n", "my.yaml:6: formt 'json': there is no such key here; expected ver"),
        (ONE.replace("n: 1", "n: 2"), "my.yaml:1: version '2': expected 1"),
        (ONE.replace("seconds", "days"), "my.yaml:3: time.as 'days': expected seconds or milli"),
        (ONE.replace("{path: t, as: seconds}", "{path: t}"), "my.yaml:3: time: expected the key"),
        (ONE.replace("{path: t, as: seconds}", "now"), "my.yaml:3: time 'now': expected `kafka`"),
        (ONE.replace("{path: d}", "{}"), "my.yaml:2: device: expected one of path, paths, header"),
        (ONE.replace("{path: d}", "keys"), "my.yaml:2: device 'keys': expected `key`"),
        (ONE.replace("path: d", "path: $.d"), r"my.yaml:2: device.path: \$.d: it begins at the"),
        (ONE.replace("path: d", "path: a..d"), "my.yaml:2: device.path: a..d: a name between dots"),
        (ONE.replace("path: d", "path: 'a[0]'"), r"my.yaml:2: device.path: a\[0\]: lists are not"),
        (ONE.replace("path: d", "path: []"), "my.yaml:2: device.path: expected .* of length >= 1"),
        (ONE.replace("path: d", 'path: a"b'), "my.yaml:2: device.path: .*: names with quotes"),
        (ONE.replace("path: d", "paths: [d, e.]"), r"my.yaml:2: device.paths\[1\]: e.: a name"),
        (ONE.replace("  x:", "  X:"), "my.yaml:5: quantities.X: expected a name of small letters"),
        (ONE.replace("  x:", "  day:"), "my.yaml:5: quantities.day: .* are columns of ours"),
        (ONE.replace("  x:", "  select:"), "my.yaml:5: quantities.select: it is a word of CQL"),
        (ONE + "  x_mean: {}\n", "my.yaml:6: quantities.x_mean: x has a x_mean already"),
        (ONE.replace("0, m", "a, m"), "my.yaml:5: quantities.x.min 'a': expected a number, got te"),
        (ONE.replace("0, m", "9, m"), "my.yaml:5: quantities.x.min: 9; expected less than max, 9"),
        (ONE.replace("max: 9", "scale: 0"), "my.yaml:5: quantities.x.scale: expected another"),
        (ONE.replace("max: 9", "scal: 0"), "my.yaml:5: quantities.x.scal '0': there is no such"),
        (ONE.replace("max: 9", "type: real"), "my.yaml:5: quantities.x.type 'real': .*double or"),
        (
            ONE.replace("max: 9", "type: text") + "  y: {}\n",
            "my.yaml:5: quantities.x.min: a text has none",
        ),
        (ONE.replace("max: 9", "plausible: [2, 1]"), "my.yaml:5: quantities.x.plausible: .*lower"),
        (ONE.replace("max: 9", "paths: [a], path: b"), "my.yaml:5: quantities.x.paths: expected"),
        (ONE.replace("max: 9", "type: int, scale: 2"), "my.yaml:5: quantities.x: scale and shift"),
        (ONE + "ignore:\n- {path: a}\n", r"my.yaml:7: ignore\[0\]: expected one of `exists: true`"),
        (ONE + "ignore:\n- {path: a, equals: []}\n", r"my.yaml:7: ignore\[0\].equals: .*at least"),
        (ONE.replace("{min: 0, max: 9}", "{type: text}"), "my.yaml:4: quantities: none of them is"),
        (HEAD + "quantities: {}\n", "my.yaml:4: quantities: .*length >= 1"),
    ],
    ids=lambda one: one[-30:],
)
def test_what_is_wrong_is_told_with_its_line_and_what_is_expected(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{said}"):
        parse_declaration(text, "my.yaml", ("min", "mean"))


names = st.text(min_size=1).filter(str.isprintable) | st.sampled_from(["a.b", "a", "a[0]", '"'])


@given(st.lists(names, min_size=1, max_size=4).map(tuple))
def test_a_path_is_written_so_that_it_is_read_again(path: tuple[str, ...]) -> None:
    written = path_text(path)
    assert _path(yaml.safe_load(written) if written[0] == "[" else written) == path


def test_no_word_that_cassandra_keeps_for_itself_may_be_a_quantity() -> None:
    assert set(cql_keywords_reserved) <= RESERVED


@pytest.mark.parametrize(
    ("keys", "changes"),
    [
        ({"quantities": "{x: {min: -100.0, max: 1.0e+2}}"}, False),
        ({"quantities": "{x: {path: x, min: -100, max: 100, plausible: [0, 1], apart: 3}}"}, False),
        ({"quantities": "{x: {min: -100, max: 101}}"}, True),
        ({"quantities": "{x: {min: -100, max: 100, unit: m}}"}, True),
        ({"quantities": "{x: {min: -100, max: 100, paths: [x, y]}}"}, True),
        ({"quantities": "{x: {min: -100, max: 100, scale: 2}}"}, True),
        ({"time": "kafka"}, True),
        ({"time": "{path: t, as: milliseconds}"}, True),
        ({"device": "key"}, True),
        ({"device": "{header: d}"}, True),
        ({"ignore": "[{path: y, exists: true}]"}, True),
    ],
)
def test_the_fingerprint_is_of_what_decides_a_messages_fate(keys: dict, changes: bool) -> None:
    assert (of_one(**keys).fingerprint != of_one().fingerprint) is changes


def test_a_limit_that_is_set_changes_the_fingerprint() -> None:
    assert Settings.from_env({}).declaration.fingerprint == SEED.fingerprint
    wider = Settings.from_env({"IOT_TEMPERATURE_MAX": "200"}).declaration
    assert wider.fingerprint != SEED.fingerprint


# The settings that follow from it.


@pytest.fixture
def sensor_env(tmp_path) -> dict[str, str]:
    path = tmp_path / "mine.yaml"
    path.write_text(SENSOR_YAML)
    return {"IOT_READING": str(path)}


def test_each_declared_quantity_has_its_limits_as_settings(sensor_env) -> None:
    settings = Settings.from_env(sensor_env | {"IOT_CO2_MAX": "20000"})
    assert [quantity.name for quantity in settings.quantities] == ["temperature", "humidity", "co2"]
    assert settings.quantities[2].greatest == 20_000
    assert settings.reading_rules.quantities == settings.quantities
    assert settings.quality_limits.quantities == settings.quantities
    told = {name: meaning for name, _, meaning, _ in settings.rows()}
    assert told["IOT_CO2_MAX"] == "ppm; above is a dead letter"
    with pytest.raises(ConfigurationError, match=r"IOT_CO2_MIN=10000.*less than IOT_CO2_MAX"):
        Settings.from_env(sensor_env | {"IOT_CO2_MIN": "10000"})


def test_two_declarations_in_one_process_do_not_see_each_other(sensor_env) -> None:
    first, other = Settings.from_env({}), Settings.from_env(sensor_env)
    assert len(first.quantities) == 2
    assert len(other.quantities) == 3
    with pytest.raises(ConfigurationError, match="IOT_CO2_MAX: no such setting"):
        Settings.from_env({"IOT_CO2_MAX": "1"})


def test_a_wrong_file_is_refused_before_anything_is_contacted(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match=r"IOT_READING: no.yaml: No such file"):
        Settings.from_env({"IOT_READING": "no.yaml"})
    path = tmp_path / "mine.yaml"
    path.write_text(ONE.replace("path: d", "pth: d"))
    with pytest.raises(ConfigurationError, match=r"IOT_READING: .*mine.yaml:2: device.pth"):
        Settings.from_env({"IOT_READING": str(path)})


def test_a_limit_may_not_have_the_name_of_another_setting(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(HEAD + "quantities: {late: {}, run: {}}\n")
    assert len(Settings.from_env({"IOT_READING": str(path)}).quantities) == 2
    named = declared_limits(read_declaration(str(path))).model_fields
    assert "run_max" in named
