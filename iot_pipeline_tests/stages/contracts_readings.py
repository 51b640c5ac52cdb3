"""The contract of `ReadingPages` and `SlotCounts`, for the fake and for the real client alike.

A subclass gives the fixture `pages_world`: a `PagesWorld` whose device nobody else writes.
"""

from collections.abc import Mapping
from datetime import date
from typing import Protocol

from iot_pipeline.core.reading.decoding import MS_PER_DAY
from iot_pipeline.core.reading.spans import day_span
from iot_pipeline.stages.fleet.view import SlotCounts
from iot_pipeline.stages.reading.in_order import ReadingPages

DAY = date(2024, 12, 29)
NUMBER = day_span("d", DAY).day_number
MIDNIGHT_MS = NUMBER * MS_PER_DAY


class Pages(ReadingPages, SlotCounts, Protocol):
    """Both ports; one client."""


class PagesWorld(Protocol):
    pages: Pages
    device_id: str

    def write(self, temperatures: Mapping[int, float]) -> None:
        """Rows of the device: timestamp_ms -> temperature; humidity is 40."""


def wait_for(pages, pending):
    while not pending.done:
        pages.wait(0.1)
    assert pending.error is None
    return list(pending.found)


class ReadingPagesContract:
    def ask(self, world, first_ms, last_ms, limit=100):
        pending = world.pages.start_page(world.device_id, NUMBER, first_ms, last_ms, limit)
        return wait_for(world.pages, pending)

    def test_a_page_is_oldest_first_with_both_ends_inside_and_no_longer_than_asked(
        self, pages_world
    ):
        times = [MIDNIGHT_MS + number * 1000 for number in range(10)]
        pages_world.write({ms: 20.0 + number for number, ms in enumerate(times)})
        found = self.ask(pages_world, times[2], times[6])
        assert found == [(ms, 20.0 + number, 40.0) for number, ms in enumerate(times)][2:7]
        assert self.ask(pages_world, times[2], times[6], limit=2) == found[:2]
        assert self.ask(pages_world, times[2] + 1, times[3] - 1) == []

    def test_a_day_ends_before_midnight(self, pages_world):
        last = MIDNIGHT_MS + MS_PER_DAY - 1
        pages_world.write({MIDNIGHT_MS - 1: 1.0, MIDNIGHT_MS: 2.0, last: 3.0, last + 1: 4.0})
        found = self.ask(pages_world, MIDNIGHT_MS, last)
        assert [row[:2] for row in found] == [(MIDNIGHT_MS, 2.0), (last, 3.0)]

    def test_days_and_devices_are_those_with_rows_in_order(self, pages_world):
        pages_world.write({MIDNIGHT_MS: 1.0, MIDNIGHT_MS - 1: 1.0})
        days = pages_world.pages.days()
        assert days == sorted(days)
        assert {DAY, date(2024, 12, 28)} <= set(days)
        devices = pages_world.pages.devices(DAY)
        assert pages_world.device_id in devices
        assert devices == sorted(devices)
        assert pages_world.pages.devices(date(2001, 1, 1)) == []

    def test_slots_are_averaged_where_the_rows_are(self, pages_world):
        hour = MIDNIGHT_MS + 3 * 3_600_000
        inside = {hour + 5_000: 10.0, hour + 599_999: 20.0, hour + 600_000: 7.0}
        pages_world.write({hour - 1: 99.0, **inside, hour + 3_600_000: 99.0})
        pending = pages_world.pages.start_slots(
            pages_world.device_id, NUMBER, hour, hour + 3_599_999, 600_000
        )
        found = wait_for(pages_world.pages, pending)
        assert found == [(hour, 15.0), (hour + 600_000, 7.0)]
        nothing = pages_world.pages.start_slots(pages_world.device_id, NUMBER - 9, 0, hour, 60_000)
        assert wait_for(pages_world.pages, nothing) == []
