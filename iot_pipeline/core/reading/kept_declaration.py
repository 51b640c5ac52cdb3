"""A declaration as it is kept beside the ledger, and read again years later.

Kept is the canonical form, which the fingerprint is of: all that decides what a message becomes,
and nothing else. So an old one is read whatever the files of today may say. What only checks ask
(`plausible`, `jump`) is not in it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec

from iot_pipeline.core.reading.declaration import (
    Declaration,
    DeviceSource,
    IgnoreRule,
    Path,
    TimeSource,
    TimeUnit,
)
from iot_pipeline.core.reading.formats import KINDS, Format, FormatName, WriterSchema
from iot_pipeline.core.reading.quantities import NO_GREATEST, Quantity, QuantityType
from iot_pipeline.errors import PermanentError


@dataclass(frozen=True, slots=True)
class KeptDeclaration:
    """A row of the table; `schema` and `message` are a schema file's, where it names one."""

    fingerprint: str
    text: str
    schema: bytes | None = None
    message: str = ""
    first_seen_at: datetime | None = None

    @classmethod
    def of(cls, declaration: Declaration) -> "KeptDeclaration":
        schema = declaration.format.schema
        return cls(
            declaration.fingerprint,
            declaration.canonical(),
            None if schema is None else schema.text,
            "" if schema is None else schema.message,
        )

    def read(self) -> Declaration:
        """The declaration; of what only checks ask it has nothing.

        Raises:
            PermanentError: it is not what was kept, or a later version kept it.
        """
        try:
            declaration = _declaration(msgspec.json.decode(self.text, type=_Canonical), self)
        except msgspec.MsgspecError as exc:
            raise PermanentError(
                f"reading the declaration {self.fingerprint} of readings_declared: {exc}. A later "
                "version of iot_pipeline kept it, or it was changed there"
            ) from None
        if declaration.fingerprint != self.fingerprint:
            raise PermanentError(
                f"reading the declaration {self.fingerprint} of readings_declared: what stands "
                f"there has the fingerprint {declaration.fingerprint}: it was changed there, or "
                "another version of iot_pipeline kept it"
            )
        return declaration


class _Device(msgspec.Struct):
    paths: tuple[Path, ...]
    header: str


class _Time(msgspec.Struct):
    paths: tuple[Path, ...]
    unit: TimeUnit


class _Ignored(msgspec.Struct):
    path: Path
    equals: tuple[str | int | bool, ...]


class _Quantity(msgspec.Struct):
    name: str
    paths: tuple[Path, ...]
    type: QuantityType
    unit: str
    optional: bool
    least: float
    greatest: float
    scale: float
    shift: float


class _Canonical(msgspec.Struct):
    version: Literal[1]
    format: FormatName
    device: _Device
    time: _Time
    ignore: list[_Ignored]
    quantities: list[_Quantity]


def _declaration(told: _Canonical, kept: KeptDeclaration) -> Declaration:
    schema = None
    if kept.schema is not None:
        schema = WriterSchema(KINDS[told.format], kept.schema, message=kept.message)
    return Declaration(
        DeviceSource(told.device.paths, told.device.header),
        TimeSource(told.time.paths, told.time.unit),
        tuple(map(_quantity, told.quantities)),
        tuple(IgnoreRule(rule.path, rule.equals) for rule in told.ignore),
        format=Format(told.format, schema),
    )


def _quantity(told: _Quantity) -> Quantity:
    return Quantity(
        told.name,
        told.unit,
        least=told.least,
        greatest=told.greatest,
        plausible_least=told.least,
        plausible_greatest=told.greatest,
        jump=NO_GREATEST,
        jump_per_minute=0.0,
        apart=NO_GREATEST,
        type=told.type,
        optional=told.optional,
        paths=() if told.paths == ((told.name,),) else told.paths,
        scale=told.scale,
        shift=told.shift,
    )
