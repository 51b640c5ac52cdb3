from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iot_pipeline.core.checks.device_table import (
    MOST_ROWS,
    DeviceTable,
    as_word,
    instant,
    name_some,
    some,
)
from iot_pipeline.core.checks.messages_seen import Kind, MessagesSeen
from iot_pipeline.core.checks.unit_changes import UnitChange, find_change
from iot_pipeline.core.checks.verdicts import CheckVerdict, not_looked
from iot_pipeline.core.fleet.view import natural_key
from iot_pipeline.core.reading.inference import line_for
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.reading.unknown_fields import FieldSeen
from iot_pipeline.core.words import counted
from iot_pipeline.stages.checks.machinery.check import KAFKA, Check
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.checks.machinery.log_looks import LogLooks

# A look takes a tenth of a second of CPU and more of waiting. A run that has less time leaves it to
# the schedule, but for the first look at all; so does each report of a run that follows.
_LEAST_SECONDS = 1.0
_SHARE = 0.2
# One broken device is the matter of dead_letters_are_few; a type that changed is that of many.
_TYPE_SHARE = 0.1
# Where other fields are passed over, one is new when many of many messages have it, and none had.
_NEW_SHARE = 0.1
# A share of fewer messages is that of a device or two.
_LEAST_MESSAGES = 100
# Finding the first offset of one costs several reads: of more, the first one in the newest
# messages is named.
_MOST_DATED = 5
_MOST_LINE = 120


@dataclass(frozen=True, slots=True)
class Drift:
    """One thing that is not as declared: in words, how often, since when, and what takes it in.

    `devices` are those that sent it among the newest messages, as far as they are known.
    """

    name: str
    kind: str
    share: str
    since: str
    line: str
    devices: Sequence[str]


def look(facts: Facts) -> CheckVerdict | None:
    """The newest messages against the declaration, and against those of a day before."""
    seconds = facts.seconds(_SHARE)
    if seconds < _LEAST_SECONDS:
        return None
    looks = LogLooks(facts, seconds)
    newest, rules = looks.newest, facts.settings.reading_rules
    fields = [
        (Kind.FIELD, name) for name in _fields(looks, counts=rules.declaration.counts_unknown)
    ]
    types = [
        (Kind.TYPE, name)
        for name, seen in newest.types.items()
        if seen.records >= _TYPE_SHARE * max(newest.records, _LEAST_MESSAGES)
    ]
    drifts = []
    for number, (kind, name) in enumerate((*types, *fields)):
        drifts.append(_describe(looks, kind, name, is_dated=number < _MOST_DATED))
    units = [_unit(looks, quantity) for quantity in rules.quantities if quantity.is_number]
    changed = [drift for drift in units if drift is not None]
    return judge(
        [*changed, *drifts],
        newest,
        len(fields),
        is_compared=looks.has_time and looks.earlier.records > 0,
        is_new_judged=not rules.declaration.counts_unknown
        and bool(newest.fields.seen)
        and _can_tell_new(looks),
    )


def _can_tell_new(looks: LogLooks) -> bool:
    return min(looks.newest.records, looks.earlier.records) >= _LEAST_MESSAGES


def _fields(looks: LogLooks, *, counts: bool) -> list[str]:
    """The undeclared fields that are told of, those that most messages have first."""
    newest = looks.newest
    seen = newest.fields.seen
    names = sorted(seen, key=lambda name: (-seen[name].records, name))
    if counts or not names:
        return names
    if not _can_tell_new(looks):
        return []
    earlier = looks.earlier
    return [
        name
        for name in names
        if seen[name].records >= _NEW_SHARE * newest.records and name not in earlier.fields.seen
    ]


def _describe(looks: LogLooks, kind: Kind, name: str, *, is_dated: bool) -> Drift:
    newest = looks.newest
    seen = newest.found(kind)[name]
    first, arrived = seen, newest.arrived_ms[seen.partition, seen.offset]
    if is_dated:
        first, arrived = looks.first_of(kind, name)
    line = newest.lines.get(name, "") if kind is Kind.TYPE else _line_for(seen)
    return Drift(
        name,
        kind.value,
        _share(seen.records, newest),
        f"{first.partition}:{first.offset}, {instant(arrived)}",
        line,
        sorted(seen.devices, key=natural_key),
    )


def _line_for(seen: FieldSeen) -> str:
    """Empty where the line is too long or not printable: devices choose names."""
    line = line_for(seen.path, seen.value)
    is_shown = line and len(line) <= _MOST_LINE and line.isprintable() and "`" not in line
    return f"`{line}`" if is_shown else ""


