"""Count cells of the fleet's last day, as many as the time suffices for."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from iot_pipeline.core.fleet_day import HOUR_MS, Cell, Slot, order_cells
from iot_pipeline.core.readings import MS_PER_DAY
from iot_pipeline.stages.ports import Pending

_IN_FLIGHT = 16


class PendingSlots(Pending, Protocol):
    """Slots on their way."""

    @property
    def found(self) -> Sequence[Slot]:
        """Asked when it is done without an error."""


class SlotCounts(Protocol):
    """Counts readings in slots of ten minutes, where the readings are."""

    def start_slots(
        self, device_id: str, day_number: int, first_ms: int, last_ms: int
    ) -> PendingSlots:
        """Start counting rows of one Cassandra partition from first_ms to last_ms, inclusive."""

    def wait(self, timeout_seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class _Asked:
    place: tuple[str, int]
    at_ms: int
    pending: PendingSlots


def count_cells(
    slots: SlotCounts,
    known: Mapping[tuple[str, int], Cell],
    devices: Sequence[str],
    now_ms: int,
    *,
    budget_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> dict[tuple[str, int], Cell]:
    """The board with as many cells counted anew as the time allows, the most wanted first.

    What was sent is waited for; no more is sent when the time is over.

    Args:
        slots: where to count.
        known: cells of earlier looks; those older than a day or of other devices are dropped.
        devices: whose.
        now_ms: now.
        budget_seconds: for sending.
        clock: monotonic seconds.

    Raises:
        CassandraUnavailableError: no answer.
        SchemaMismatchError: no such table.
    """
    deadline = clock() + budget_seconds
    places = order_cells(known, devices, now_ms)
    board = {place: known[place] for place in places if place in known}
    waiting = iter(places)
    in_flight: deque[_Asked] = deque()
    is_over = False
    while True:
        while not is_over and len(in_flight) < _IN_FLIGHT:
            place = next(waiting, None)
            is_over = place is None or clock() > deadline
            if place is not None and not is_over:
                in_flight.append(_ask(slots, place, now_ms))
        if not in_flight:
            return board
        first = in_flight[0]
        if not first.pending.done:
            slots.wait(0.1)
            continue
        in_flight.popleft()
        if first.pending.error is not None:
            raise first.pending.error
        device_id, hour = first.place
        board[first.place] = Cell(device_id, hour, first.at_ms, tuple(first.pending.found))


def _ask(slots: SlotCounts, place: tuple[str, int], now_ms: int) -> _Asked:
    device_id, hour = place
    first = hour * HOUR_MS
    pending = slots.start_slots(device_id, first // MS_PER_DAY, first, first + HOUR_MS - 1)
    return _Asked(place, now_ms, pending)
