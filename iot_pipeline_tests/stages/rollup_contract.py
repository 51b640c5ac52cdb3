"""What a `RollupStore` promises, asserted on the fake and on Cassandra."""

from datetime import UTC, date, datetime, timedelta
from typing import Protocol, TypeVar

from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.rollups.days import DayRecord
from iot_pipeline.core.rollups.statistics import Rollup, is_same, summarize
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR
from iot_pipeline.stages.ports.answers import Pending
from iot_pipeline.stages.ports.rollups import RollupStore
from iot_pipeline_tests.stages.contracts import settle

DAY = 20_086  # 2024-12-29
DAY_MS = DAY * MS_PER_DAY
P = TypeVar("P", bound=Pending)
T = 1_735_500_000_000_000


class RollupWorld(Protocol):
    """A store, and a name of the test's own for devices."""

    @property
    def store(self) -> RollupStore: ...

    topic: str
    device: str


def hour(number: int, *values: float) -> tuple[int, Rollup]:
    at = DAY_MS + number * MS_PER_HOUR
    return at, summarize([(at + n, value, 50.0) for n, value in enumerate(values)], QUANTITIES)


class RollupStoreContract:
    def _done(self, world: RollupWorld, sent: P) -> P:
        settle(world.store, sent)
        return sent

    def _hours(self, world: RollupWorld) -> dict[int, Rollup]:
        found = self._done(world, world.store.start_hours(world.device, DAY, DAY)).found
        return dict(found)

    def _days(self, world: RollupWorld) -> dict[int, Rollup]:
        found = self._done(world, world.store.start_days(world.device, DAY, DAY)).found
        return dict(found)

    def test_hours_and_days_come_back_as_they_were_sent(self, rollup_world: RollupWorld) -> None:
        world = rollup_world
        hours = dict([hour(0, 1.0, 3.5), hour(23, -2.0)])
        at, missing = (
            DAY_MS + 5 * MS_PER_HOUR,
            summarize([(DAY_MS + 5 * MS_PER_HOUR, None, 7.0)], QUANTITIES),
        )
        hours[at] = missing
        self._done(world, world.store.send_hours(world.device, DAY, hours, T))
        whole = summarize([(DAY_MS, 1.0, 2.0), (DAY_MS + 9, 3.0, 4.0)], QUANTITIES)
        self._done(world, world.store.send_day(world.device, DAY, whole, T))
        found = self._hours(world)
        assert found.keys() == hours.keys()
        assert all(is_same(found[at], hours[at]) for at in hours)
        (day,) = self._days(world).items()
        assert day[0] == DAY_MS
        assert is_same(day[1], whole)

    def test_hours_that_a_later_rebuild_did_not_find_are_gone(
        self, rollup_world: RollupWorld
    ) -> None:
        world = rollup_world
        self._done(
            world, world.store.send_hours(world.device, DAY, dict([hour(1, 1.0), hour(2, 2.0)]), T)
        )
        self._done(world, world.store.send_hours(world.device, DAY, dict([hour(2, 9.0)]), T + 5))
        found = self._hours(world)
        assert list(found) == [hour(2, 9.0)[0]]
        self._done(world, world.store.send_day(world.device, DAY, hour(1, 1.0)[1], T))
        self._done(world, world.store.send_day(world.device, DAY, Rollup(), T + 5))
        assert self._days(world) == {}

    def test_of_two_rebuilds_the_one_with_the_higher_write_time_remains_whole_in_any_order(
        self, rollup_world: RollupWorld
    ) -> None:
        world = rollup_world
        newer, older = dict([hour(2, 9.0)]), dict([hour(1, 1.0), hour(2, 2.0)])
        self._done(world, world.store.send_hours(world.device, DAY, newer, T + 1))
        self._done(world, world.store.send_day(world.device, DAY, hour(2, 9.0)[1], T + 1))
        self._done(world, world.store.send_hours(world.device, DAY, older, T))
        self._done(world, world.store.send_day(world.device, DAY, hour(1, 1.0)[1], T))
        found = self._hours(world)
        assert list(found) == list(newer)
        assert is_same(found[hour(2, 9.0)[0]], hour(2, 9.0)[1])
        (day,) = self._days(world).values()
        assert is_same(day, hour(2, 9.0)[1])

    def test_other_days_and_devices_are_left_alone(self, rollup_world: RollupWorld) -> None:
        world = rollup_world
        for day in (DAY - 1, DAY, DAY + 1):
            rollup = summarize([(day * MS_PER_DAY, 1.0, 1.0)], QUANTITIES)
            sent = world.store.send_hours(world.device, day, {day * MS_PER_DAY: rollup}, T)
            self._done(world, sent)
            self._done(world, world.store.send_day(world.device, day, rollup, T))
        self._done(world, world.store.send_hours(world.device, DAY, {}, T + 1))
        self._done(world, world.store.send_day(world.device, DAY, Rollup(), T + 1))
        expected = {(DAY - 1) * MS_PER_DAY, (DAY + 1) * MS_PER_DAY}
        for start in (world.store.start_hours, world.store.start_days):
            answer = self._done(world, start(world.device, DAY - 1, DAY + 1))
            assert set(answer.found) == expected

    def test_the_record_with_the_higher_write_time_remains(self, rollup_world: RollupWorld) -> None:
        world = rollup_world
        at = datetime(2026, 3, 11, 12, tzinfo=UTC)
        day = date(2024, 12, 29)
        newer = DayRecord(day, at, T + 1, "stored 5", 5, 2, 0.25, "run-2")
        older = DayRecord(day, at - timedelta(seconds=1), T, "stored 4", 4, 1, 0.5, "run-1")
        assert world.store.read_records(world.topic) == {}
        world.store.record_day(world.topic, newer)
        world.store.record_day(world.topic, older)
        assert world.store.read_records(world.topic) == {day: newer}
