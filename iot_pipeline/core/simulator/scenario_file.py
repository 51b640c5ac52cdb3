"""A scenario from its YAML, or what is wrong with it: file, line, key, and what is expected."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import yaml

from iot_pipeline.core.reading.messages import find_device_id_problem
from iot_pipeline.core.simulator.chance import Chance
from iot_pipeline.core.simulator.fault_specs import (
    LASTING_KINDS,
    MALFORMED_REASONS,
    ExponentialDelay,
    Fault,
    FaultKind,
    FaultSpec,
    Late,
    UniformDelay,
)
from iot_pipeline.core.simulator.faults import devices_hit
from iot_pipeline.core.simulator.scenarios import (
    MAX_DURATION_US,
    Group,
    QuantityCurve,
    Scenario,
    Weather,
    make_devices,
)
from iot_pipeline.core.times import US_PER_DAY, US_PER_HOUR, duration_us
from iot_pipeline.core.yaml_lines import find_line, path_and_message, read_yaml
from iot_pipeline.errors import ConfigurationError

SCHEMA_LINE = "# yaml-language-server: $schema=scenario.schema.json"
MAX_DEVICES = 100_000
_SHORTEST_INTERVAL_US = 10_000
# What msgspec says of a pattern, and what a person can do with it.
_PATTERNS = (
    (r"(ms|s|m|h|d)$'", "a time span with its unit, such as 500ms, 90s, 15m, 2h or 30d"),
    (r"{1,64}$'", "1 to 64 letters, digits, _ . or -"),
)
_TIME_SPANS = re.compile(r"\.(interval|duration|changes_in|at|for|every|skew|after|min|max|mean)$")
# Which keys there are, by the last name of a path.
_STRUCTS: dict[str, type[msgspec.Struct]] = {
    "": Scenario,
    "weather": Weather,
    "groups": Group,
    **{
        field.name: field.type
        for field in msgspec.structs.fields(Group)
        if isinstance(field.type, type) and issubclass(field.type, QuantityCurve)
    },
}


def parse_scenario(text: str, source: str) -> Scenario:
    """Read a scenario; `source` is the file's name, for messages.

    Raises:
        ConfigurationError: `source:line: key: what is expected`, for the first thing that is wrong.
    """
    value, node = read_yaml(text, source, "a scenario")
    try:
        scenario = msgspec.convert(value, Scenario)
    except msgspec.ValidationError as exc:
        path, message = path_and_message(exc)
        raise ConfigurationError(_explain(source, node, path, message)) from None
    for path, message in _problems(scenario):
        raise ConfigurationError(_explain(source, node, path, message))
    return scenario


def schema() -> dict[str, Any]:
    made = msgspec.json.schema(Scenario)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "iot_pipeline scenario",
        **made,
    }


def _problems(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """What no single key shows: (path, what is expected) of everything that does not fit."""
    yield from _span_problem("$.duration", scenario.duration, 1_000, MAX_DURATION_US)
    weather_us = (US_PER_HOUR, 30 * US_PER_DAY)
    yield from _span_problem("$.weather.changes_in", scenario.weather.changes_in, *weather_us)
    if scenario.device_count > MAX_DEVICES:
        yield "$.groups", f"{scenario.device_count:,} devices; expected at most {MAX_DEVICES:,}"
        return
    for index, group in enumerate(scenario.groups):
        path = f"$.groups[{index}]"
        yield from _span_problem(
            f"{path}.interval", group.interval, _SHORTEST_INTERVAL_US, US_PER_DAY
        )
        if len(set(group.places)) < len(group.places):
            yield f"{path}.places", "a place is named twice; expected each once"
        named = re.findall(r"\{([^{}]*)\}", group.ids)
        leftover = re.sub(r"\{(group|place|number)\}", "", group.ids)
        if "{" in leftover or "}" in leftover or "number" not in named:
            yield f"{path}.ids", f"{group.ids!r}; expected {{number}}, and {{group}} or {{place}}"
            return
        if group.name in [other.name for other in scenario.groups[:index]]:
            yield f"{path}.name", "a group of this name is above; expected another"
            return
    devices = make_devices(scenario)
    group_index = {group.name: index for index, group in enumerate(scenario.groups)}
    seen: set[str] = set()
    for device in devices:
        at = group_index[device.group]
        problem = find_device_id_problem(device.device_id)
        if problem is not None:
            yield f"$.groups[{at}].ids", problem
            return
        if device.device_id in seen:
            yield (
                f"$.groups[{at}]",
                f"two devices would be called {device.device_id}; expected other names or `ids`",
            )
            return
        seen.add(device.device_id)
    for index, fault in enumerate(scenario.faults):
        yield from _fault_problems(f"$.faults[{index}]", fault)
        for pattern in fault.devices:
            only = msgspec.structs.replace(fault, devices=[pattern], pick=None)
            if not devices_hit(only, devices, Chance()):
                yield (
                    f"$.faults[{index}].devices",
                    f"{pattern!r} is no device, group or place here; expected such as "
                    f"{devices[0].device_id!r}",
                )


def _fault_problems(path: str, fault: Fault) -> Iterator[tuple[str, str]]:
    if fault.at is not None and fault.per_hour is not None:
        yield f"{path}.per_hour", "it begins at a time or so often an hour; expected `at` or this"
    if fault.every is not None and fault.at is None:
        yield f"{path}.every", "expected `at` too: when it begins the first time"
    if fault.kind in LASTING_KINDS and (
        fault.lasts is None or (fault.at is None and fault.per_hour is None)
    ):
        yield path, f"{fault.kind} lasts a while; expected `for`, and `at` or `per_hour`"
    elif fault.lasts is not None and fault.at is None and fault.per_hour is None:
        yield f"{path}.for", "expected `at` or `per_hour` too: when it begins"
    if fault.lasts is not None and duration_us(fault.lasts) == 0:
        yield f"{path}.for", "expected more than 0"
    if fault.every is not None:
        shortest = 1 if fault.lasts is None else duration_us(fault.lasts)
        if duration_us(fault.every) < shortest:
            yield f"{path}.every", f"{fault.every} is shorter than it lasts, {fault.lasts or '0s'}"
    if isinstance(fault, Late):
        delay = fault.delay
        low = delay.min if isinstance(delay, UniformDelay) else delay.mean
        if not 0 < duration_us(low) <= duration_us(delay.max):
            yield f"{path}.delay", "expected a delay above 0, and `max` not below it"


def _span_problem(path: str, text: str, low: int, high: int) -> Iterator[tuple[str, str]]:
    if not low <= duration_us(text) <= high:
        yield path, f"{text} is out of bounds; expected {low / 1e6:g} s to {high / 1e6:,.0f} s"


# Lines: msgspec says where in the value, PyYAML's nodes know where in the file.


def _explain(source: str, node: yaml.Node, path: str, message: str) -> str:
    line, found = find_line(node, path)
    for ending, words in _PATTERNS:
        if "matching regex" in message and message.endswith(ending):
            message = f"expected {words}"
    if message.startswith("Expected `str`") and _TIME_SPANS.search(path):
        message = f"expected {_PATTERNS[0][1]}"
    if message.startswith("Invalid") and path in ("$.speed", "$"):
        message = "expected a number (1 is live) or max"
    if path.endswith(".kind") or "field `kind`" in message:
        message = f"expected a kind: {', '.join(FaultKind)}"
    elif "].reasons" in path and message.startswith("Invalid"):
        message = f"expected one of {', '.join(MALFORMED_REASONS)}"
    unknown = re.search(r"unknown field `([^`]*)`", message)
    if unknown is not None:
        key = unknown[1]
        line = next(
            (k.start_mark.line + 1 for k, _ in getattr(found, "value", []) if k.value == key), line
        )
        where = f"{path}.{key}"
        message = f"there is no such key here; expected {', '.join(_keys(found, path))}"
    else:
        where = path
    value = f" {found.value!r}" if isinstance(found, yaml.ScalarNode) else ""
    return f"{source}:{line}: {where.removeprefix('$').lstrip('.') or 'the file'}{value}: {message}"


def _keys(node: yaml.Node, path: str) -> list[str]:
    *_, last = re.findall(r"[a-z_]+", path) or [""]
    if last in _STRUCTS:
        return [field.encode_name for field in msgspec.structs.fields(_STRUCTS[last])]
    given = {k.value: v.value for k, v in getattr(node, "value", [])}
    tag = "distribution" if path.endswith(".delay") else "kind"
    for struct in get_args(FaultSpec) + get_args(UniformDelay | ExponentialDelay):
        if struct.__struct_config__.tag == given.get(tag):
            return [tag, *(field.encode_name for field in msgspec.structs.fields(struct))]
    return [tag]
