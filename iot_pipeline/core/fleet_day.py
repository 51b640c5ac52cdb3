"""The fleet's last day on a board of cells, one per device and hour, filled in as time allows.

Counting a day anew each minute would cost more than ingesting it. So cells are kept from one look
to the next, and a look counts what its time suffices for: what was never counted first, then what
was counted longest ago. Belongs here: which cells are next, what they say. Does not belong here:
counting (`stages.fleet_day`), drawing (`artifacts.fleet_pictures`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import msgspec

HOUR_MS = 3_600_000
SLOT_MS = 600_000
SLOTS = HOUR_MS // SLOT_MS
HOURS = 24
# A reading of the last minute may still be on its way.
SETTLED_MS = 60_000
_LEAST_SLOTS = 3
_NUMBER = re.compile(r"(\d{1,18})")


class Slot(msgspec.Struct, frozen=True, array_like=True):
    """Ten minutes of one device that have readings: how many, their mean, the first's time."""

    start_ms: int
    count: int
    mean_temperature: float | None
    first_ms: int


class Cell(msgspec.Struct, frozen=True, array_like=True):
    """One hour of one device, as counted at `counted_ms`; slots without readings are left out."""

    device_id: str
    hour: int  # since 1970
    counted_ms: int
    slots: tuple[Slot, ...]

    @property
    def count(self) -> int:
        return sum(slot.count for slot in self.slots)


class Board(msgspec.Struct):
    """What is remembered between two looks: the cells, and how pictures were drawn last.

    `drawn_by` is a run, `cost_seconds` how long it took, counting included.
    """

    drawn_ms: int = 0
    drawn_by: str = ""
    cost_seconds: float = 0.0
    cells: list[Cell] = []

    def by_place(self) -> dict[tuple[str, int], Cell]:
        """(device_id, hour) -> cell."""
        return {(cell.device_id, cell.hour): cell for cell in self.cells}


def last_hours(now_ms: int) -> range:
    """The hours since 1970 of a day's board, oldest first, the current one last."""
    current = now_ms // HOUR_MS
    return range(current - HOURS + 1, current + 1)


def choose_devices(devices: Iterable[str], most: int) -> list[str]:
    """At most so many, by name, evenly over all; the same ones as long as the fleet is the same."""
    ordered = sorted(devices, key=natural_key)
    if len(ordered) <= most:
        return ordered
    return [ordered[number * len(ordered) // most] for number in range(most)]


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts `device_2` before `device_10`."""
    parts = _NUMBER.split(name)
    return [(int(part) if part.isdecimal() else -1, part) for part in parts]


def order_cells(
    board: Mapping[tuple[str, int], Cell], devices: Sequence[str], now_ms: int
) -> list[tuple[str, int]]:
    """The board's places, the most wanted first.

    The current hour of each device, then hours never counted, the newest first, then what was
    counted longest ago: late data reaches every cell in the end. A cell that was counted while
    its hour ran is as good as never counted once it is over.
    """

    def wish(place: tuple[str, int]) -> tuple[int, int]:
        _, hour = place
        cell = board.get(place)
        is_whole = cell is not None and cell.counted_ms >= (hour + 1) * HOUR_MS + SETTLED_MS
        if hour == now_ms // HOUR_MS:
            return 0, 0 if cell is None else cell.counted_ms
        if not is_whole:
            return 1, -hour
        assert cell is not None
        return 2, cell.counted_ms

    return sorted(((name, hour) for hour in last_hours(now_ms) for name in devices), key=wish)


def completeness(
    board: Mapping[tuple[str, int], Cell],
    devices: Sequence[str],
    cadences: Mapping[str, float],
    now_ms: int,
) -> dict[str, list[float | None]]:
    """Per device the share of the readings that each hour of the last day should have.

    Args:
        board: what was counted.
        devices: by name.
        cadences: seconds between two readings; devices without one have no expectation.
        now_ms: the end; its last minute is not judged.

    Returns:
        24 shares per device, oldest hour first, 1.0 at most; None before the device's first
        reading of the day, where nothing was counted yet, and where its cadence is not known.
    """
    shares: dict[str, list[float | None]] = {}
    for device_id in devices:
        cells = [board.get((device_id, hour)) for hour in last_hours(now_ms)]
        begin_ms = min(
            (slot.first_ms for cell in cells if cell is not None for slot in cell.slots),
            default=None,
        )
        cadence = cadences.get(device_id)
        if cadence is not None:
            cadence = max(cadence, _usual_cadence(cells) or 0.0)
        shares[device_id] = [
            None
            if cell is None or begin_ms is None or cadence is None
            else _share(cell, begin_ms, cadence)
            for cell in cells
        ]
    return shares


def _usual_cadence(cells: Iterable[Cell | None]) -> float | None:
    """Seconds between readings by the median of whole ten minutes; None when there are too few.

    A device that reports more often since an hour was not incomplete all day before.
    """
    counts = [
        slot.count
        for cell in cells
        if cell is not None
        for slot in cell.slots[1:]
        if slot.start_ms + SLOT_MS + SETTLED_MS <= cell.counted_ms
    ]
    return SLOT_MS / 1000 / median(counts) if len(counts) >= _LEAST_SLOTS else None


def _share(cell: Cell, begin_ms: int, cadence_seconds: float) -> float | None:
    first = max(cell.hour * HOUR_MS, begin_ms)
    last = min((cell.hour + 1) * HOUR_MS, cell.counted_ms - SETTLED_MS)
    expected = (last - first) / 1000 / cadence_seconds
    if expected < 1:
        return None
    # Of n + 1 fence posts at most one is missing: rhythm and hour need not begin together.
    return min(1.0, (cell.count + 1) / expected) if cell.count else 0.0


def temperature_line(
    board: Mapping[tuple[str, int], Cell], device_id: str, now_ms: int
) -> list[tuple[int, float | None]]:
    """(middle of ten minutes in ms, mean temperature) over the last day; None where none is."""
    line: list[tuple[int, float | None]] = []
    for hour in last_hours(now_ms):
        cell = board.get((device_id, hour))
        means = {slot.start_ms: slot.mean_temperature for slot in cell.slots} if cell else {}
        for number in range(SLOTS):
            start = hour * HOUR_MS + number * SLOT_MS
            line.append((start + SLOT_MS // 2, means.get(start)))
    return line
