import msgspec
import pytest
import yaml

from iot_pipeline.core.reading.messages import Reason
from iot_pipeline.core.simulator.fault_specs import MALFORMED_REASONS, FaultKind
from iot_pipeline.core.simulator.scenario_file import SCHEMA_LINE, parse_scenario
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local.scenario_files import (
    SCHEMA_NAME,
    load_scenario,
    schema_text,
    shipped_folder,
    shipped_scenarios,
)

GROUPS = "description: x\ngroups:\n  - name: a\n    devices: 3\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "my.yaml:1: the file is empty"),
        ("a: [", "my.yaml:1: not YAML"),
        ("just words", "my.yaml:1: the file 'just words': Expected `object`"),
        ("description: x\ndescription: y\n", "my.yaml:1: description is given twice"),
        (GROUPS + "    colour: red\n", r"my.yaml:5: groups\[0\].colour: .*expected name, devices"),
        (
            GROUPS + "    interval: 5\n",
            r"my.yaml:5: groups\[0\].interval '5': expected a time span",
        ),
        (GROUPS + "    interval: 1ms\n", r"my.yaml:5: groups\[0\].interval '1ms': .*0.01 s to"),
        (
            GROUPS + "    jitter: 0.9\n",
            r"my.yaml:5: groups\[0\].jitter '0.9': Expected `float` <= 0",
        ),
        (GROUPS + "    places: [k, k]\n", "my.yaml:5: .*a place is named twice"),
        (GROUPS + "    ids: '{room}'\n", r"my.yaml:5: groups\[0\].ids '\{room\}': .*\{number\}"),
        (GROUPS + "  - name: a\n    devices: 2\n", r"my.yaml:5: groups\[1\].name 'a'.*is above"),
        (
            GROUPS + "  - {name: b, devices: 2, ids: 'a_{number}'}\n",
            r"my.yaml:5: groups\[1\]: two devices would be called a_1",
        ),
        (GROUPS + "speed: fast\n", "my.yaml:5: speed 'fast': expected a number"),
        (GROUPS + "duration: 400d\n", "my.yaml:5: duration '400d': .*out of bounds"),
        (GROUPS + "faults:\n  - kind: gone\n", r"my.yaml:6: faults\[0\].kind 'gone': .*dropout"),
        (GROUPS + "faults:\n  - at: 3s\n", r"my.yaml:6: faults\[0\]: expected a kind: dropout"),
        (
            GROUPS + "faults:\n  - kind: stuck\n    at: 3s\n",
            r"my.yaml:6: faults\[0\]: stuck lasts a while; expected `for`",
        ),
        (GROUPS + "faults:\n  - {kind: spike, for: 3s}\n", "expected `at` or `per_hour` too"),
        (GROUPS + "faults:\n  - {kind: spike, every: 3s}\n", "when it begins the first time"),
        (
            GROUPS + "faults:\n  - {kind: spike, at: 1s, per_hour: 3}\n",
            r"my.yaml:6: faults\[0\].per_hour '3': it begins at a time or so often",
        ),
        (
            GROUPS + "faults:\n  - {kind: stuck, at: 1s, for: 1m, every: 5s}\n",
            "5s is shorter than it lasts, 1m",
        ),
        (
            GROUPS + "faults:\n  - {kind: spike, devices: [b_*]}\n",
            r"my.yaml:6: faults\[0\].devices: 'b_\*' is no device, group or place",
        ),
        (
            GROUPS + "faults:\n  - {kind: malformed, reasons: [rejected_by_cassandra]}\n",
            r"faults\[0\].reasons\[0\] 'rejected_by_cassandra': expected one of not_json",
        ),
        (
            GROUPS
            + "faults:\n  - kind: late\n    delay: {distribution: uniform, min: 9s, max: 2s}\n",
            r"my.yaml:7: faults\[0\].delay: .*`max` not below it",
        ),
        (
            GROUPS + "faults:\n  - kind: spike\n    height: 3\n",
            r"my.yaml:7: faults\[0\].height: .*expected kind, devices, .*share",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_line_its_key_and_what_is_expected(text, said):
    with pytest.raises(ConfigurationError, match=said):
        parse_scenario(text, "my.yaml")


def test_an_anchor_inside_itself_is_refused_and_not_followed_for_ever():
    with pytest.raises(ConfigurationError):
        parse_scenario("description: x\ngroups: &a [*a]\n", "my.yaml")


def test_every_reason_that_a_payload_can_provoke_can_be_asked_for():
    assert set(MALFORMED_REASONS) == set(Reason) - {
        Reason.REJECTED_BY_CASSANDRA,
        Reason.UNDECODABLE,
    }


def test_the_schema_that_editors_read_is_that_of_the_code():
    """When this fails: python -m iot_pipeline.local.scenario_files."""
    assert (shipped_folder() / SCHEMA_NAME).read_text("utf-8") == schema_text()


@pytest.mark.parametrize("name", shipped_scenarios())
def test_a_shipped_scenario_is_valid_by_its_schema_and_says_so_to_editors(name):
    from jsonschema import Draft202012Validator

    text = (shipped_folder() / f"{name}.yaml").read_text("utf-8")
    assert text.startswith(SCHEMA_LINE + "\n")
    schema = msgspec.json.decode(schema_text())
    assert not list(Draft202012Validator(schema).iter_errors(yaml.safe_load(text)))
    assert load_scenario(name)[0] == name


def test_the_shipped_scenarios_are_those_people_were_promised():
    assert set(shipped_scenarios()) == {
        "smart_home",
        "smart_city",
        "seed",
        "rough_day",
        "backfill_month",
    }
    rough = load_scenario("rough_day")[1]
    assert {fault.kind for fault in rough.faults} == set(FaultKind)
    month = load_scenario("backfill_month")[1]
    assert round(month.readings_per_second * 30 * 86_400) == 4_320_000


def test_a_file_of_ones_own_is_read_by_its_path(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(GROUPS)
    assert load_scenario(str(mine))[0] == "mine"
    with pytest.raises(ConfigurationError, match=r"expected backfill_month, .*or a path"):
        load_scenario("no_such")
