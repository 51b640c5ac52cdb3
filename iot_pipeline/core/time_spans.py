"""Time spans as people write them in a file: 500ms, 90s, 15m, 2h, 30d."""

import re
from decimal import Decimal
from typing import Annotated

from msgspec import Meta

DURATION_PATTERN = r"^\d+(\.\d+)?(ms|s|m|h|d)$"
SHIFT_PATTERN = r"^-?\d+(\.\d+)?(ms|s|m|h|d)$"
_UNITS_US = {
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_PARTS = re.compile(r"(-?\d+(?:\.\d+)?)(ms|s|m|h|d)")

Duration = Annotated[
    str,
    Meta(
        pattern=DURATION_PATTERN,
        description="A time span with its unit: 500ms, 90s, 15m, 2h, 30d.",
        examples=["90s", "15m"],
    ),
]
Shift = Annotated[
    str,
    Meta(
        pattern=SHIFT_PATTERN,
        description="How far a clock is off: 90s is ahead, -90s behind.",
        examples=["90s", "-2m"],
    ),
]


def duration_us(text: str) -> int:
    """Whole microseconds of a `Duration` or a `Shift`, which its type has checked."""
    match = _PARTS.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r}: expected a time span such as 90s, 15m, 2h or 30d")
    return int(Decimal(match[1]) * _UNITS_US[match[2]])


def in_words(us: int) -> str:
    """A time span in the largest unit that divides it: 90s, 15m, 30d."""
    for unit in ("d", "h", "m", "s"):
        if us and us % _UNITS_US[unit] == 0:
            return f"{us // _UNITS_US[unit]}{unit}"
    return f"{us / 1000:g}ms"
