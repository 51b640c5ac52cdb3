"""Fields of messages that the declaration does not name, by their names and where each was first.

For looks at some messages: the drain counts such messages, and reads no name.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from iot_pipeline.core.reading.contents import Decode, reader_of
from iot_pipeline.core.reading.declaration import Declaration, Path, path_text
from iot_pipeline.core.reading.formats import SchemaBook, UndecodableError
from iot_pipeline.core.reading.messages import Record

# Devices choose names: more of them are counted together.
MOST_NAMES = 100
_Tree = dict[str, Any]


@dataclass(slots=True)
class FieldSeen:
    """How many messages had a field, the first of them, what stood there, and who sent them.

    `devices` has those that are known; nothing where no one asked for them.
    """

    records: int
    partition: int
    offset: int
    path: Path = ()
    value: Any = None
    devices: set[str] = field(default_factory=set)


@dataclass(slots=True)
class UnknownFields:
    """What `add` found. `unnamed` messages had fields beyond the first hundred names."""

    declaration: Declaration
    schemas: SchemaBook = field(default_factory=SchemaBook)
    seen: dict[str, FieldSeen] = field(default_factory=dict)
    unnamed: int = 0
    _tree: _Tree = field(init=False)
    _read: Decode = field(init=False)

    def __post_init__(self) -> None:
        self._read = reader_of(self.declaration.format, self.schemas)
        self._tree = _tree_of(self.declaration)

    def add(
        self, record: Record, device_of: Callable[[Record, _Tree], str] = lambda *_: ""
    ) -> dict[str, Any] | None:
        """Look at a message, and give what it says.

        `device_of` says which device sent it; "" where that is not known.

        None: it cannot be read, or is no record of fields, and so has none.
        """
        try:
            told = self._read(record.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UndecodableError):
            return None
        if not isinstance(told, dict):
            return None
        for path, value in _unknown(told, self._tree):
            name = path_text(path)
            known = self.seen.get(name)
            if known is None and len(self.seen) < MOST_NAMES:
                known = FieldSeen(0, record.partition, record.offset, path, value)
                self.seen[name] = known
            if known is None:
                self.unnamed += 1
                continue
            known.records += 1
            if device_id := device_of(record, told):
                known.devices.add(device_id)
        return told


def _unknown(told: Mapping[str, Any], tree: _Tree, before: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each field that is not declared; of an object of which nothing is declared, itself alone."""
    for name, value in told.items():
        below = tree.get(name)
        if below is None:
            yield (*before, name), value
        elif below and isinstance(value, dict):
            yield from _unknown(value, below, (*before, name))


def _tree_of(declared: Declaration) -> _Tree:
    """The declared names, an object a level."""
    root: _Tree = {}
    for path in (
        *declared.device.paths,
        *declared.time.paths,
        *(rule.path for rule in declared.ignore),
        *(path for quantity in declared.quantities for path in quantity.places),
    ):
        level = root
        for name in path:
            level = level.setdefault(name, {})
    return root
