"""Every device of a fleet, one after the other, whatever a look at it could hold."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from iot_pipeline.core.fleet.problems import Trouble
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.stages.fleet import listing
from iot_pipeline.stages.fleet import rows as fleet_rows
from iot_pipeline.stages.fleet.keeper import FleetKeeper, look_at_fleet
from iot_pipeline.stages.fleet.listing import walk_fleet
from iot_pipeline.stages.fleet.rows import FleetPorts, Until, list_devices
from iot_pipeline_tests.stages.fakes_fleet import FakeDeviceStates
from iot_pipeline_tests.stages.fakes_quality import MINUTE, START_MS, Sent, TimeLapse

NOW_MS = START_MS + 40 * MINUTE
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)


def sent_by(devices: int) -> list[Sent]:
    """Each a reading a minute, of the day before and today; every tenth has fallen silent."""
    return [
        (f"d{number:04}", at, at, 20.0 + minute / 10, 50.0)
        for number in range(devices)
        for minute in range(-20, 40)
        if minute < 0 or number % 10
        for at in [START_MS + minute * MINUTE]
    ]


def ports_of(table: TimeLapse) -> FleetPorts:
    return FleetPorts(FakeDeviceStates(), table, table, table)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look holds ten devices, a listing asks about seven at once."""
    monkeypatch.setattr(fleet_rows, "MOST_DEVICES", 10)
    monkeypatch.setattr(listing, "_AT_ONCE", 7)


@pytest.mark.usefixtures("few")
def test_every_device_is_listed_by_name_with_its_newest_reading() -> None:
    ports = ports_of(TimeLapse(sent_by(60)))
    fleet = look_at_fleet(ports, QualityLimits(QUANTITIES), NOW, 0.0)
    assert len(fleet.states) == 10
    assert fleet.known == 60
    found = list(walk_fleet(ports, fleet))
    assert [name for name, *_ in found] == [f"d{number:04}" for number in range(60)]
    newest = {name: state.measured_ms for name, state, _ in found}
    assert newest["d0059"] == START_MS + 39 * MINUTE
    assert newest["d0050"] == START_MS - MINUTE, "of the day before, for it has none of today"
    assert {name for name, _, is_known in found if is_known} == fleet.states.keys()


@pytest.mark.usefixtures("few")
def test_what_runs_have_kept_of_a_device_goes_on_to_its_newest_reading() -> None:
    table = TimeLapse(sent_by(30))
    ports = ports_of(table)
    table.as_of_ms = START_MS + 20 * MINUTE
    keeper = FleetKeeper(ports, QualityLimits(QUANTITIES), is_alone=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet_rows, "MOST_DEVICES", 100)
        earlier = datetime.fromtimestamp(table.as_of_ms / 1000, UTC)
        assert len(keeper.look(earlier, 0.0, 60).states) == 30
        keeper.save_made()
    table.as_of_ms = NOW_MS
    fleet = look_at_fleet(
        FleetPorts(FakeDeviceStates(), table, table, table), QualityLimits(QUANTITIES), NOW, 0.0
    )
    found = {name: (state, known) for name, state, known in walk_fleet(ports, fleet)}
    assert all(known for _, known in found.values())
    state, _ = found["d0025"]
    assert state.measured_ms == START_MS + 39 * MINUTE
    silent, _ = found["d0020"]
    assert [p.trouble for p in fleet.problems_of("d0020", silent)] == [Trouble.SILENT]


@pytest.mark.usefixtures("few")
def test_a_device_that_a_look_has_found_is_listed_whatever_days_its_readings_are_of() -> None:
    ports = ports_of(TimeLapse(sent_by(15)))
    fleet = look_at_fleet(ports, QualityLimits(QUANTITIES), NOW, 0.0)
    name = next(iter(fleet.states))
    states = {**fleet.states, "a clock of 1970": fleet.states[name].copy()}
    found = [name for name, *_ in walk_fleet(ports, replace(fleet, states=states))]
    assert found == ["a clock of 1970", *(f"d{number:04}" for number in range(15))]


class Endless(TimeLapse):
    """A day of names without end, of which Cassandra knows how many."""

    def walk(self, day: date, since: str = "") -> Iterator[str]:
        number = 0
        while True:
            yield f"d{number:09}"
            number += 1

    def count(self, day: date) -> int:
        return 1_000_000


@pytest.mark.usefixtures("few")
def test_a_look_lists_no_more_devices_than_it_can_hold() -> None:
    table = Endless([("d", START_MS, START_MS, 20.0, 50.0)])
    found = list_devices(table, START_MS + MS_PER_DAY // 2, 7, Until(60.0, lambda: 0.0))
    assert (len(found.days_of), found.known) == (10, 1_000_000)
