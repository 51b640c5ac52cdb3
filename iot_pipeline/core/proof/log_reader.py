"""How an audit reads the messages of the log: by the declaration, apart from the drain's form."""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, cast

import msgspec

from iot_pipeline.core.reading.by_path import PathReader
from iot_pipeline.core.reading.declared_times import EARLIEST_SECONDS, LATEST_SECONDS
from iot_pipeline.core.reading.messages import (
    Reading,
    ReadingRules,
    find_device_id_problem,
    reading_type,
)
from iot_pipeline.core.reading.quantities import Quantity


class LogReader(PathReader):
    """Reads one message, or many of the original form at once."""

    # device_ids that passed already: a fleet repeats its names, checking them again is a
    # third of the cost of a message. All are forgotten at once when a producer sends random names.
    # At most 256 bytes each: 60 MB of them, well inside what an audit may take.
    _MAX_KNOWN = 200_000

    def __init__(self, rules: ReadingRules) -> None:
        super().__init__(rules)
        self._known: set[str] = set()
        # Of a row, in their order.
        self.columns: tuple[Quantity, ...] = rules.quantities
        self._value_of_each: list[Callable[[Reading], Any]] = [
            attrgetter(quantity.name) for quantity in rules.quantities
        ]
        declared = rules.declaration
        is_flat = (
            declared.device.paths == (("device_id",),)
            and (declared.time.paths, declared.time.unit) == ((("timestamp",),), "seconds")
            and not declared.ignore
            and all(
                quantity.places == ((quantity.name,),)
                and not quantity.is_converted
                and not quantity.optional
                and quantity.type == "double"
                for quantity in rules.quantities
            )
        )
        kind = reading_type(rules.quantities)
        self._decode_exact = msgspec.json.Decoder(kind).decode if is_flat else None

    @property
    def all_rules(self) -> list[ReadingRules]:
        """Every rules that a message may be read by: of each the schemas are asked for."""
        return [self.rules]

    def columns_of(self, readings: Sequence[Reading]) -> list[Iterator[Any]]:
        """The values of each of `columns`; each can be walked once."""
        return [map(value_of, readings) for value_of in self._value_of_each]

    def read_all(self, values: Sequence[bytes | None]) -> list[Reading] | None:
        """`read` of each message, when every one is plainly a reading; None: ask one by one."""
        if self._decode_exact is None or not values or None in values:
            return None
        if max(map(len, cast(Sequence[bytes], values))) > self.rules.max_value_bytes:
            return None
        try:
            readings = list(map(self._decode_exact, cast(Sequence[bytes], values)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        seconds = [reading.timestamp for reading in readings]
        columns = [list(map(value_of, readings)) for value_of in self._value_of_each]
        # JSON has no nan, so least and greatest are those of all.
        is_plain = (
            min(seconds) >= EARLIEST_SECONDS
            and max(seconds) < LATEST_SECONDS
            and all(
                item.least <= min(values) and max(values) <= item.greatest
                for item, values in zip(self.rules.quantities, columns, strict=True)
            )
            and all(map(self._is_device, {reading.device_id for reading in readings}))
        )
        return readings if is_plain else None

    def _is_device(self, device_id: str) -> bool:
        if device_id in self._known:
            return True
        if find_device_id_problem(device_id) is not None:
            return False
        if len(self._known) >= self._MAX_KNOWN:
            self._known.clear()
        self._known.add(device_id)
        return True
