"""A group of devices has limits of its own: every limit heeds it, and for that group alone."""

from collections.abc import Callable
from dataclasses import fields

import pytest

from iot_pipeline.core.fleet.problems import Trouble
from iot_pipeline.core.fleet.quality import QualityLimits, named_limits
from iot_pipeline.core.fleet.states import FleetStates, fold_rows
from iot_pipeline.core.reading.groups import DeviceLimits
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.write_times import RowsByTime, write_time_us
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR
from iot_pipeline_tests.core.reading.declared import SENSOR_YAML, declared

START = 1_795_000_000_000 // MS_PER_DAY * MS_PER_DAY
SECOND, MINUTE = 1_000, 60_000
COUNT = 180

# (measured, arrived, values) of the reading with a number; one every ten seconds.
Row = tuple[int, int, tuple[float, float]]


def clean(number: int) -> Row:
    at = START + number * 10 * SECOND
    return at, at + 50, (20 + number % 7 / 10, 50.0)


def late(number: int) -> Row:
    ms, at, values = clean(number)
    # By no constant time: that would be a clock.
    return ms, at + 90 * SECOND + number % 5 * 9 * SECOND, values


def now_and_then_late(number: int) -> Row:
    return late(number) if number % 4 == 0 else clean(number)


def ahead(number: int) -> Row:
    ms, at, values = clean(number)
    return ms + 20 * SECOND, at, values


def stuck(number: int) -> Row:
    return (*clean(number)[:2], (20.5, 50.0))


def hot(number: int) -> Row:
    return (*clean(number)[:2], (60 + number % 7 / 10, 50.0))


def damp(number: int) -> Row:
    return (*clean(number)[:2], (20 + number % 7 / 10, 0.5))


def jumping(number: int) -> Row:
    return (*clean(number)[:2], (20.0 + number % 2 * 8, 50.0))


def apart(number: int) -> Row:
    return (*clean(number)[:2], (40 + number % 7 / 10, 50.0))


CASES = [
    (late, 0, Trouble.LATE, "late_seconds: 600"),
    (now_and_then_late, 0, Trouble.LATE, "late_share: 0.5"),
    (ahead, 0, Trouble.CLOCK, "clock_ahead_seconds: 60"),
    (stuck, 0, Trouble.STUCK, "stuck_readings: 4000"),
    (stuck, 0, Trouble.STUCK, "stuck_seconds: 7200"),
    (clean, 10, Trouble.SILENT, "silent_seconds: 3600"),
    (clean, 10, Trouble.SILENT, "silent_intervals: 1000"),
    (hot, 0, Trouble.IMPLAUSIBLE, "quantities: {temperature: {plausible: [-40, 80], apart: 60}}"),
    (damp, 0, Trouble.IMPLAUSIBLE, "quantities: {humidity: {plausible: [0, 100], apart: 60}}"),
    (jumping, 0, Trouble.IMPLAUSIBLE, "quantities: {temperature: {jump: {at_once: 9}}}"),
    (jumping, 0, Trouble.IMPLAUSIBLE, "quantities: {temperature: {jump: {per_minute: 60}}}"),
    (apart, 0, Trouble.IMPLAUSIBLE, "quantities: {temperature: {apart: 30}}"),
    (clean, 40, Trouble.INCOMPLETE, "complete_share: 0.01"),
]


def limits_with(own: str, device: str = "own_*") -> QualityLimits:
    """Those of all devices, and of a group `mine`."""
    groups = f"groups:\n- {{name: mine, devices: {device}, {own}}}\n"
    return QualityLimits(QUANTITIES).with_groups(declared(SENSOR_YAML + groups).groups)


