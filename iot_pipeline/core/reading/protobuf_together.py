"""Protobuf, many messages of one type at once: each field of all of them, then the next field.

Fields are looked for in the order of their numbers, which is how they are written, each once or not
at all. It gives the same values as a library in C that reads message by message, and is cheaper. A
message with something rare in it (another order, a field that is repeated or that the schema does
not know, text that is not UTF-8) is left to `compiled_protobuf`, which reads it alone.
https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from iot_pipeline.core.reading.columns import Ints, Mask
from iot_pipeline.core.reading.declaration import Path
from iot_pipeline.core.reading.joined import Joined, Words, unzigzag
from iot_pipeline.core.reading.protobuf import TIMESTAMP, WIRES, write_tag
from iot_pipeline.core.reading.told_columns import (
    ALL,
    Budget,
    NotTogetherError,
    ReadMany,
    Rows,
    Walk,
    Want,
    below,
    read_many,
)

# Goes through what each row has from its place on; gives back the places behind it. The place where
# the message ends that it is a part of is told.
Step = Callable[[Walk, Ints, Ints, Rows], Ints]
Wants = Sequence[Want]
_F = FieldDescriptor
_TICKS = 1_000_000_000
# More seconds than these are more nanoseconds than 64 bits hold.
_MOST_SECONDS = (1 << 63) // _TICKS - 10
_SECONDS, _NANOS = Want(0, ("seconds",), "int64", None), Want(1, ("nanos",), "int64", None)


def compile_together(message: Descriptor, wants: Wants, start: int) -> ReadMany | None:
    """What reads messages of a type; None: they are read one by one.

    Where `start` is not 0 a byte stands there that says which message it is, and has to be 0.
    """
    try:
        step = _message(message, (), wants, (), Budget())
    except NotTogetherError:
        return None

    def walk_through(walk: Walk, at: Ints, end: Ints) -> Ints:
        if start:
            walk.refuse(ALL, (walk.joined.words(at) & 0xFF) != 0)
            at = at + 1
        return step(walk, at, end, ALL)

    return read_many(wants, walk_through, start)


@dataclass(slots=True)
class _Field:
    """A field that a message may have: the bytes it begins with, as a word, and what reads it.

    `choice` is the name of the choice of which it is one, if it is; of these one can be there.
    """

    tag: int
    mask: int
    size: int
    step: Step
    choice: str | None


def _message(
    message: Descriptor, path: Path, wants: Wants, outer: Sequence[str], budget: Budget
) -> Step:
    fields = []
    # What is there without being sent, and its value then.
    defaults: list[tuple[Wants, Any]] = []
    for one in sorted(message.fields, key=lambda field: field.number):
        place = (*path, one.name)
        here = [want for want in wants if want.path == place]
        step = _field(one, place, wants, (*outer, message.full_name), budget)
        if step is None:
            continue
        if here and not one.has_presence:
            defaults.append((here, one.default_value))
        tag = write_tag(one.number, WIRES.get(one.type, 0))
        chosen = one.containing_oneof
        is_choice = chosen is not None and len(chosen.fields) > 1
        fields.append(
            _Field(
                int.from_bytes(tag, "little"),
                (1 << 8 * len(tag)) - 1,
                len(tag),
                step,
                chosen.name if is_choice else None,
            )
        )

    def go_through(walk: Walk, at: Ints, end: Ints, rows: Rows) -> Ints:
        for unsent, value in defaults:
            walk.keep(unsent, rows, value)
        chosen: dict[str, Mask] = {}
        for one in fields:
            is_there = (walk.joined.words(at) & one.mask) == one.tag
            is_there &= at < end
            if one.choice is not None:
                before = chosen.setdefault(one.choice, np.zeros(len(at), np.bool_))
                walk.refuse(rows, before & is_there)
                before |= is_there
            if is_there.all():
                at = one.step(walk, at + one.size, end, rows)
                continue
            places = np.flatnonzero(is_there)
            if len(places):
                at = at.copy()
                at[places] = one.step(walk, at[places] + one.size, end[places], below(rows, places))
        return at

    return go_through


def _field(one: Any, path: Path, wants: Wants, outer: Sequence[str], budget: Budget) -> Step | None:
    """None: messages that have it are not read this way."""
    budget.take()
    here = [want for want in wants if want.path == path]
    if one.is_repeated or one.type == _F.TYPE_GROUP:
        return None
    if one.type == _F.TYPE_MESSAGE:
        inner = one.message_type
        if inner.full_name in outer:
            return None
        if inner.full_name == TIMESTAMP:
            return _inside(_timestamp(inner, here, budget))
        return _inside(_present(here, _message(inner, path, wants, outer, budget)))
    if one.type in (_F.TYPE_STRING, _F.TYPE_BYTES):
        return _text(here, is_text=one.type == _F.TYPE_STRING)
    if one.type in _FIXED:
        return _fixed(here, *_FIXED[one.type])
    return _number(here, _FROM_VARINT[one.type])


def _present(here: Wants, step: Step) -> Step:
    def present(walk: Walk, at: Ints, end: Ints, rows: Rows) -> Ints:
        walk.keep(here, rows, None)
        return step(walk, at, end, rows)

    return present


def _inside(step: Step) -> Step:
    """A message in a message, with its length before it."""

    def inside(walk: Walk, at: Ints, _end: Ints, rows: Rows) -> Ints:
        at, stop = _sized(walk, at, rows)
        walk.refuse(rows, step(walk, at, stop, rows) != stop)
        return stop

    return inside


def _timestamp(message: Descriptor, here: Wants, budget: Budget) -> Step:
    """A Timestamp as nanoseconds since 1970."""
    step = _message(message, (), (_SECONDS, _NANOS), (), budget)

    def timestamp(walk: Walk, at: Ints, end: Ints, rows: Rows) -> Ints:
        inner = Walk.through(walk.joined, (_SECONDS, _NANOS), walk.ends[rows])
        after = step(inner, at, end, ALL)
        seconds, nanos = inner.told.values
        is_far = (seconds > _MOST_SECONDS) | (seconds < -_MOST_SECONDS)
        walk.refuse(rows, inner.is_bad | is_far)
        walk.keep(here, rows, np.where(is_far, 0, seconds) * _TICKS + nanos)
        return after

    return timestamp


def _sized(walk: Walk, at: Ints, rows: Rows) -> tuple[Ints, Ints]:
    """Where what has its length before it begins, and where it ends."""
    sizes, at, is_none = walk.joined.varints(at)
    walk.refuse(rows, is_none)
    return at, walk.joined.behind(at, sizes.view(np.int64))


def _text(here: Wants, *, is_text: bool) -> Step:
    is_read = any(one.kind != "presence" for one in here)

    def text(walk: Walk, at: Ints, _end: Ints, rows: Rows) -> Ints:
        at, stop = _sized(walk, at, rows)
        is_none = None
        texts: list[str] = []
        if is_text and is_read:
            texts, is_none = walk.joined.texts(at, stop - at, walk.ends[rows])
        elif is_text:
            is_none = walk.joined.find_no_texts(at, stop - at, walk.ends[rows])
        walk.refuse(rows, is_none)
        walk.keep(here, rows, texts)
        return stop

    return text


def _fixed(here: Wants, size: int, read: Callable[[Joined, Ints], Any]) -> Step:
    def fixed(walk: Walk, at: Ints, _end: Ints, rows: Rows) -> Ints:
        if here:
            walk.keep(here, rows, read(walk.joined, at))
        return at + size

    return fixed


def _number(here: Wants, read: Callable[[Words], Any]) -> Step:
    def number(walk: Walk, at: Ints, _end: Ints, rows: Rows) -> Ints:
        told, at, is_none = walk.joined.varints(at)
        walk.refuse(rows, is_none)
        if here:
            walk.keep(here, rows, read(told))
        return at

    return number


def _low(told: Words) -> Any:
    return told.astype(np.uint32)


_FIXED: dict[int, tuple[int, Callable[[Joined, Ints], Any]]] = {
    _F.TYPE_DOUBLE: (8, Joined.doubles),
    _F.TYPE_FLOAT: (4, lambda joined, at: joined.floats(at).astype(np.float64)),
    _F.TYPE_FIXED64: (8, Joined.words),
    _F.TYPE_SFIXED64: (8, lambda joined, at: joined.words(at).view(np.int64)),
    _F.TYPE_FIXED32: (4, lambda joined, at: _low(joined.words(at))),
    _F.TYPE_SFIXED32: (4, lambda joined, at: _low(joined.words(at)).view(np.int32)),
}
_FROM_VARINT: dict[int, Callable[[Words], Any]] = {
    _F.TYPE_INT64: lambda told: told.view(np.int64),
    _F.TYPE_INT32: lambda told: _low(told).view(np.int32),
    _F.TYPE_UINT64: lambda told: told,
    _F.TYPE_UINT32: _low,
    _F.TYPE_SINT64: unzigzag,
    _F.TYPE_SINT32: lambda told: unzigzag(told & np.uint64(0xFFFF_FFFF)),
    _F.TYPE_BOOL: lambda told: told != 0,
    _F.TYPE_ENUM: lambda told: _low(told).view(np.int32),
}
