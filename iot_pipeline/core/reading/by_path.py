"""One message read as its declaration says, a path at a time, and what is wrong with it in words.

For an audit and a trace, which must not read by the drain's compiled form, and for what that form
refuses. Everything that the declaration can say is read here; the drain's fast way
(`decoding.ReadingDecoder.decode_plain`) reads the most common shape of it, and gives up otherwise.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from iot_pipeline.core.reading.contents import contents_of
from iot_pipeline.core.reading.declaration import IgnoreRule, Path, TimeUnit, path_text
from iot_pipeline.core.reading.declared_times import find_unit, time_ms
from iot_pipeline.core.reading.formats import UndecodableError
from iot_pipeline.core.reading.messages import (
    Headers,
    Ignored,
    Reading,
    ReadingRules,
    Reason,
    Record,
    Rejection,
    find_device_id_problem,
    reading_type,
)
from iot_pipeline.core.reading.payloads import what_it_is
from iot_pipeline.core.reading.quantities import NO_GREATEST, NO_LEAST, Quantity
from iot_pipeline.core.times import in_utc, moment_of

Told = Reading | Rejection | Ignored
# msgspec has one exception for all that is wrong with a value; its wording is pinned by a test.
_BEYOND = re.compile(r"out of range|Expected `(int|float)` [<>]=")


_ABSENT = object()


class _Rejected(Exception):  # noqa: N818  # it is a verdict, and never leaves the module
    def __init__(self, reason: Reason, message: str) -> None:
        self.rejection = Rejection(reason, message)


class PathReader:
    """Reads messages by one set of rules."""

    def __init__(self, rules: ReadingRules) -> None:
        self.rules = rules
        self._declared = declared = rules.declaration
        self._make = reading_type(declared.quantities)
        self._contents = contents = contents_of(declared, rules.schemas)
        self._ignored = [(rule, Ignored(str(rule))) for rule in declared.ignore]
        # Asked once: these are properties, and a message is read in microseconds.
        self._quantities = [
            (quantity, quantity.places, contents.values[quantity.type], quantity.is_converted)
            for quantity in declared.quantities
        ]
        self._limited = [
            (at, quantity, *quantity.ends)
            for at, quantity in enumerate(declared.quantities)
            if quantity.is_number
        ]

    def read(
        self,
        value: bytes | None,
        message_key: bytes | None = None,
        headers: Headers | None = None,
        produced_ms: int = 0,
    ) -> Told:
        """The reading of a message, every rule met; or the first rule broken; or that it is known.

        A null is as if nothing stood there.
        """
        if value is None:
            return Rejection(Reason.NO_VALUE, "the record has no value (a tombstone)")
        most = self.rules.max_value_bytes
        if len(value) > most:
            return Rejection(Reason.TOO_LARGE, f"{len(value)} bytes, at most {most} are read")
        try:
            found = self._contents.read(value)
            for rule, ignored in self._ignored:
                if self._is_known_by(rule, found):
                    return ignored
            return self._reading(found, message_key, headers, produced_ms)
        except _Rejected as exc:
            return exc.rejection
        except UndecodableError as exc:
            return Rejection(Reason.UNDECODABLE, str(exc))
        except msgspec.ValidationError as exc:
            return Rejection(Reason.WRONG_TYPE, with_hint(str(exc), _what_is_sent(value)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            return Rejection(Reason.NOT_JSON, with_hint(str(exc), what_it_is(value)))

    def read_record(self, record: Record) -> Told:
        """`read` of a record's message."""
        return self.read(record.value, record.message_key, record.headers, record.produced_ms)

    def _reading(
        self,
        found: dict[Path, Any],
        message_key: bytes | None,
        headers: Headers | None,
        produced_ms: int,
    ) -> Reading:
        declared = self._declared
        device = declared.device
        if device.paths:
            device_id = self._look(found, device.paths, self._contents.as_text)
        else:
            content = _header(headers, device.header) if device.header else message_key
            device_id = _text_of(content, str(device))
        told: Any = produced_ms
        unit: TimeUnit = "milliseconds"
        if declared.time.paths:
            told = self._look(found, declared.time.paths, self._contents.as_time)
            unit = declared.time.unit
        values: list[Any] = []
        for quantity, places, decode, is_converted in self._quantities:
            value = self._look(found, places, decode, is_optional=quantity.optional)
            if is_converted and value is not None:
                value = value * quantity.scale + quantity.shift
            values.append(value)
        if values.count(None) == len(values):
            names = ", ".join(quantity.name for quantity in declared.quantities)
            raise _Rejected(Reason.MISSING_FIELD, f"it has none of {names}")
        if (problem := find_device_id_problem(device_id)) is not None:
            raise _Rejected(Reason.OUT_OF_RANGE, problem)
        seconds = self._seconds(told, unit)
        # A chained comparison is False for nan, so nan is refused without a test of its own; 0.0 is
        # a reading, so nothing here asks for truth.
        for at, quantity, least, greatest in self._limited:
            value = values[at]
            if value is not None and not least <= value <= greatest:
                raise _Rejected(Reason.OUT_OF_RANGE, _say_beyond(quantity, value))
        return self._make(device_id, seconds, *values)

    def _look(
        self,
        found: dict[Path, Any],
        paths: Sequence[Path],
        decode: Any,
        *,
        is_optional: bool = False,
    ) -> Any:
        """What stands at the first path that leads to something."""
        null = None
        for path in paths:
            raw = found.get(path, _ABSENT)
            if raw is _ABSENT:
                continue
            try:
                return decode(raw)
            except msgspec.ValidationError as exc:
                if self._contents.is_null(raw):
                    null = path
                    continue
                is_beyond = bool(_BEYOND.search(str(exc)))
                reason = Reason.OUT_OF_RANGE if is_beyond else Reason.WRONG_TYPE
                raise _Rejected(reason, f"{exc} - at `{_json_path(path)}`") from None
        if is_optional:
            return None
        if null is not None:
            raise _Rejected(Reason.WRONG_TYPE, f"{path_text(null)} is null")
        names = [path_text(path) for path in paths]
        said = (
            f"{names[0]} is missing" if len(names) == 1 else f"none of {', '.join(names)} is there"
        )
        raise _Rejected(Reason.MISSING_FIELD, said)

    def _is_known_by(self, rule: IgnoreRule, found: dict[Path, Any]) -> bool:
        raw = found.get(rule.path)
        if raw is None or self._contents.is_null(raw):
            return False
        if not rule.equals:
            return True
        try:
            told = self._contents.as_anything(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        return any(type(told) is type(one) and told == one for one in rule.equals)

    def _seconds(self, told: Any, unit: TimeUnit) -> float:
        where = self._declared.time
        try:
            ms = time_ms(told, unit)
        except ValueError as exc:
            raise _Rejected(
                Reason.WRONG_TYPE, with_hint(f"{where}: {exc}", self._unit_hint(told, unit))
            ) from None
        if ms is None:
            one = "time" if unit == "iso8601" else unit.removesuffix("s")
            message = f"{where} {told!r} is not a {one} between 2000 and 2100"
            raise _Rejected(Reason.OUT_OF_RANGE, with_hint(message, self._unit_hint(told, unit)))
        # A number of seconds as it is: the same float in, the same out.
        return float(told) if unit == "seconds" else ms / 1000

    def _unit_hint(self, told: Any, unit: TimeUnit) -> str:
        """Which line of the declaration would take this time in."""
        meant = find_unit(told, but=unit) if self._declared.time.paths else None
        if meant is None:
            return ""
        path = path_text(self._declared.time.paths[0])
        return (
            f"as {meant[0]} it is {in_utc(moment_of(meant[1]))}: send {unit}, or declare "
            f"`time: {{path: {path}, as: {meant[0]}}}`"
        )


def with_hint(message: str, hint: str) -> str:
    """A message, and what its sender or its reader can do."""
    return f"{message}; {hint}" if hint else message


def _say_beyond(quantity: Quantity, value: float) -> str:
    """Which limit a value breaks, in words."""
    places = [path_text(path) for path in quantity.places]
    where = f" ({', '.join(places)})" if places != [quantity.name] else ""
    least, greatest = quantity.ends
    if least == NO_LEAST:
        limits = f"is above {greatest:g}"
    elif greatest == NO_GREATEST:
        limits = f"is below {least:g}"
    else:
        limits = f"is not within {least:g} to {greatest:g}"
    return f"{quantity.name}{where} {value!r} {limits} {quantity.unit}".rstrip()


def _what_is_sent(value: bytes) -> str:
    return "one message is one reading: send each by itself" if value.lstrip()[:1] == b"[" else ""


def _json_path(path: Path) -> str:
    return f"$.{path_text(path)}"


def _header(headers: Headers | None, name: str) -> bytes | None:
    """Of several of one name the last."""
    return next((content for found, content in reversed(headers or []) if found == name), None)


def _text_of(content: bytes | None, where: str) -> str:
    if content is None:
        raise _Rejected(Reason.MISSING_FIELD, f"{where} is missing")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _Rejected(Reason.WRONG_TYPE, f"{where} is not UTF-8") from None
