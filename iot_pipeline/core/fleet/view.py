"""The fleet as pictures show it: which devices, which hours, which part of time."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from iot_pipeline.core.fleet.lacking_hours import known_interval_ms
from iot_pipeline.core.fleet.problems import Fleet
from iot_pipeline.core.ledger.flow import Flow
from iot_pipeline.core.times import HOURS_PER_DAY, MS_PER_HOUR

# Lines are means of ten minutes, of one where there are readings of two hours or less.
_SLOT_MS = 600_000
_SHORT_SLOT_MS = 60_000
_SHORT_MS = 2 * MS_PER_HOUR
# Rows of the grid; a screen shows no more. Of the small multiples more are too small to read.
MOST_ROWS = 40
MOST_LINES = 12
_NUMBER = re.compile(r"(\d{1,18})")

# When a slot of time begins that a device has readings in, and the mean of the first quantity.
Slot = tuple[int, float | None]
# (middle of a slot in ms, mean), oldest first, where there are readings.
Line = Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class FleetView:
    """The fleet as of `now`, and what pictures show of it.

    `shares` has a row per device of the grid: of each hour from `first_hour` on the share of the
    readings that were due, None where nothing was. `lines` show the first quantity of some
    devices.
    """

    now: datetime
    fleet: Fleet
    flow: Flow
    first_hour: int
    shares: Mapping[str, Sequence[float | None]]
    lines: Mapping[str, Line]
    slot_ms: int

    @property
    def words(self) -> dict[str, str]:
        """device_id -> the words for its problems."""
        return {name: words for name, words, _ in self.fleet.worst}


def choose_rows(fleet: Fleet, most: int = MOST_ROWS) -> list[str]:
    """The devices that are shown, by name: half of them have problems, the rest lie evenly."""
    troubled = [name for name, *_ in fleet.worst][: most // 2]
    rest = sorted(fleet.states.keys() - set(troubled), key=natural_key)
    left = min(most - len(troubled), len(rest))
    # The same ones as long as the fleet is the same.
    evenly = [rest[number * len(rest) // left] for number in range(left)]
    return sorted([*troubled, *evenly], key=natural_key)


def choose_slot_ms(fleet: Fleet) -> int:
    first_ms = min((state.begin_ms for state in fleet.states.values()), default=0)
    return _SLOT_MS if fleet.as_of_ms - first_ms > _SHORT_MS else _SHORT_SLOT_MS


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts `device_2` before `device_10`."""
    parts = _NUMBER.split(name)
    return [(int(part) if part.isdecimal() else -1, part) for part in parts]


def put_together(
    now: datetime,
    fleet: Fleet,
    flow: Flow,
    slots: Mapping[str, Sequence[Slot]],
    slot_ms: int,
) -> FleetView:
    """The view; the grid begins with the first hour that has anything in it."""
    current = fleet.as_of_ms // MS_PER_HOUR
    hours = range(current - HOURS_PER_DAY + 1, current + 1)
    shares = {name: _shares(fleet, name, hours) for name in choose_rows(fleet)}
    shares = {name: row for name, row in shares.items() if any(x is not None for x in row)}
    filled = [
        at for at in range(HOURS_PER_DAY) if any(shares[name][at] is not None for name in shares)
    ]
    begin = filled[0] if filled else 0
    lines = {
        name: [(start + slot_ms // 2, mean) for start, mean in found if mean is not None]
        for name, found in slots.items()
    }
    return FleetView(
        now,
        fleet,
        flow,
        hours[begin],
        {name: row[begin:] for name, row in shares.items()},
        {name: line for name, line in lines.items() if line},
        slot_ms,
    )


def _shares(fleet: Fleet, name: str, hours: range) -> list[float | None]:
    state = fleet.states[name]
    usual = known_interval_ms(state)
    shares = [
        fleet.hours.share(name, state, hour, state.lacking.get(hour) or usual) for hour in hours
    ]
    return [share.share if share and share.expected >= 1 else None for share in shares]
