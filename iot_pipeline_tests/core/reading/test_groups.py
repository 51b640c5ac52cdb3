"""Groups of devices in a declaration: what they may say, and which device is of which."""

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.reading.groups import DeviceGroup, find_group, group_of
from iot_pipeline.core.reading.messages import ReadingRules, Record
from iot_pipeline.core.reading.preview import preview
from iot_pipeline.errors import ConfigurationError
from iot_pipeline_tests.core.reading.declared import SENSOR_YAML, declared, of_one

GROUPS = """\
groups:
- name: freezers
  devices: freezer_*
  quantities:
    temperature: {plausible: [-60, -10], jump: {at_once: 3, per_minute: 2}, apart: 4}
  silent_seconds: 7200
- name: the rest
  devices: ["*_?", b]
"""


def test_a_group_is_what_the_file_says() -> None:
    limits = {
        "silent_seconds": 7200,
        "plausible_temperature_min": -60,
        "plausible_temperature_max": -10,
        "jump_temperature": 3,
        "jump_temperature_per_minute": 2,
        "deviation_temperature": 4,
    }
    assert declared(SENSOR_YAML + GROUPS).groups == (
        DeviceGroup("freezers", ("freezer_*",), tuple(limits.items())),
        DeviceGroup("the rest", ("*_?", "b")),
    )
    assert declared(SENSOR_YAML).groups == ()


def test_groups_change_nothing_of_what_a_message_becomes() -> None:
    assert declared(SENSOR_YAML + GROUPS).fingerprint == declared(SENSOR_YAML).fingerprint


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("silent_seconds", "silence", "14: groups[0].silence '7200': there is no such key here; "),
        ("silent_seconds: 7200", "expected_days: 3", "14: groups[0].expected_days '3': there is"),
        ("7200", "0", "14: groups[0].silent_seconds '0': expected a number > 0.0"),
        ("7200", "long", "14: groups[0].silent_seconds 'long': expected a number, got text"),
        ("name: freezers", "nam: freezers", "10: groups[0].nam 'freezers': there is no such key"),
        ("- name: freezers\n ", "-", "10: groups[0]: expected the key"),
        ("freezer_*", "[]", "11: groups[0].devices: expected a list of length >= 1"),
        ("the rest", "freezers", "15: groups[1].name: freezers is a group already; expected an"),
        ("temperature: {pl", "heat: {pl", "13: groups[0].quantities.heat: there is no such quan"),
        ("plausible", "min", "13: groups[0].quantities.temperature.min: there is no such key "),
        ("apart: 4", "apart: -4", "13: groups[0].quantities.temperature.apart '-4': expected a"),
        ("at_once: 3", "once: 3", "13: groups[0].quantities.temperature.jump.once '3': there is"),
        ("[-60, -10]", "[1, 0]", "13: groups[0].quantities.temperature.plausible: expected two"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(old: str, new: str, said: str) -> None:
    text = SENSOR_YAML + GROUPS.replace(old, new, 1)
    with pytest.raises(ConfigurationError, match=f"^my.yaml:{re.escape(said)}"):
        declared(text)


def test_what_is_no_number_has_no_limits_in_a_group_either() -> None:
    with pytest.raises(ConfigurationError, match=r"quantities\.y: a text has no limits"):
        of_one(
            quantities="{x: {}, y: {type: text}}",
            groups="[{name: a, devices: b, quantities: {y: {apart: 1}}}]",
        )


_ids = st.text("ab_1", min_size=1, max_size=4)
_patterns = st.text("ab_1*?", min_size=1, max_size=4)
_groups = st.lists(st.lists(_patterns, min_size=1, max_size=3), max_size=4).map(
    lambda found: [DeviceGroup(f"g{n}", tuple(patterns)) for n, patterns in enumerate(found)]
)


@given(_groups, _ids)
def test_the_first_group_that_names_a_device_has_it(
    groups: list[DeviceGroup], device_id: str
) -> None:
    of = [g for g in groups if any(fnmatchcase(device_id, pattern) for pattern in g.patterns)]
    assert find_group(groups, device_id) == (of[0] if of else None)
    assert not of or group_of(groups, device_id) == of[0].name


def test_without_a_group_the_name_tells_the_kind() -> None:
    assert [group_of((), name) for name in ("kitchen_12", "a/b-3", "7", "x")] == [
        "kitchen",
        "a/b",
        "7",
        "x",
    ]


def test_a_preview_says_how_many_devices_each_group_has() -> None:
    rules = ReadingRules(of_one(groups="[{name: a, devices: [a_*]}, {name: never, devices: a_1}]"))
    found = preview(
        [
            Record(
                0, number, 1_795_000_000_000, None, b'{"d": "%s", "t": 1795000000, "x": 1}' % name
            )
            for number, name in enumerate([b"a_1", b"a_2", b"a_2", b"b_1"])
        ],
        rules,
    )
    a, never = rules.declaration.groups
    assert found.devices_by_group((a, never)) == {a: 2, never: 0, None: 1}
