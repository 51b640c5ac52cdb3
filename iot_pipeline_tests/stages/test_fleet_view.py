"""Counting cells within a budget, and sampling arrivals, over tables and logs in memory."""

from datetime import UTC, datetime

import pytest

from iot_pipeline.core.fleet_day import HOUR_MS
from iot_pipeline.core.readings import ReadingRules
from iot_pipeline.errors import CassandraUnavailableError
from iot_pipeline.stages.fleet_day import count_cells
from iot_pipeline.stages.lateness import sample_arrivals
from iot_pipeline_tests.stages.fake_pages import FakePages
from iot_pipeline_tests.stages.world import World

NOW_MS = 500_000 * HOUR_MS + 1_800_000


class Ticking:
    """A clock that goes on by so much at each look."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


def filled():
    pages = FakePages()
    for name in ("a", "b"):
        pages.add(name, range(NOW_MS - 30 * HOUR_MS, NOW_MS, 60_000))
    return pages


def test_a_board_is_whole_when_there_is_time_and_every_reading_is_in_it():
    pages = filled()
    board = count_cells(pages, {}, ["a", "b"], NOW_MS, budget_seconds=5.0)
    assert len(board) == 48
    day = range(NOW_MS // HOUR_MS - 23, NOW_MS // HOUR_MS + 1)
    assert [board["a", hour].count for hour in day] == [60] * 23 + [30]


def test_a_board_is_filled_over_several_looks_and_the_current_hour_counted_each_time():
    pages = filled()
    board, looks = {}, 0
    while len(board) < 48:
        before = len(pages.slots_asked)
        board = count_cells(
            pages, board, ["a", "b"], NOW_MS + looks, budget_seconds=10.0, clock=Ticking(1.0)
        )
        asked = pages.slots_asked[before:]
        assert len(asked) <= 10, "no more is sent when the time is over"
        assert {("a", 500_000 * HOUR_MS), ("b", 500_000 * HOUR_MS)} <= set(asked)
        looks += 1
        assert looks < 10
    assert board["a", 500_000].counted_ms == NOW_MS + looks - 1
    late = NOW_MS - 5 * HOUR_MS + 1
    pages.add("a", [late])
    for look in range(9):
        board = count_cells(
            pages, board, ["a", "b"], NOW_MS + look, budget_seconds=10.0, clock=Ticking(1.0)
        )
    assert board["a", late // HOUR_MS].count == 61, "late data reaches every cell in the end"


def test_cells_of_yesterday_and_of_devices_that_are_gone_are_forgotten():
    board = count_cells(filled(), {}, ["a", "b"], NOW_MS, budget_seconds=5.0)
    later = count_cells(filled(), board, ["b"], NOW_MS + 20 * HOUR_MS, budget_seconds=-1.0)
    assert len(later) == 4
    assert {name for name, _ in later} == {"b"}


def test_an_error_is_raised():
    pages = filled()
    pages.failures = [CassandraUnavailableError("away")]
    with pytest.raises(CassandraUnavailableError):
        count_cells(pages, {}, ["a"], NOW_MS, budget_seconds=5.0)


def test_arrivals_are_sampled_all_over_the_time_asked_for_and_bad_records_left_out():
    world = World(partitions=2)
    for number in range(3000):
        produced = world.log.now_ms / 1000
        world.write(number % 2, at=produced - (90.0 if number % 2 else 1.0))
        if number % 100 == 0:
            world.write_bad()
        world.log.tick(1000)
    since = datetime.fromtimestamp(world.log.now_ms / 1000 - 1000, UTC)
    found = sample_arrivals(world.log, world.log.topic, ReadingRules(), since, spots=4, records=20)
    assert 100 <= len(found) <= 2 * 4 * 20
    late = {item.device_id: round(item.late_seconds) for item in found}
    assert late == {"device_0": 1, "device_1": 90}
    everything = sample_arrivals(
        world.log, world.log.topic, ReadingRules(), datetime.fromtimestamp(0, UTC), spots=99
    )
    assert len(everything) == 3000, "a short log is read whole, each record once"
    assert sample_arrivals(World().log, "iot_data", ReadingRules(), since) == []
