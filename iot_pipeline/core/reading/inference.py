"""A declaration for messages that are not declared yet: a first draft, to be edited.

Nothing here decides what a reading is: it looks at some messages, says what it saw, and guesses.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, get_args

import msgspec

from iot_pipeline.core.reading.declaration import Path, TimeUnit, path_text
from iot_pipeline.core.reading.declaration_file import OUR_COLUMNS, RESERVED, SCHEMA_LINE
from iot_pipeline.core.reading.declared_times import time_ms
from iot_pipeline.core.reading.formats import FormatName, UndecodableError
from iot_pipeline.core.reading.messages import Record, find_device_id_problem
from iot_pipeline.core.reading.payloads import what_it_is
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.errors import PermanentError

# Names that people give to what says who sends, and when.
_DEVICES = re.compile(r"device|sensor|meter|node|thing|serial|mac|imei|eui|gateway|(^|_)id$", re.I)
_TIMES = re.compile(r"time|ts$|stamp|date|(^|_)at$|measured|epoch", re.I)
# Units that a name may end with, or be.
_UNITS = (
    (r"temp.*_?f(ahrenheit)?$", "°F"),
    (r"temp", "°C"),
    (r"hum|(^|_)rh$|percent|pct|battery|soc$", "%"),
    (r"co2|ppm|voc", "ppm"),
    (r"hpa|press|baro", "hPa"),
    (r"lux|light|illum", "lx"),
    (r"kwh|energy", "kWh"),
    (r"watt|power|(^|_)w$", "W"),
    (r"volt|(^|_)v$", "V"),
    (r"amp|current|(^|_)a$", "A"),
    (r"rssi|dbm", "dBm"),
    (r"pm(1|25|2_5|10)", "µg/m³"),
    (r"noise|(^|_)db$", "dB"),
)
# Of messages whose time is that of their arrival, give or take.
_NEAR_MS = MS_PER_DAY
_SHOWN_VALUES = 3
# What this share of the messages does is what they do: some are broken.
_MOST = 0.95
_LEAVES = 200


Read = Callable[[bytes], Any]


@dataclass(slots=True)
class _Leaf:
    """What stands at one path: its values, and in which messages."""

    path: Path
    values: list[Any] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path[-1]

    def are(self, *kinds: type) -> bool:
        """Whether nearly all values are of these kinds."""
        return sum(type(value) in kinds for value in self.values) >= _MOST * len(self.values)

    def share(self, of: int) -> str:
        share = len(self.messages) / of
        return "all messages" if share == 1 else f"{share:.1%} of messages"


def infer(
    records: Sequence[Record], topic: str, form: FormatName = "json", read: Read | None = None
) -> str:
    """The YAML of a declaration that takes in most of these messages, with what was seen.

    Args:
        form: the format, which is a registry's where it is not JSON.
        read: what makes an object of a message of that format; raises UndecodableError, too.

    Raises:
        PermanentError: none of them is an object; says what else they are.
    """
    messages, beside = _objects(records, topic, read or msgspec.json.decode)
    leaves = _leaves(messages)
    time = _find_time(leaves, beside)
    device = _find_device(leaves, beside, time)
    taken = {leaf.path for leaf in (time and time[0], device) if leaf is not None}
    numbers = [leaf for leaf in leaves.values() if leaf.path not in taken and leaf.are(int, float)]
    readings = {at for leaf in numbers for at in leaf.messages}
    for leaf in (time and time[0], device):
        if leaf is not None:
            readings &= set(leaf.messages)
    rest = [leaf for leaf in leaves.values() if leaf.path not in taken and leaf not in numbers]
    ignored, known_by = _find_ignored(rest, readings, len(messages))
    numbers = [leaf for leaf in numbers if not readings.isdisjoint(leaf.messages)]
    if not numbers or not readings:
        raise PermanentError(
            f"{topic}: no number in {len(messages):,} messages could be a quantity beside a device "
            "and a time. Write the declaration by hand: docs/readings.md"
        )
    lines = [
        SCHEMA_LINE,
        f"# A draft from {len(messages):,} messages of {topic}. Look at each EDIT, then try it:",
        "#   iot reading check FILE",
        "version: 1",
        f"format: {form}",
        *_device_lines(device, beside, len(messages)),
        *_time_lines(time),
        "quantities:",
        *_quantity_lines(numbers, readings),
        *ignored,
        *_other_lines([leaf for leaf in rest if leaf.path != known_by], len(messages)),
    ]
    return "\n".join(lines) + "\n"


def line_for(path: Path, value: Any) -> str:
    """The line under `quantities` that takes a field in; empty where its value can be none."""
    kinds = {bool: "boolean", str: "text"}
    is_number = type(value) in (int, float)
    if not is_number and type(value) not in kinds:
        return ""
    # A guessed unit would be pasted as it is.
    said = 'unit: "?"' if is_number else f"type: {kinds[type(value)]}"
    return f"{_name_of(path, ())}: {{path: {_yaml_path(path)}, {said}, optional: true}}"


def _objects(
    records: Sequence[Record], topic: str, read: Read
) -> tuple[list[dict[str, Any]], list[Record]]:
    messages, beside = [], []
    others: Counter[str] = Counter()
    for record in records:
        try:
            found = read(record.value or b"")
        except UndecodableError as exc:
            others[str(exc)] += 1
            continue
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            others[what_it_is(record.value or b"") or "it is no JSON"] += 1
            continue
        if isinstance(found, dict):
            messages.append(found)
            beside.append(record)
        else:
            others["it is no JSON object"] += 1
    if not messages:
        what = f": {others.most_common(1)[0][0]}" if others else ", there is none"
        raise PermanentError(
            f"{topic}: none of its newest {len(records):,} messages is a JSON object{what}"
        )
    return messages, beside


def _leaves(messages: Sequence[dict[str, Any]]) -> dict[Path, _Leaf]:
    leaves: dict[Path, _Leaf] = {}
    for at, message in enumerate(messages):
        for path, value in _walk(message, ()):
            if len(leaves) >= _LEAVES and path not in leaves:
                continue
            leaf = leaves.setdefault(path, _Leaf(path))
            leaf.values.append(value)
            leaf.messages.append(at)
    return leaves


def _walk(message: dict[str, Any], before: Path) -> Iterator[tuple[Path, Any]]:
    for name, value in message.items():
        if not name or not name.isprintable() or set(name) & set('\\"'):
            continue
        if isinstance(value, dict):
            yield from _walk(value, (*before, name))
        elif value is not None and not isinstance(value, list):
            yield (*before, name), value


# Time and device.


def _find_time(
    leaves: dict[Path, _Leaf], beside: Sequence[Record]
) -> tuple[_Leaf, TimeUnit, str] | None:
    """The leaf, its unit, and why."""
    found: list[tuple[tuple[bool, bool, int], _Leaf, TimeUnit, str]] = []
    for leaf in leaves.values():
        unit = _unit_of(leaf)
        if unit is None:
            continue
        apart = median(
            abs(ms - beside[at].produced_ms)
            for value, at in zip(leaf.values, leaf.messages, strict=True)
            if (ms := _time_or_none(value, unit)) is not None
        )
        is_near, is_named = apart <= _NEAR_MS, bool(_TIMES.search(leaf.name))
        if not is_near and not is_named:
            continue
        why = "when it arrived, within a day" if is_near else "a time"
        shown = json.dumps(leaf.values[-1])
        rank = (is_near, is_named, len(leaf.messages))
        found.append((rank, leaf, unit, f"as {unit} {shown} is {why}"))
    if not found:
        return None
    _, leaf, unit, why = max(found, key=lambda one: one[0])
    return leaf, unit, why


def _unit_of(leaf: _Leaf) -> TimeUnit | None:
    for unit in get_args(TimeUnit):
        are_times = sum(_time_or_none(value, unit) is not None for value in leaf.values)
        if are_times >= _MOST * len(leaf.values):
            checked: TimeUnit = unit
            return checked
    return None


def _time_or_none(value: Any, unit: TimeUnit) -> int | None:
    try:
        return time_ms(value, unit) if type(value) in (int, float, str) else None
    except ValueError:
        return None


def _find_device(
    leaves: dict[Path, _Leaf],
    beside: Sequence[Record],
    time: tuple[_Leaf, TimeUnit, str] | None,
) -> _Leaf | None:
    """None: the message key."""
    keys = [record.message_key for record in beside]
    found: list[tuple[tuple[bool, bool, int, int], _Leaf]] = []
    for leaf in leaves.values():
        if not leaf.are(str) or (time is not None and leaf is time[0]):
            continue
        texts = [
            (value, at)
            for value, at in zip(leaf.values, leaf.messages, strict=True)
            if isinstance(value, str)
        ]
        if any(find_device_id_problem(value) for value, _ in texts):
            continue
        is_key = all(value.encode() == keys[at] for value, at in texts)
        is_named = bool(_DEVICES.search(leaf.name))
        if is_key or is_named:
            found.append(((is_key, is_named, len(leaf.messages), -len(leaf.path)), leaf))
    return max(found, key=lambda one: one[0])[1] if found else None


def _device_lines(device: _Leaf | None, beside: Sequence[Record], count: int) -> Iterator[str]:
    if device is not None:
        seen = len(set(device.values))
        yield f"# {seen:,} of them, in {device.share(count)}"
        yield f"device: {{path: {_yaml_path(device.path)}}}"
        return
    if all(record.message_key for record in beside):
        yield f"# {len({record.message_key for record in beside}):,} of them"
    else:
        yield "# EDIT: no field looks like the name of a device, and not every message has a key"
    yield "device: key"


def _time_lines(time: tuple[_Leaf, TimeUnit, str] | None) -> Iterator[str]:
    if time is None:
        yield "# EDIT: no field looks like a time, so it is when a message arrived in Kafka"
        yield "time: kafka"
        return
    leaf, unit, why = time
    yield f"# {why}"
    yield f"time: {{path: {_yaml_path(leaf.path)}, as: {unit}}}"


# Quantities.


def _quantity_lines(numbers: Sequence[_Leaf], readings: set[int]) -> Iterator[str]:
    names: set[str] = set()
    for leaves in _alternatives(numbers, readings):
        name = _name_of(leaves[0].path, names)
        names.add(name)
        values = [value for leaf in leaves for value in leaf.values if type(value) in (int, float)]
        messages = {at for leaf in leaves for at in leaf.messages} & readings
        share = len(messages) / len(readings)
        unit = next((unit for found, unit in _UNITS if re.search(found, name)), "")
        paths = [_yaml_path(leaf.path) for leaf in leaves]
        where = f"path: {paths[0]}" if len(paths) == 1 else f"paths: [{', '.join(paths)}]"
        yield f"  # {min(values):g} to {max(values):g} in {share:.1%} of readings"
        if not unit:
            yield "  # EDIT: its unit is unknown"
        elif len(leaves) == 1:
            yield "  # EDIT: its unit is guessed from its name"
        yield "  # EDIT: min and max, outside of which it is no reading; plausible: [low, high]"
        optional = ", optional: true" if share < _MOST else ""
        shown = json.dumps(unit or "?", ensure_ascii=False)
        yield f"  {name}: {{{where}, unit: {shown}{optional}}}"


def _alternatives(numbers: Sequence[_Leaf], readings: set[int]) -> list[list[_Leaf]]:
    """Leaves of one name that never stand in one message are one quantity, of mixed firmware."""
    by_name: defaultdict[str, list[list[_Leaf]]] = defaultdict(list)
    for leaf in numbers:
        known = by_name[_slug(leaf.name)]
        for group in known:
            if all(set(one.messages).isdisjoint(leaf.messages) for one in group):
                group.append(leaf)
                break
        else:
            known.append([leaf])
    return [group for groups in by_name.values() for group in groups]


def _slug(name: str) -> str:
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()
    return re.sub(r"[^a-z0-9]+", "_", words).strip("_")


def _name_of(path: Path, taken: Iterable[str]) -> str:
    for depth in range(1, len(path) + 1):
        name = "_".join(map(_slug, path[-depth:])).strip("_")[:32]
        name = name if name[:1].isalpha() else f"q_{name}".rstrip("_")
        if name not in RESERVED and name not in OUR_COLUMNS and name not in taken:
            return name
    numbered = (f"{name}_{number}" for number in range(2, 1_000))
    return next(one for one in numbered if one not in taken)


# What is left.


def _find_ignored(
    rest: Sequence[_Leaf], readings: set[int], count: int
) -> tuple[list[str], Path | None]:
    """Lines that ignore the messages that are no readings, where one path tells them apart."""
    others = set(range(count)) - readings
    if not others:
        return [], None
    for leaf in rest:
        told = dict(zip(leaf.messages, leaf.values, strict=True))
        if not others <= told.keys() or not leaf.are(str, bool, int):
            continue
        known = {told[at] for at in others}
        if known.isdisjoint(told[at] for at in readings & told.keys()) and len(known) <= 8:
            values = json.dumps(sorted(known, key=str), ensure_ascii=False)
            share = len(others) / count
            return [
                f"# {share:.1%} of messages have no device, time or number; all of them say this",
                "ignore:",
                f"- {{path: {_yaml_path(leaf.path)}, equals: {values}}}",
            ], leaf.path
    return [
        f"# EDIT: {len(others):,} of {count:,} messages have no device, time or number; `ignore:`",
        "# may name what they are known by, else they are dead letters",
    ], None


def _other_lines(rest: Sequence[_Leaf], count: int) -> Iterator[str]:
    if rest:
        yield "# Not read:"
    for leaf in rest:
        seen = Counter(json.dumps(value, ensure_ascii=False)[:40] for value in leaf.values)
        shown = ", ".join(value for value, _ in seen.most_common(_SHOWN_VALUES))
        more = ", ..." if len(seen) > _SHOWN_VALUES else ""
        yield f"#   {path_text(leaf.path)}: {shown}{more} in {leaf.share(count)}"


def _yaml_path(path: Path) -> str:
    """A path as YAML takes it inside of braces."""
    written = path_text(path)
    is_plain = re.fullmatch(r"[A-Za-z_][\w.-]*", written)
    is_word = written.lower() in ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
    if is_plain and not is_word:
        return written
    return written if written[:1] == "[" else json.dumps(written, ensure_ascii=False)
