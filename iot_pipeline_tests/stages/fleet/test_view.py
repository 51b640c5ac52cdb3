"""What pictures show: devices with problems first, what is left out, the time there is."""

from iot_pipeline.core.fleet.problems import Fleet
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.states import FleetStates
from iot_pipeline.core.fleet.view import MOST_LINES, MOST_ROWS, choose_rows, natural_key
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR, moment_of
from iot_pipeline.stages.fleet.view import view_fleet
from iot_pipeline_tests.stages.fake_rows import FakeSensorData
from iot_pipeline_tests.stages.world import World

NOW_MS = 500_000 * MS_PER_HOUR + 1_800_000


def fleet_of(devices: int, minutes: int = 60, silent: tuple[int, ...] = ()) -> Fleet:
    """One reading in ten seconds; the silent ones stop after half of the time."""
    states = FleetStates(QualityLimits(QUANTITIES))
    begin = NOW_MS - minutes * 60_000
    for number in range(devices):
        end = NOW_MS - (minutes * 30_000 if number in silent else 0)
        times = range(begin, end, 10_000)
        group: RowsByTime = {
            ms: ((ms + 40) * 1000, 0, at, 20.0 + at % 5 / 10, 50.0) for at, ms in enumerate(times)
        }
        states.fold(RowGroups.of({(f"room_{number}", begin // MS_PER_DAY): group}))
    states.settle(NOW_MS)
    return states.fleet(NOW_MS)


class Ports:
    def __init__(self, devices: int = 3) -> None:
        world = World(partitions=1)
        self.log, self.ledger = world.log, world.ledger
        self.rows = FakeSensorData()
        for number in range(devices):
            self.rows.add(f"room_{number}", range(NOW_MS - MS_PER_HOUR, NOW_MS, 60_000))


def test_the_grid_begins_with_the_first_hour_there_is_something_of() -> None:
    view = view_fleet(Ports(), "iot_data", fleet_of(3), moment_of(NOW_MS))
    assert view.first_hour == 499_999
    assert view.slot_ms == 60_000
    assert {name: len(row) for name, row in view.shares.items()} == dict.fromkeys(view.shares, 2)
    assert list(view.shares) == ["room_0", "room_1", "room_2"]
    assert all(share == 1.0 for row in view.shares.values() for share in row)


def test_lines_are_means_where_there_are_readings() -> None:
    ports = Ports(2)
    view = view_fleet(ports, "iot_data", fleet_of(3), moment_of(NOW_MS))
    assert set(view.lines) == {"room_0", "room_1"}, "not of a device without rows"
    times = [ms for ms, _ in view.lines["room_0"]]
    assert len(times) == 60, "an hour is drawn by the minute"
    assert times[0] >= NOW_MS - MS_PER_HOUR
    assert ports.rows.asked["means"] <= 2 * MOST_LINES


def test_of_a_large_fleet_devices_with_problems_are_drawn_and_named() -> None:
    fleet = fleet_of(90, silent=(77, 5))
    chosen = choose_rows(fleet)
    assert len(chosen) == MOST_ROWS
    assert {"room_77", "room_5"} <= set(chosen)
    assert chosen == sorted(chosen, key=natural_key)
    view = view_fleet(Ports(), "iot_data", fleet, moment_of(NOW_MS))
    assert view.words == {"room_77": "silent", "room_5": "silent"}
    assert len(view.shares) == MOST_ROWS < view.fleet.known


def test_a_fleet_of_nobody_has_nothing_to_draw() -> None:
    view = view_fleet(Ports(0), "iot_data", fleet_of(0), moment_of(NOW_MS))
    assert not view.shares
    assert not view.lines
