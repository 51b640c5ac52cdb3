"""Avro, many messages of one schema at once: each field of all of them, then the next field.

It gives the same values as a library in C that reads message by message, several times cheaper. A
message with something rare in it (a list that is not empty, text that is not UTF-8, an end in the
wrong place) is left to `compiled`, which reads it alone. https://avro.apache.org/docs/1.12.0/specification/
"""

from collections.abc import Callable, Sequence

import numpy as np

from iot_pipeline.core.reading.avro import Node
from iot_pipeline.core.reading.columns import Ints
from iot_pipeline.core.reading.declaration import Path
from iot_pipeline.core.reading.joined import unzigzag
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

# Goes through a value of each row, from its place on; gives back the places behind it.
Step = Callable[[Walk, Ints, Rows], Ints]
Wants = Sequence[Want]
_LARGEST_FIXED = 1 << 24


def compile_together(root: Node, wants: Wants, start: int) -> ReadMany | None:
    """What reads messages of a schema that cannot run away; None: they are read one by one."""
    try:
        step = _step(root, (), wants, Budget())
    except NotTogetherError:
        return None
    return read_many(wants, lambda walk, at, _end: step(walk, at, ALL), start)


def _step(node: Node, path: Path, wants: Wants, budget: Budget) -> Step:
    """What goes through a value of this type, at this path, and keeps what is wanted of it."""
    budget.take()
    here = [one for one in wants if one.path == path]
    is_asked_inside = any(one.path[: len(path)] == path for one in wants if one not in here)
    if node.kind == "null":
        return _nothing
    if node.kind == "union":
        if is_asked_inside and sum(one.kind != "null" for one in node.parts) > 1:
            raise NotTogetherError
        return _union([_step(one, path, wants, budget) for one in node.parts])
    if node.kind == "record":
        steps = [_step(inner, (*path, name), wants, budget) for name, inner in node.fields.items()]
        return _kept(here, _record(steps))
    if node.kind in ("array", "map"):
        if is_asked_inside:
            raise NotTogetherError
        return _kept(here, _empty)
    if node.kind == "fixed":
        # A place is of 64 bits: a hundred of these in a row stay far below.
        if not 0 <= node.size <= _LARGEST_FIXED:
            raise NotTogetherError
        return _kept(here, _fixed(node.size))
    if node.kind == "bytes":
        return _kept(here, _bytes)
    if node.kind == "enum":
        return _enum(here, node.symbols)
    return _LEAVES[node.kind](here)


def _kept(here: Wants, step: Step) -> Step:
    """Of what is no number, no text and no boolean nothing is wanted but that it is there."""
    if any(one.kind != "presence" for one in here):
        raise NotTogetherError
    if not here:
        return step

    def present(walk: Walk, at: Ints, rows: Rows) -> Ints:
        walk.keep(here, rows, None)
        return step(walk, at, rows)

    return present


def _nothing(_walk: Walk, at: Ints, _rows: Rows) -> Ints:
    return at


def _record(steps: Sequence[Step]) -> Step:
    def record(walk: Walk, at: Ints, rows: Rows) -> Ints:
        for step in steps:
            at = step(walk, at, rows)
        return at

    return record


def _union(steps: Sequence[Step]) -> Step:
    def union(walk: Walk, at: Ints, rows: Rows) -> Ints:
        branches, at = _longs(walk, at, rows)
        is_none = (branches < 0) | (branches >= len(steps))
        walk.refuse(rows, is_none)
        for branch, step in enumerate(steps):
            is_it = branches == branch
            if is_it.all():
                return step(walk, at, rows)
            places = np.flatnonzero(is_it)
            if len(places):
                at[places] = step(walk, at[places], below(rows, places))
        return at

    return union


def _empty(walk: Walk, at: Ints, rows: Rows) -> Ints:
    """A list or a map that holds nothing."""
    counts, at = _longs(walk, at, rows)
    walk.refuse(rows, counts != 0)
    return at


def _fixed(size: int) -> Step:
    return lambda _walk, at, _rows: at + size


def _bytes(walk: Walk, at: Ints, rows: Rows) -> Ints:
    sizes, at = _longs(walk, at, rows)
    return walk.joined.behind(at, sizes)


def _long(here: Wants) -> Step:
    def long(walk: Walk, at: Ints, rows: Rows) -> Ints:
        numbers, at = _longs(walk, at, rows)
        walk.keep(here, rows, numbers)
        return at

    return long


def _double(here: Wants) -> Step:
    def double(walk: Walk, at: Ints, rows: Rows) -> Ints:
        if here:
            walk.keep(here, rows, walk.joined.doubles(at))
        return at + 8

    return double


def _float(here: Wants) -> Step:
    def single(walk: Walk, at: Ints, rows: Rows) -> Ints:
        if here:
            walk.keep(here, rows, walk.joined.floats(at).astype(np.float64))
        return at + 4

    return single


def _boolean(here: Wants) -> Step:
    def boolean(walk: Walk, at: Ints, rows: Rows) -> Ints:
        told = walk.joined.words(at) & 0xFF
        walk.refuse(rows, told > 1)
        walk.keep(here, rows, told == 1)
        return at + 1

    return boolean


def _string(here: Wants) -> Step:
    is_read = any(one.kind != "presence" for one in here)

    def string(walk: Walk, at: Ints, rows: Rows) -> Ints:
        sizes, at = _longs(walk, at, rows)
        if is_read:
            texts, is_none = walk.joined.texts(at, sizes, walk.ends[rows])
        else:
            texts, is_none = [], walk.joined.find_no_texts(at, sizes, walk.ends[rows])
        walk.keep(here, rows, texts)
        walk.refuse(rows, is_none)
        return walk.joined.behind(at, sizes)

    return string


def _enum(here: Wants, symbols: Sequence[str]) -> Step:
    if not symbols:
        raise NotTogetherError
    words = np.array(symbols, object)

    def enum(walk: Walk, at: Ints, rows: Rows) -> Ints:
        told, at = _longs(walk, at, rows)
        is_none = (told < 0) | (told >= len(words))
        walk.refuse(rows, is_none)
        walk.keep(here, rows, words[np.where(is_none, 0, told)])
        return at

    return enum


_LEAVES: dict[str, Callable[[Wants], Step]] = {
    "int": _long,
    "long": _long,
    "float": _float,
    "double": _double,
    "boolean": _boolean,
    "string": _string,
}


def _longs(walk: Walk, at: Ints, rows: Rows) -> tuple[Ints, Ints]:
    """Numbers of a length of their own, small ones of either sign short."""
    told, at, is_none = walk.joined.varints(at)
    walk.refuse(rows, is_none)
    return unzigzag(told), at
