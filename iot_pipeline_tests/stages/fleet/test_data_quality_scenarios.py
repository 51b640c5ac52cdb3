"""Checks against the truth: what a scenario's manifest says was wrong is what they name."""

from importlib import resources

import msgspec
import pytest

from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import Reading, ReadingRules
from iot_pipeline.core.simulator.fault_specs import FaultKind
from iot_pipeline.core.simulator.manifest import ManifestRecorder
from iot_pipeline.core.simulator.scenario_file import parse_scenario
from iot_pipeline.core.simulator.scenario_fleet import ScenarioFleet
from iot_pipeline.core.simulator.scenarios import Scenario
from iot_pipeline.core.times import duration_us
from iot_pipeline_tests.stages.fakes_quality import HOUR, MINUTE, START_MS, Sent, TimeLapse, red

_NETWORK_MS = 40


def shipped(name: str) -> Scenario:
    file = resources.files("iot_pipeline") / "scenarios" / f"{name}.yaml"
    return parse_scenario(file.read_text(), name)


def with_faults(*faults: dict[str, object], interval: str = "10s") -> Scenario:
    groups = [
        {"name": "indoors", "devices": 8, "places": ["kitchen"], "interval": interval},
        {"name": "garden", "devices": 6, "interval": interval, "outdoors": 1.0},
    ]
    shape = {"description": "a test", "groups": groups, "faults": list(faults)}
    return msgspec.convert(shape, Scenario)


class Truth:
    """A scenario as the table has it, and its manifest's faults."""

    def __init__(self, scenario: Scenario, minutes: float, seed: int = 1) -> None:
        start_us = START_MS * 1000
        fleet = ScenarioFleet(
            scenario, seed=seed, start_us=start_us, end_us=start_us + int(minutes * 60e6)
        )
        recorder = ManifestRecorder(fleet.devices)
        decode = ReadingDecoder(ReadingRules()).decode
        sent: list[Sent] = []
        self.rejected = 0
        for number, emission in enumerate(fleet.emissions()):
            if emission.is_withheld:
                recorder.withhold(emission)
                continue
            recorder.acknowledge(emission, 0, number)
            reading = decode(emission.payload)
            if not isinstance(reading, Reading):
                self.rejected += 1
                continue
            arrived_ms = emission.send_us // 1000 + _NETWORK_MS
            values = (reading.temperature, reading.humidity)
            sent.append((reading.device_id, timestamp_ms(reading.timestamp), arrived_ms, *values))
        self.table = TimeLapse(sent)
        self.faults = recorder.faults()

    def look(self, minute: float) -> dict[str, set[str]]:
        self.verdicts = self.table.look(START_MS + int(minute * MINUTE))
        return red(self.verdicts)

    def hit_by(self, *kinds: FaultKind) -> set[str]:
        return {fault.device_id for fault in self.faults if fault.kind in kinds}


LATE = {"distribution": "uniform", "min": "2m", "max": "9m"}


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("fault", "minute", "checks"),
    [
        ({"kind": "dropout", "for": "25m"}, 60, {"devices_are_reporting", "readings_are_complete"}),
        ({"kind": "stuck", "for": "25m"}, 60, {"no_stuck_sensors"}),
        ({"kind": "spike"}, 50, {"values_are_plausible"}),
        ({"kind": "spike", "quantity": "humidity", "size": 40}, 50, {"values_are_plausible"}),
        ({"kind": "drift", "for": "60m"}, 95, {"values_are_plausible"}),
        ({"kind": "clock_skew", "for": "60m", "skew": "5m"}, 60, {"clocks_are_right"}),
        ({"kind": "clock_skew", "for": "60m", "skew": "-5m"}, 75, {"clocks_are_right"}),
        ({"kind": "late", "for": "60m", "delay": LATE, "share": 0.5}, 75, {"readings_are_on_time"}),
    ],
)
def test_the_check_made_for_a_fault_names_the_devices_of_the_manifest(
    fault: dict[str, object], minute: float, checks: set[str], seed: int
) -> None:
    truth = Truth(with_faults({"pick": 3, "at": "45m", **fault}), minutes=110, seed=seed)
    found = truth.look(minute)
    hit = truth.hit_by(FaultKind(str(fault["kind"])))
    assert len(hit) == 3
    for check in checks:
        assert found.get(check) == hit, truth.verdicts[check].sentence
    # A clock that jumps leaves hours with fewer readings: that is so, and said.
    extra = {"readings_are_complete"} if fault["kind"] == "clock_skew" else set()
    assert found.keys() <= checks | extra, found


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "duplicate", "share": 0.3},
        {"kind": "duplicate", "share": 0.3, "after": "5s"},
        {"kind": "conflicting_duplicate", "share": 0.3},
        {"kind": "out_of_order", "share": 0.3},
        {"kind": "malformed", "share": 0.01},
    ],
)
def test_what_only_changes_the_counts_turns_no_check_on_devices(fault: dict[str, object]) -> None:
    truth = Truth(with_faults(fault), minutes=80)
    assert truth.hit_by(FaultKind(str(fault["kind"])))
    assert truth.look(75) == {}


def test_a_device_that_sends_mostly_rubbish_lacks_readings_and_fills_the_dead_letters() -> None:
    fault = {"kind": "malformed", "share": 0.4, "pick": 1, "at": "40m", "for": "40m"}
    truth = Truth(with_faults(fault), minutes=80)
    assert truth.look(79)["readings_are_complete"] == truth.hit_by(FaultKind.MALFORMED)
    assert truth.rejected > 50


def test_a_rough_day_shows_each_trouble_on_its_check_within_five_minutes() -> None:
    truth = Truth(shipped("rough_day"), minutes=5.2)
    found = truth.look(5)
    assert found["devices_are_reporting"] == truth.hit_by(FaultKind.DROPOUT)
    assert found["no_stuck_sensors"] == truth.hit_by(FaultKind.STUCK)
    assert found["values_are_plausible"] == truth.hit_by(FaultKind.SPIKE, FaultKind.DRIFT)
    assert found["clocks_are_right"] == truth.hit_by(FaultKind.CLOCK_SKEW)
    assert found["readings_are_on_time"] == truth.hit_by(FaultKind.LATE)
    assert found["readings_are_complete"] >= truth.hit_by(FaultKind.DROPOUT)
    assert truth.rejected > 100


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", ["smart_home", "smart_city"])
def test_a_clean_fleet_of_a_shipped_scenario_raises_none_in_a_week(name: str, seed: int) -> None:
    scenario = shipped(name)
    # The same climate with fewer devices and readings: a week of it in a second.
    groups = [
        msgspec.structs.replace(group, devices=min(group.devices, 10), interval="5m")
        for group in scenario.groups
    ]
    scenario = msgspec.structs.replace(scenario, groups=groups, faults=[])
    truth = Truth(scenario, minutes=7 * 24 * 60, seed=seed)
    for hour in (1, 2, 5, 9, 13, 18, 23.9, 24.1, 36, 47, 60, 71.5, 90, 100, 120, 143, 150, 167.9):
        assert truth.look(hour * HOUR / MINUTE) == {}, hour


def test_a_fleet_of_one_hertz_raises_none_from_its_first_second_on() -> None:
    scenario = msgspec.structs.replace(shipped("rough_day"), faults=[])
    truth = Truth(scenario, minutes=4)
    for seconds in (1, 2, 4, 6, 8, 12, 20, 40, 59, 61, 65, 75, 100, 150, 230):
        assert truth.look(seconds / 60) == {}, seconds
    assert duration_us(scenario.groups[0].interval) == 1_000_000
