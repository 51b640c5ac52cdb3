"""Avro by its specification: a schema as a tree, and a message read by it, a value at a time.

For an audit, and for what the drain's form (`compiled_avro`, by fastavro) refuses: it says in words
what is wrong, and where. https://avro.apache.org/docs/1.12.0/specification/
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from iot_pipeline.core.reading.formats import UndecodableError, WriterSchema

PRIMITIVES = frozenset(["null", "boolean", "int", "long", "float", "double", "bytes", "string"])
_NAMED = ("record", "error", "enum", "fixed")
_DEEPEST = 128
# A null takes no byte, and neither does a record of two, of which another record has two, and on.
_MOST_WITHOUT_BYTES = 1_000
_float, _double = struct.Struct("<f"), struct.Struct("<d")


@dataclass(slots=True, eq=False)
class Node:
    """One type of a schema; what it has beside its kind depends on that.

    `fields` are a record's, by name in their order; `parts` a union's branches, or what an array or
    a map holds; `scale` is a decimal's, None where bytes are bytes. `without_bytes` says how many
    values inside a record take no byte; an empty record is one, a record inside itself none.
    """

    kind: str
    name: str = ""
    fields: dict[str, "Node"] = field(default_factory=dict)
    parts: list["Node"] = field(default_factory=list)
    symbols: tuple[str, ...] = ()
    size: int = 0
    scale: int | None = None
    without_bytes: int = 0


def parse_schema(schema: WriterSchema) -> Node:
    """The tree of a schema; references first.

    Raises:
        UndecodableError: it is no Avro schema, in words.
    """
    names: dict[str, Node] = {}
    found = Node("null")
    for text in (*schema.references, schema.text):
        try:
            found = _node(json.loads(text), names, "")
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
            raise UndecodableError(f"its schema is no Avro schema ({exc})") from None
    return found


def _node(told: Any, names: dict[str, Node], space: str) -> Node:
    if isinstance(told, str):
        if told in PRIMITIVES:
            return Node(told)
        known = names.get(_full(told, space)) or names.get(told)
        if known is None:
            raise UndecodableError(f"it has no type {told}")
        return known
    if isinstance(told, list):
        return Node("union", parts=[_node(one, names, space) for one in told])
    kind = told["type"]
    if not isinstance(kind, str):
        return _node(kind, names, space)
    scale = int(told.get("scale", 0)) if told.get("logicalType") == "decimal" else None
    if kind == "array":
        return Node(kind, parts=[_node(told["items"], names, space)])
    if kind == "map":
        return Node(kind, parts=[_node(told["values"], names, space)])
    if kind not in _NAMED:
        node = _node(kind, names, space)
        return Node(kind, scale=scale) if kind == "bytes" else node
    name = _full(told["name"], told.get("namespace", space))
    node = names[name] = Node("record" if kind == "error" else kind, name)
    if kind == "fixed":
        node.size, node.scale = int(told["size"]), scale
    elif kind == "enum":
        node.symbols = tuple(told["symbols"])
    else:
        inside = name.rpartition(".")[0]
        for one in told["fields"]:
            node.fields[one["name"]] = _node(one["type"], names, inside)
        node.without_bytes = sum(map(_count_without_bytes, node.fields.values()))
        node.without_bytes += not node.fields
        if node.without_bytes > _MOST_WITHOUT_BYTES:
            raise UndecodableError(
                f"each {name} has more than {_MOST_WITHOUT_BYTES} values that take no byte"
            )
    return node


def _count_without_bytes(node: Node) -> int:
    if node.kind == "record":
        return node.without_bytes
    return int(node.kind == "null" or (node.kind == "fixed" and not node.size))


def _full(name: str, space: str | None) -> str:
    return name if "." in name or not space else f"{space}.{name}"


def read_message(node: Node, value: bytes, start: int) -> Any:
    """The message in the bytes from `start` on: dicts, lists, numbers, text, bytes and None.

    A decimal is a float, an enum its symbol; other logical types are the numbers they are kept as.

    Raises:
        UndecodableError: they are no message of the schema, or more than one.
    """
    reader = _Reader(value, start)
    try:
        found = reader.read(node, "", 0)
    except IndexError:
        raise UndecodableError(f"{_at(reader.path)}it ends after {len(value)} bytes") from None
    if reader.at != len(value):
        raise UndecodableError(
            f"{len(value) - reader.at} bytes are left over behind it: another schema wrote it"
        )
    return found


def _at(path: str) -> str:
    return f"{path}: " if path else ""


@dataclass(slots=True)
class _Reader:
    value: bytes
    at: int
    path: str = ""

    def read(self, node: Node, path: str, depth: int) -> Any:
        self.path, kind = path, node.kind
        if kind == "record":
            if depth > _DEEPEST:
                raise UndecodableError(f"{_at(path)}more than {_DEEPEST} records in each other")
            before = f"{path}." if path else ""
            return {
                name: self.read(inner, before + name, depth + 1)
                for name, inner in node.fields.items()
            }
        if kind == "null":
            return None
        if kind in ("int", "long"):
            return self._long()
        if kind == "double":
            return _double.unpack(self._take(8))[0]
        if kind == "float":
            return _float.unpack(self._take(4))[0]
        if kind == "string":
            return self._text()
        if kind == "boolean":
            told = self._take(1)[0]
            if told > 1:
                self._fail(f"byte {told} is no boolean")
            return bool(told)
        if kind == "union":
            branch = self._long()
            if not 0 <= branch < len(node.parts):
                self._fail(f"branch {branch} of a union of {len(node.parts)}")
            return self.read(node.parts[branch], path, depth + 1)
        if kind == "enum":
            symbol = self._long()
            if not 0 <= symbol < len(node.symbols):
                self._fail(f"symbol {symbol} of an enum of {len(node.symbols)}")
            return node.symbols[symbol]
        if kind in ("bytes", "fixed"):
            taken = self._take(node.size if kind == "fixed" else self._long())
            if node.scale is None:
                return taken
            return int.from_bytes(taken, "big", signed=True) / 10**node.scale
        return self._blocks(node, path, depth)

    def _blocks(self, node: Node, path: str, depth: int) -> Any:
        found: dict[str, Any] = {}
        items: list[Any] = []
        while count := self._long():
            if count < 0:
                count = -count
                self._long()  # of a block whose size is told, too
            # An item may take no byte at all; more of them than bytes were sent by nobody.
            if count > len(self.value):
                self._fail(f"{count} items in {len(self.value)} bytes")
            if node.kind == "array" and _takes_no_byte(node.parts[0]):
                continue
            for _ in range(count):
                if node.kind == "map":
                    key = self._text()
                    found[key] = self.read(node.parts[0], f"{path}.{key}", depth + 1)
                else:
                    items.append(self.read(node.parts[0], path, depth + 1))
        return found if node.kind == "map" else items

    def _long(self) -> int:
        value, at = self.value, self.at
        told = shift = 0
        while True:
            byte = value[at]
            at += 1
            told |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                self._fail("a number of more than ten bytes")
        self.at = at
        told &= (1 << 64) - 1
        return (told >> 1) ^ -(told & 1)

    def _take(self, size: int) -> bytes:
        if size < 0:
            self._fail(f"a length of {size} bytes")
        end = self.at + size
        if end > len(self.value):
            raise IndexError
        taken, self.at = self.value[self.at : end], end
        return taken

    def _text(self) -> str:
        taken = self._take(self._long())
        try:
            return taken.decode()
        except UnicodeDecodeError:
            self._fail("it is not UTF-8")

    def _fail(self, why: str) -> NoReturn:
        raise UndecodableError(f"{_at(self.path)}{why}")


def can_run_away(node: Node) -> bool:
    """Whether a few bytes may be a message without end, or types are in each other too deep.

    Records in each other at will, or an array of what takes no byte: libraries in C have no limit
    for these. Each type is looked at once, however often the schema uses it.
    """
    return _height(node, 0, {}) > _DEEPEST


def _height(node: Node, depth: int, known: dict[Node, int]) -> int:
    """How many types are in each other from here on; more than the deepest: without end."""
    found = known.get(node)
    if found is None:
        if depth > _DEEPEST or (node.kind == "array" and _takes_no_byte(node.parts[0])):
            return _DEEPEST + 1
        # Until it is known: one that is inside itself is without end.
        known[node] = _DEEPEST + 1
        inside = (*node.fields.values(), *node.parts)
        found = known[node] = 1 + max((_height(one, depth + 1, known) for one in inside), default=0)
    return found


def _takes_no_byte(node: Node, depth: int = 0) -> bool:
    if node.kind == "record":
        return depth < _DEEPEST and all(
            _takes_no_byte(one, depth + 1) for one in node.fields.values()
        )
    return node.kind == "null" or (node.kind == "fixed" and not node.size)


def find(node: Node, path: tuple[str, ...]) -> tuple[list[Node], bool]:
    """What may stand at a path by the schema, other than null; and whether null may.

    Nothing: no message of this schema has the path, or not in one place alone.
    """
    is_nullable = False
    for depth in range(len(path) + 1):
        branches = [node] if node.kind != "union" else node.parts
        is_nullable |= any(one.kind == "null" for one in branches)
        there = [one for one in branches if one.kind != "null"]
        if depth == len(path):
            return there, is_nullable
        if len(there) != 1 or there[0].kind not in ("record", "map"):
            return [], True
        inner: Mapping[str, Node] = there[0].fields
        if there[0].kind == "map":
            node = there[0].parts[0]
        elif path[depth] in inner:
            node = inner[path[depth]]
        else:
            return [], True
    raise AssertionError("the last depth returns")