def _share(records: int, newest: MessagesSeen) -> str:
    return f"{records:,} of {newest.records:,} messages ({records / newest.records:.1%})"


def _unit(looks: LogLooks, quantity: Quantity) -> Drift | None:
    if not looks.has_time:
        return None
    before, after = looks.earlier.values[quantity.name], looks.newest.values[quantity.name]
    change = find_change(before, after, quantity.unit)
    place = looks.where_changed(quantity.name, change) if change is not None else None
    if change is None or place is None:
        return None
    partition, offset, arrived = place
    return Drift(
        f"{quantity.name}: {change.conversion.words}",
        "unit",
        f"{len(change.devices):,} of {change.of:,} devices, "
        f"{quantity.with_unit(change.before)} before, {quantity.shown(change.after)} since",
        f"about {partition}:{offset}, {instant(arrived)}",
        _conversion_line(quantity, change),
        sorted(change.devices, key=natural_key),
    )


def _conversion_line(quantity: Quantity, change: UnitChange) -> str:
    """What makes the old values of the new ones."""
    scale = quantity.scale / change.conversion.scale
    shift = (quantity.shift - change.conversion.shift) / change.conversion.scale
    also = f", shift: {shift!r}" if shift else ""
    return f"`{quantity.name}: {{scale: {scale!r}{also}}}`"


def judge(
    drifts: Sequence[Drift],
    newest: MessagesSeen,
    fields: int,
    *,
    is_compared: bool,
    is_new_judged: bool,
) -> CheckVerdict:
    """What the newest messages have that the declaration does not say."""
    kinds = [drift.kind for drift in drifts]
    numbers = {
        "messages": newest.records,
        "unknown_fields": fields,
        "other_types": kinds.count(Kind.TYPE.value),
        "other_units": kinds.count("unit"),
    }
    units = (
        "Units were compared, device by device, with those of 24 hours before, or of the log's "
        "first messages."
        if is_compared
        else "Units were not compared: there was no time, or no message from before."
    )
    if not newest.records:
        return _nothing_seen(newest, numbers)
    if not drifts:
        declared = newest.rules.declaration
        said = (
            f"The newest {counted(newest.records, 'message')} have the fields and types declared."
        )
        if not declared.counts_unknown and newest.fields.seen:
            new = (
                "None appeared in a tenth of the messages since those before."
                if is_new_judged
                else "Whether one is new was not compared: there are too few messages."
            )
            other = counted(len(newest.fields.seen), "other field")
            said += f" Passed over (`unknown_fields: pass`): {other}. {new}"
        return CheckVerdict(True, f"{said} {units}", numbers)
    told = some([_in_words(drift) for drift in drifts])
    said = (
        f"In the newest {counted(newest.records, 'message')}: {told}. Declare what is "
        "new (docs/readings.md), or have the devices send as before. "
        f"{units}"
    )
    rows = [
        (drift.name, drift.kind, drift.share, drift.since, drift.line, name_some(drift.devices))
        for drift in drifts[:MOST_ROWS]
    ]
    columns = ("what", "of", "in", "first found at", "a line of the declaration", "sent by")
    table = DeviceTable(columns, rows, len(drifts) - len(rows))
    return CheckVerdict(False, said, numbers, table, [as_word(drift.name) for drift in drifts[:20]])


def _nothing_seen(newest: MessagesSeen, numbers: Mapping[str, int]) -> CheckVerdict:
    if newest.unread:
        said = f"None of the newest {counted(newest.unread, 'message')} could be read."
        return not_looked(said, numbers)
    if newest.ignored:
        said = f"The newest {counted(newest.ignored, 'message')} are all ignored, as declared."
        return CheckVerdict(True, said, numbers)
    return CheckVerdict(True, "No message to look at: the topic has none.", numbers)


def _in_words(drift: Drift) -> str:
    words = {
        Kind.FIELD.value: f"the field {as_word(drift.name)} is not declared",
        Kind.TYPE.value: f"another type: {as_word(drift.name)}",
        "unit": f"another unit: {drift.name}",
    }
    takes = "converts it" if drift.kind == "unit" else "takes it in"
    line = f"; {drift.line} {takes}" if drift.line else ""
    of = f" from {name_some(drift.devices)}" if drift.devices else ""
    return f"{words[drift.kind]}, in {drift.share}{of}, first found at {drift.since}{line}"


CHECK = Check(
    "fields_are_as_declared",
    "The newest messages have no field that is not declared, and each declared one in its type and "
    "its unit. Names, shares, and where each was first. Warned while the newest messages have it; "
    "another unit, and a new field where others are passed over, for a day.",
    look,
    order=105,
    asks=(KAFKA,),
)
