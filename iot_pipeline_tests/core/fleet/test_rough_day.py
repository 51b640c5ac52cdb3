"""A whole `rough_day`, judged every ten seconds: colours change with the manifest alone."""

from dataclasses import dataclass, field

import msgspec
import pytest

from iot_pipeline.core.fleet.evidence import WINDOW_MS
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.states import FleetStates
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.simulator.fault_specs import FaultKind
from iot_pipeline.core.simulator.manifest import FaultTruth
from iot_pipeline_tests.stages.fakes_quality import judge_fleet
from iot_pipeline_tests.stages.passing import Passing, shipped

LOOK_MS = 10_000
LIMITS = QualityLimits(QUANTITIES)
# Which faults a check is about, within how long after one began it turns red, and how long after
# it ended green.
CAUSES = {
    "values_are_plausible": ({FaultKind.SPIKE, FaultKind.DRIFT}, 150_000, WINDOW_MS),
    "devices_are_reporting": ({FaultKind.DROPOUT}, 60_000, 0),
    "readings_are_on_time": ({FaultKind.LATE}, 120_000, WINDOW_MS + 120_000),
    "no_stuck_sensors": ({FaultKind.STUCK}, 60_000, 0),
    "clocks_are_right": ({FaultKind.CLOCK_SKEW}, 0, WINDOW_MS),
    "readings_are_complete": ({FaultKind.DROPOUT, FaultKind.MALFORMED}, 3_600_000, 24 * 3_600_000),
}


@dataclass
class Seen:
    """What each check said over time: (when, passed, devices in its table), changes only."""

    changes: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)
    named: dict[str, set[str]] = field(default_factory=dict)


def watch(passing: Passing) -> Seen:
    seen = Seen({name: [] for name in CAUSES}, {name: set() for name in CAUSES})
    states = FleetStates(LIMITS)
    for now, groups in passing.batches():
        if groups:
            states.fold(RowGroups.of(groups))
        if now % LOOK_MS:
            continue
        states.settle(now)
        for verdict in judge_fleet(states.fleet(now)):
            changes = seen.changes[verdict.name]
            if not changes or changes[-1][1] != verdict.passed:
                changes.append((now, verdict.passed))
            table = {row[0] for row in verdict.worst.rows}
            assert bool(table) != verdict.passed, "red has a table, green has none"
            seen.named[verdict.name] |= table
    return seen


@pytest.fixture(scope="module")
def rough_day() -> tuple[Passing, Seen]:
    passing = Passing(shipped("rough_day"), minutes=60)
    return passing, watch(passing)


def explains(fault: FaultTruth, at_ms: int, passed: bool, red_ms: int, window_ms: int) -> bool:
    """Whether a colour may change then: it turned red after the fault began, green after its end.

    Two looks later at most: one for the look, one for readings on their way.
    """
    begun, ended = fault.first_at.timestamp() * 1000, fault.last_at.timestamp() * 1000
    if passed:
        return ended + window_ms <= at_ms <= ended + window_ms + 2 * LOOK_MS
    return begun <= at_ms <= begun + red_ms + 2 * LOOK_MS


def test_colours_change_only_when_the_manifest_says_that_something_began_or_ended(
    rough_day: tuple[Passing, Seen],
) -> None:
    passing, seen = rough_day
    for name, (kinds, red_ms, window_ms) in CAUSES.items():
        faults = [fault for of in passing.faults(*kinds).values() for fault in of]
        _, *changes = seen.changes[name]
        for at, passed in changes:
            assert any(explains(fault, at, passed, red_ms, window_ms) for fault in faults), (
                f"{name} turned {'green' if passed else 'red'} after "
                f"{(at - passing.start_ms) / 1000} s"
            )


def test_each_trouble_shows_as_often_as_it_began_and_no_oftener(
    rough_day: tuple[Passing, Seen],
) -> None:
    _, seen = rough_day
    reds = {
        name: sum(not passed for _, passed in changes) for name, changes in seen.changes.items()
    }
    # What ends at once shows six times an hour; the rest is never well for a whole window.
    assert reds == {
        "values_are_plausible": 1,
        "devices_are_reporting": 6,
        "readings_are_on_time": 1,
        "no_stuck_sensors": 6,
        "clocks_are_right": 1,
        "readings_are_complete": 1,
    }


def test_checks_name_the_devices_of_the_manifest_and_no_other(
    rough_day: tuple[Passing, Seen],
) -> None:
    passing, seen = rough_day
    named = seen.named
    assert named["values_are_plausible"] == set(passing.faults(FaultKind.SPIKE, FaultKind.DRIFT))
    assert named["devices_are_reporting"] == set(passing.faults(FaultKind.DROPOUT))
    assert named["readings_are_on_time"] == set(passing.faults(FaultKind.LATE))
    assert named["no_stuck_sensors"] == set(passing.faults(FaultKind.STUCK))
    assert named["clocks_are_right"] == set(passing.faults(FaultKind.CLOCK_SKEW))
    dropped = set(passing.faults(FaultKind.DROPOUT))
    assert (
        dropped
        <= named["readings_are_complete"]
        <= dropped | set(passing.faults(FaultKind.MALFORMED))
    )


def test_a_trouble_that_ended_is_over_after_its_window_and_not_before() -> None:
    once = [
        msgspec.structs.replace(fault, every=None) if fault.at else fault
        for fault in shipped("rough_day").faults
        if fault.kind in (FaultKind.LATE, FaultKind.CLOCK_SKEW, FaultKind.DRIFT)
    ]
    passing = Passing(msgspec.structs.replace(shipped("rough_day"), faults=once), minutes=27)
    seen = watch(passing)
    for name, kind in (
        ("readings_are_on_time", FaultKind.LATE),
        ("clocks_are_right", FaultKind.CLOCK_SKEW),
        ("values_are_plausible", FaultKind.DRIFT),
    ):
        ended = max(f.last_at.timestamp() for of in passing.faults(kind).values() for f in of)
        start, red, green = seen.changes[name]
        assert (start[1], red[1], green[1]) == (True, False, True)
        late_ms = 120_000 if kind is FaultKind.LATE else 0
        after = green[0] - ended * 1000
        assert WINDOW_MS <= after <= WINDOW_MS + late_ms + 2 * LOOK_MS


def test_a_fleet_without_faults_never_changes_colour() -> None:
    scenario = msgspec.structs.replace(shipped("rough_day"), faults=[])
    seen = watch(Passing(scenario, minutes=20))
    assert all([passed for _, passed in changes] == [True] for changes in seen.changes.values())
