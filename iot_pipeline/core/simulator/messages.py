"""Readings as the messages of a declared topic, and messages that are wrong for one reason.

The first path of each thing is written. Does not belong here: what is measured (`measuring`).
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from iot_pipeline.core.reading.declaration import Path, TimeUnit
from iot_pipeline.core.reading.messages import ReadingRules, Reason, reading_type
from iot_pipeline.core.reading.quantities import NO_GREATEST, RANGES, Quantity
from iot_pipeline.errors import ConfigurationError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode
# Told in the place of what a message lacks.
_ABSENT = object()
# Of a quantity without limits (`waves`).
_MIDDLE = 50.0

_TIMES: dict[TimeUnit, Callable[[int], float | str]] = {
    "seconds": lambda us: us / 1e6,
    "milliseconds": lambda us: us // 1000,
    "microseconds": lambda us: us,
    "nanoseconds": lambda us: us * 1000,
    "iso8601": lambda us: (_EPOCH + timedelta(microseconds=us)).isoformat(),
}


class MessageWriter:
    """Writes readings as messages that the rules take in.

    Raises:
        ConfigurationError: no simulated message could have this form.
    """

    def __init__(self, rules: ReadingRules) -> None:
        self._rules = rules
        declared = rules.declaration
        if declared.device.header:
            raise ConfigurationError(
                f"the declaration reads the device from {declared.device}, and simulated messages "
                "have no headers: expected a path or the message key"
            )
        self._time = _TIMES[declared.time.unit]
        self._device_path = declared.device.paths[0] if declared.device.paths else None
        self._time_path = declared.time.paths[0] if declared.time.paths else None
        paths = [self._device_path, self._time_path]
        paths += [quantity.places[0] for quantity in declared.quantities]
        self._paths = [path for path in paths if path is not None]
        self._optional = [item.places[0] for item in declared.quantities if item.optional]
        _check_apart(self._paths)
        self._by_schema = declared.format.name in ("avro", "protobuf")
        self._encode = _encode
        if declared.format.name != "json":
            # Here, as every import is a part of what loading definitions takes.
            from iot_pipeline.core.simulator.encoding import encoder_of

            self._encode = encoder_of(declared, rules.schemas)
        names = [quantity.name for quantity in declared.quantities]
        is_original = self._paths == [("device_id",), ("timestamp",), *((name,) for name in names)]
        is_plain = all(
            quantity.type in ("double", "float")
            and not (quantity.is_converted or quantity.optional)
            for quantity in declared.quantities
        )
        # A struct is written twice as fast as a dict.
        self._reading = (
            reading_type(declared.quantities)
            if is_original
            and is_plain
            and declared.time.unit == "seconds"
            and self._encode is _encode
            else None
        )

    def write(self, device_id: str, at_us: int, values: Sequence[float]) -> bytes:
        """The message of a reading; `at_us` is the device's clock, microseconds since 1970."""
        if self._reading is not None:
            return _encode(self._reading(device_id, at_us / 1e6, *values))
        told = self._told(device_id, at_us, values)
        if self._optional:
            told |= dict.fromkeys(self._lacking(device_id, at_us), _ABSENT)
        return self._encode(_nested(told))

    def write_all(
        self, devices: Sequence[str], at_us: Sequence[int], columns: Sequence[Sequence[float]]
    ) -> list[bytes]:
        """`write` of many, a column per quantity."""
        if self._reading is not None:
            seconds = [us / 1e6 for us in at_us]
            return list(map(_encode, map(self._reading, devices, seconds, *columns)))
        return list(map(self.write, devices, at_us, zip(*columns, strict=True)))

    def write_wrong(
        self, reason: Reason, device_id: str, at_us: int, values: Sequence[float]
    ) -> bytes | None:
        """What a device could send for a reading that is rejected for that reason.

        Exactly for `reason_of` it.
        """
        right = self.write(device_id, at_us, values)
        if reason is Reason.NO_VALUE:
            return None
        if self._by_schema and reason is Reason.TOO_LARGE:
            return right + b"x" * self._rules.max_value_bytes
        if self.reason_of(reason) is Reason.UNDECODABLE:
            return right + b"\x07"
        if reason is Reason.NOT_JSON:
            return right[: len(right) // 2]
        if reason is Reason.TOO_LARGE:
            return right[:-1] + b',"padding":"' + b"x" * self._rules.max_value_bytes + b'"}'
        told = self._told(device_id, at_us, values)
        if reason is Reason.OUT_OF_RANGE:
            told |= self._beyond()
        elif reason is Reason.MISSING_FIELD:
            of_quantities = [item.places[0] for item in self._rules.quantities]
            missing = of_quantities if self._paths[-1] in self._optional else self._paths[-1:]
            told |= dict.fromkeys(missing, _ABSENT)
        elif reason is Reason.WRONG_TYPE:
            last = told[self._paths[-1]]
            told[self._paths[-1]] = len(last) if isinstance(last, str) else str(last)
        else:
            raise ValueError(f"{reason}: no payload provokes it")
        return self._encode(_nested(told))

    def reason_of(self, reason: Reason) -> Reason:
        """For what a message is rejected that is wrong in this way.

        A schema rules out that a field is missing or of another type, so bytes are broken instead.
        """
        ruled_out = (Reason.NOT_JSON, Reason.MISSING_FIELD, Reason.WRONG_TYPE)
        return Reason.UNDECODABLE if self._by_schema and reason in ruled_out else reason

    def _told(self, device_id: str, at_us: int, values: Sequence[float]) -> dict[Path, Any]:
        told: dict[Path, Any] = {}
        if self._device_path is not None:
            told[self._device_path] = device_id
        if self._time_path is not None:
            told[self._time_path] = self._time(at_us)
        for quantity, value in zip(self._rules.quantities, values, strict=True):
            told[quantity.places[0]] = _sent(quantity, value)
        return told

    def _lacking(self, device_id: str, at_us: int) -> list[Path]:
        """Which optional quantities a message does not have: each is missing in every fourth."""
        number = zlib.crc32(f"{device_id} {at_us}".encode())
        lacking = [path for at, path in enumerate(self._optional) if not number >> 2 * at % 32 & 3]
        # A reading has one quantity at least.
        return lacking[1:] if len(lacking) == len(self._rules.quantities) else lacking

    def _beyond(self) -> dict[Path, Any]:
        """Of some thing more than its limits allow."""
        for quantity in self._rules.quantities:
            if not quantity.is_number:
                continue
            if self._by_schema and quantity.ends[1] >= RANGES[quantity.type][1]:
                continue  # more than that cannot be said in its type
            if quantity.greatest < NO_GREATEST:
                # Where a hundred more is lost in so large a number, a billionth of it more.
                beyond = max(quantity.greatest + 100, quantity.greatest * (1 + 1e-9))
                return {quantity.places[0]: _raw(quantity, beyond)}
        if self._time_path is not None:
            return {self._time_path: self._time(1_000_000)}
        if self._device_path is not None:
            return {self._device_path: ""}
        raise ConfigurationError(
            "the declaration has no limit that a simulated message could break: expected `max` of "
            "some quantity, or a scenario without malformed messages of reason out_of_range"
        )


def _raw(quantity: Quantity, value: float) -> float:
    """What a message says for a value."""
    return (value - quantity.shift) / quantity.scale if quantity.is_converted else value


def _sent(quantity: Quantity, value: float) -> float | str:
    """The same, so that it is read within the limits: converting back and forth may miss them."""
    if quantity.type in ("int", "bigint"):
        return int(value)
    if quantity.type == "boolean":
        return value > _MIDDLE
    if quantity.type == "text":
        return "high" if value > _MIDDLE else "low"
    if not quantity.is_converted:
        return value
    near = 1e-9 * (abs(quantity.shift) + abs(value))
    return _raw(quantity, min(max(value, quantity.least + near), quantity.greatest - near))


def _nested(told: Mapping[Path, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {}
    for path, value in told.items():
        if value is _ABSENT:
            continue
        at = message
        for name in path[:-1]:
            at = at.setdefault(name, {})
        at[path[-1]] = value
    return message


def _check_apart(paths: Sequence[Path]) -> None:
    for number, path in enumerate(paths):
        for other in paths[:number]:
            shared = min(len(path), len(other))
            if path[:shared] == other[:shared]:
                raise ConfigurationError(
                    f"the declaration reads {'.'.join(path)} and {'.'.join(other)}, and no "
                    "simulated message can have both: expected paths that do not contain each other"
                )