def folded(states: FleetStates, rows: dict[str, list[Row]]) -> None:
    """As ingestion folds them: columns of a micro-batch, 60 readings of each device at once."""
    for first in range(0, COUNT, 60):
        groups: dict[tuple[str, int], RowsByTime] = {}
        for name, of_device in rows.items():
            for number, (ms, at, values) in enumerate(of_device[first : first + 60], first):
                group = groups.setdefault((name, ms // MS_PER_DAY), {})
                group[ms] = (write_time_us(at, number, 0), number, 0, *values)
        states.fold(RowGroups.of(groups))


def one_by_one(states: FleetStates, rows: dict[str, list[Row]]) -> None:
    for name, of_device in rows.items():
        fold_rows(states, name, of_device)


@pytest.mark.parametrize("fold", [folded, one_by_one])
@pytest.mark.parametrize(("make", "minutes", "trouble", "own"), CASES)
def test_a_limit_of_its_own_holds_for_the_device_that_is_named_and_for_no_other(
    make: Callable[[int], Row],
    minutes: int,
    trouble: Trouble,
    own: str,
    fold: Callable[[FleetStates, dict[str, list[Row]]], None],
) -> None:
    states = FleetStates(limits_with(own))
    rows = [make(number) for number in range(COUNT)]
    # The clean ones are the neighbours of `own_1` and of `others_1`, five each, and witnesses.
    clean_ones = [clean(number) for number in range(COUNT + 6 * minutes)]
    names = [f"{group}_{number}" for group in ("own", "others") for number in range(1, 7)]
    fold(states, {name: rows if name.endswith("_1") else clean_ones for name in names})
    if minutes:
        one_by_one(states, {name: clean_ones[COUNT:] for name in names if not name.endswith("_1")})
    now = START + COUNT * 10 * SECOND + minutes * MINUTE
    states.settle(now)
    found = states.fleet(now).problems[trouble]
    assert [(problem.device_id, problem.group) for problem in found] == [("others_1", "")]


def test_a_problem_says_whose_limits_it_is_by() -> None:
    states = FleetStates(limits_with("stuck_readings: 100"))
    folded(states, {name: [stuck(number) for number in range(COUNT)] for name in ("own_1", "b_1")})
    fleet = states.fleet(START + COUNT * 10 * SECOND)
    said = {problem.device_id: problem for problem in fleet.problems[Trouble.STUCK]}
    assert said["own_1"].group == "mine"
    assert said["own_1"].sentence.endswith(", 180 times (limits of the group mine)")
    assert said["b_1"].group == ""
    assert said["b_1"].sentence.endswith(", 180 times")
    # Of what the group says nothing, all have the same limits.
    late_ones = FleetStates(limits_with("stuck_readings: 100"))
    folded(late_ones, {"own_1": [late(number) for number in range(COUNT)]})
    (problem,) = late_ones.fleet(START + COUNT * 10 * SECOND).problems[Trouble.LATE]
    assert problem.group == ""


def test_neighbours_are_those_of_the_declared_group() -> None:
    """Three cold rooms with names of their own: without the group each had no neighbours."""
    names = [f"{name}_1" for name in ("ice", "frost", "snow", "hail", "sleet")]
    rows = {name: [clean(number) for number in range(COUNT)] for name in names}
    rows["ice_1"] = [apart(number) for number in range(COUNT)]
    devices = "[" + ", ".join(f"'{name}'" for name in names) + "]"
    now = START + COUNT * 10 * SECOND
    for limits, found in ((limits_with("late_share: 0.1", devices), 1), (limits_with(""), 0)):
        states = FleetStates(limits)
        folded(states, rows)
        states.settle(now)
        assert len(states.fleet(now).problems[Trouble.IMPLAUSIBLE]) == found
    assert limits_with("", devices).group_of("ice_1") == "mine"
    assert limits_with("", devices).group_of("kitchen_12") == "kitchen"


def test_what_is_late_enough_is_backfilled_by_the_limit_of_the_device() -> None:
    states = FleetStates(limits_with("backfill_hours: 1"))
    start = START - 3 * MS_PER_HOUR
    rows: list[Row] = [
        (start + n * MINUTE, START + n * 10, (20 + n % 7 / 10, 50.0)) for n in range(COUNT)
    ]
    folded(states, {"own_1": rows[:60], "others_1": rows[:60]})
    assert states.devices["own_1"].backfilled == 60
    assert states.devices["others_1"].backfilled == 0
    assert states.fleet(START + MINUTE).delays.total == 60


def test_a_group_that_has_another_retention_alone_has_the_limits_of_all() -> None:
    limits = limits_with("retention_days: 3")
    assert limits.of("own_1") is limits
    assert (limits.and_own, limits.group_of("own_1")) == ("", "mine")


def test_a_group_without_a_device_is_told() -> None:
    states = FleetStates(limits_with("stuck_readings: 5"))
    one_by_one(states, {"b_1": [clean(0)]})
    assert states.fleet(START + MINUTE).unused_groups() == ["mine"]
    one_by_one(states, {"own_1": [clean(0)]})
    assert states.fleet(START + MINUTE).unused_groups() == []


def test_every_limit_of_a_device_can_be_that_of_a_group() -> None:
    of_all = named_limits(QualityLimits(QUANTITIES))
    for name in (item.name for item in fields(DeviceLimits)):
        other = round(of_all[name] / 2, 3) if "share" in name else of_all[name] + 1
        limits = limits_with(f"{name}: {other}")
        assert named_limits(limits.of("own_1")) == of_all | {name: other}, name
    for said, changed in (
        ("plausible: [-3, 3]", {"plausible_humidity_min": -3, "plausible_humidity_max": 3}),
        ("jump: {at_once: 2}", {"jump_humidity": 2}),
        ("jump: {per_minute: 7}", {"jump_humidity_per_minute": 7}),
        ("apart: 4", {"deviation_humidity": 4}),
    ):
        limits = limits_with(f"quantities: {{humidity: {{{said}}}}}")
        assert named_limits(limits.of("own_1")) == of_all | changed, said
