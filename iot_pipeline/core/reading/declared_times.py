"""What a number or a text means as a time: seconds and their parts, or ISO 8601; as milliseconds.

Exact for whole numbers and for ISO 8601. A fraction is rounded to a microsecond and then floored
to the millisecond: 0.001 has no exact double.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NoReturn, get_args

from iot_pipeline.core.reading.declaration import TimeUnit

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# 2000-01-01 and 2100-01-01 UTC. Milliseconds since 1970 sent as seconds land far above.
EARLIEST_SECONDS = 946_684_800.0
LATEST_SECONDS = 4_102_444_800.0
EARLIEST_MS, LATEST_MS = int(EARLIEST_SECONDS) * 1000, int(LATEST_SECONDS) * 1000

PER_SECOND: dict[str, int] = {
    "seconds": 1,
    "milliseconds": 1_000,
    "microseconds": 1_000_000,
    "nanoseconds": 1_000_000_000,
}
_NUMBER = re.compile(r"-?[0-9]{1,24}(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def timestamp_ms(seconds: float) -> int:
    """Milliseconds since 1970 of a float timestamp, as the table keeps it.

    Rounded to microseconds first, then floored: `int(seconds * 1000)` is one millisecond low
    for many values, because 0.001 has no exact double.
    """
    return round(seconds * 1e6) // 1000


def timestamps_ms(seconds: "npt.NDArray[np.float64]") -> "npt.NDArray[np.int64]":
    """`timestamp_ms` of each: numpy, too, rounds halves to the even one."""
    return (seconds * 1e6).round().astype("int64") // 1000


def time_ms(told: float | str, unit: TimeUnit) -> int | None:
    """Milliseconds since 1970 of what a message says; None: not from 2000 on and before 2100.

    Raises:
        ValueError: it is no such time, in words.
    """
    if unit == "iso8601":
        if not isinstance(told, str):
            _refuse(f"{told!r} is no ISO 8601 time")
        ms = iso_ms(told)
        return ms if EARLIEST_MS <= ms < LATEST_MS else None
    if isinstance(told, str):
        if not _NUMBER.fullmatch(told):
            _refuse(f"{told[:60]!r} is no number of {unit}")
        told = float(told) if set(told) & set(".eE") else int(told)
    per_second = PER_SECOND[unit]
    if not EARLIEST_SECONDS * per_second <= told < LATEST_SECONDS * per_second:
        return None
    if isinstance(told, int):
        return told * 1000 // per_second
    return round(told * (1_000_000 / per_second)) // 1000


def iso_ms(told: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time with its offset.

    Raises:
        ValueError: it is none, or has no offset.
    """
    try:
        moment = datetime.fromisoformat(told)
    except ValueError:
        _refuse(f"{told[:60]!r} is no ISO 8601 time")
    if moment.tzinfo is None:
        _refuse(f"{told[:60]!r} has no offset from UTC, such as Z or +01:00")
    return (moment - _EPOCH) // _MILLISECOND


def find_unit(told: float | str, *, but: TimeUnit) -> tuple[TimeUnit, int] | None:
    """Another unit in which it is a time of our days, and which; None where in none."""
    for unit in get_args(TimeUnit):
        try:
            ms = time_ms(told, unit)
        except ValueError:
            continue
        if unit != but and ms is not None:
            return unit, ms
    return None


def _refuse(why: str) -> NoReturn:
    raise ValueError(why) from None
