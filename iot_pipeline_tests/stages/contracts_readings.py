"""The contracts of `SensorData` and `DeviceDays`, for the fakes and for the real clients alike.

A subclass gives the fixture `rows_world`: a `RowsWorld` whose device nobody else writes.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime
from typing import Protocol, TypeVar

from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.reading.spans import Counted, Span, Summed, day_span, whole_day
from iot_pipeline.core.times import MS_PER_DAY, Window
from iot_pipeline.stages.ports.answers import Answer
from iot_pipeline.stages.ports.readings import DeviceDays, SensorData
from iot_pipeline.stages.requests import wait_for

DAY = date(2024, 12, 29)
NUMBER = day_span("d", DAY).day_number
MIDNIGHT_MS = NUMBER * MS_PER_DAY
MS_PER_HOUR = 3_600_000
ARRIVED_MS = 1_790_000_000_123
T = TypeVar("T")


class RowsWorld(Protocol):
    device_id: str

    @property
    def rows(self) -> SensorData: ...
    @property
    def days(self) -> DeviceDays: ...

    def write(self, temperatures: Mapping[int, float], arrived_ms: int = ARRIVED_MS) -> None:
        """Rows of the device: timestamp_ms -> temperature; humidity is 40."""

    def note(self, names: Collection[str], day: date) -> None:
        """That these devices have rows on that day."""


class SensorDataContract:
    def test_rows_come_newest_first_with_both_ends_inside_and_with_their_write_times(
        self, rows_world: RowsWorld
    ) -> None:
        times = [MIDNIGHT_MS + number * 1000 for number in range(10)]
        rows_world.write({ms: 20.0 + number for number, ms in enumerate(times)})
        us = ARRIVED_MS * 1000
        expected = [(ms, (20.0 + n, 40.0, us, us)) for n, ms in enumerate(times)]
        found = self.range(rows_world, times[2], times[6])
        assert found == expected[6:1:-1]
        assert self.range(rows_world, times[2], times[6], limit=2) == found[:2]
        assert self.range(rows_world, times[2] + 1, times[3] - 1) == []
        wanted = [times[1], times[1] + 1, times[8]]
        exact = rows_world.rows.start_times(rows_world.device_id, NUMBER, wanted)
        assert sorted(self.answer(rows_world, exact)) == [expected[1], expected[8]]

    def test_an_answer_tells_when_it_came(self, rows_world: RowsWorld) -> None:
        before = datetime.now(UTC).timestamp()
        pending = rows_world.rows.start_count(whole_day(rows_world.device_id, NUMBER))
        self.answer(rows_world, pending)
        assert before - 1 <= pending.answered_at <= datetime.now(UTC).timestamp() + 1

    def test_a_page_is_oldest_first_unless_it_says_and_no_longer_than_asked(
        self, rows_world: RowsWorld
    ) -> None:
        times = [MIDNIGHT_MS + number * 1000 for number in range(10)]
        rows_world.write({ms: 20.0 + number for number, ms in enumerate(times)})
        expected = [(ms, 20.0 + number, 40.0) for number, ms in enumerate(times)][2:7]
        assert self.page(rows_world, times[2], times[6]) == expected
        assert self.page(rows_world, times[2], times[6], limit=2) == expected[:2]
        newest = self.page(rows_world, times[2], times[6], limit=2, newest_first=True)
        assert newest == expected[:2:-1]
        assert self.page(rows_world, times[2] + 1, times[3] - 1) == []

    def test_a_day_ends_before_midnight(self, rows_world: RowsWorld) -> None:
        last = MIDNIGHT_MS + MS_PER_DAY - 1
        rows_world.write({MIDNIGHT_MS - 1: 1.0, MIDNIGHT_MS: 2.0, last: 3.0, last + 1: 4.0})
        found = self.page(rows_world, MIDNIGHT_MS, last)
        assert [row[:2] for row in found] == [(MIDNIGHT_MS, 2.0), (last, 3.0)]

    def test_a_partition_is_counted_and_its_write_times_are_added_up(
        self, rows_world: RowsWorld
    ) -> None:
        rows_world.write({MIDNIGHT_MS: 1.0, MIDNIGHT_MS + 1: 2.0, MIDNIGHT_MS - 1: 3.0})
        rows_world.write({MIDNIGHT_MS + 2: 1.0}, ARRIVED_MS + 5)
        rows, name = rows_world.rows, rows_world.device_id
        day, empty = whole_day(name, NUMBER), whole_day(name, NUMBER - 9)
        assert self.answer(rows_world, rows.start_count(day)) == Counted(3)
        total = (3 * ARRIVED_MS + 5) * 1000
        assert self.answer(rows_world, rows.start_sums(day)) == Summed(3, [total, total])
        assert self.answer(rows_world, rows.start_sums(empty)) == Summed(0, [0, 0])
        assert self.answer(rows_world, rows.start_count(empty)) == Counted(0)

    def test_rows_are_counted_by_pieces_of_a_day_within_the_bounds(
        self, rows_world: RowsWorld
    ) -> None:
        times = [MIDNIGHT_MS + 37_000 * number for number in range(300)]
        rows_world.write(dict.fromkeys(times, 1.0))
        for piece_ms in (MS_PER_HOUR, 60_000, 10_000):
            expected: dict[int, list[int]] = {}
            for at in times[10:251]:
                expected.setdefault(at // piece_ms * piece_ms, []).append(at)
            found = self.answer(
                rows_world,
                rows_world.rows.start_counts(
                    Span(rows_world.device_id, NUMBER, times[10], times[250]), piece_ms
                ),
            )
            assert sorted(found) == [(at, len(of), of[0]) for at, of in sorted(expected.items())]
        nothing = rows_world.rows.start_counts(
            Span("nobody", NUMBER, MIDNIGHT_MS, MIDNIGHT_MS + MS_PER_HOUR), 60_000
        )
        assert list(self.answer(rows_world, nothing)) == []

    def test_pieces_are_averaged_where_the_rows_are(self, rows_world: RowsWorld) -> None:
        hour = MIDNIGHT_MS + 3 * MS_PER_HOUR
        inside = {hour + 5_000: 10.0, hour + 599_999: 20.0, hour + 600_000: 7.0}
        rows_world.write({hour - 1: 99.0, **inside, hour + MS_PER_HOUR: 99.0})
        pending = rows_world.rows.start_means(
            Span(rows_world.device_id, NUMBER, hour, hour + MS_PER_HOUR - 1), 600_000
        )
        found = self.answer(rows_world, pending)
        assert list(found) == [(hour, 2, 15.0), (hour + 600_000, 1, 7.0)]
        before_ms = hour - 9 * MS_PER_DAY
        long_ago = Span(rows_world.device_id, NUMBER - 9, before_ms, before_ms + MS_PER_HOUR)
        nothing = rows_world.rows.start_means(long_ago, 60_000)
        assert list(self.answer(rows_world, nothing)) == []

    def test_what_a_deletion_covers_is_gone_and_its_neighbours_are_not(
        self, rows_world: RowsWorld
    ) -> None:
        times = [MIDNIGHT_MS + number for number in range(5)]
        rows_world.write(dict.fromkeys(times, 1.0))
        places = set(rows_world.rows.all_places())
        assert (rows_world.device_id, NUMBER) in places
        name, us = rows_world.device_id, ARRIVED_MS * 1000
        deletion = Deletion(name, times[1], times[3], us, "wrong")
        rows_world.rows.delete_rows(deletion, NUMBER)
        left = self.page(rows_world, times[0], times[-1])
        assert [row[0] for row in left] == [times[0], *times[3:]]

    def range(
        self, world: RowsWorld, first_ms: int, last_ms: int, limit: int = 100
    ) -> list[object]:
        pending = world.rows.start_range(Span(world.device_id, NUMBER, first_ms, last_ms), limit)
        return list(self.answer(world, pending))

    def page(
        self,
        world: RowsWorld,
        first_ms: int,
        last_ms: int,
        limit: int = 100,
        *,
        newest_first: bool = False,
    ) -> list[tuple[float | None, ...]]:
        pending = world.rows.start_page(
            Span(world.device_id, NUMBER, first_ms, last_ms), limit, newest_first=newest_first
        )
        return list(self.answer(world, pending))

    def answer(self, world: RowsWorld, pending: Answer[T]) -> T:
        return wait_for(pending, world.rows.wait)


class DeviceDaysContract:
    def test_days_and_devices_are_those_with_rows_in_order(self, rows_world: RowsWorld) -> None:
        rows_world.write({MIDNIGHT_MS: 1.0, MIDNIGHT_MS - 1: 1.0})
        days = rows_world.days.days()
        assert days == sorted(days)
        assert {DAY, date(2024, 12, 28)} <= set(days)
        devices = rows_world.days.devices(DAY)
        assert rows_world.device_id in devices
        assert devices == sorted(devices)
        assert rows_world.days.devices(date(2001, 1, 1)) == []

    def test_a_day_of_more_devices_than_a_page_is_listed_whole(self, rows_world: RowsWorld) -> None:
        """More than a page in each of eight buckets."""
        names = {f"{rows_world.device_id}_{number}" for number in range(45_000)}
        rows_world.note(names, date(2003, 5, 6))
        found = rows_world.days.devices(date(2003, 5, 6))
        assert names <= set(found)
        assert found == sorted(found)
        assert rows_world.days.count(date(2003, 5, 6)) == len(found)
        middle = found[len(found) // 2]
        assert list(rows_world.days.walk(date(2003, 5, 6), middle)) == found[len(found) // 2 :]

    def test_a_devices_days_are_newest_first_and_those_of_the_window(
        self, rows_world: RowsWorld
    ) -> None:
        rows_world.write({MIDNIGHT_MS - day * MS_PER_DAY: 1.0 for day in (0, 1, 5, 200)})
        found = list(rows_world.days.days_of(rows_world.device_id))
        assert found == [DAY, date(2024, 12, 28), date(2024, 12, 24), date(2024, 6, 12)]
        window = Window(
            datetime(2024, 12, 24, 23, tzinfo=UTC), datetime(2024, 12, 28, 0, 1, tzinfo=UTC)
        )
        assert list(rows_world.days.days_of(rows_world.device_id, window)) == found[1:3]
        assert list(rows_world.days.days_of("nobody")) == []
