"""Some devices have limits of their own: what the file may say, and that every limit heeds it."""

from collections.abc import Callable

import pytest

from iot_pipeline.core.fleet.device_limits import named_limits, parse_device_limits
from iot_pipeline.core.fleet.problems import Trouble
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.states import FleetStates, fold_rows
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.write_times import RowsByTime, write_time_us
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR
from iot_pipeline.errors import ConfigurationError

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
    (hot, 0, Trouble.IMPLAUSIBLE, "{plausible_temperature_max: 80, deviation_temperature: 60}"),
    (damp, 0, Trouble.IMPLAUSIBLE, "{plausible_humidity_min: 0, deviation_humidity: 60}"),
    (jumping, 0, Trouble.IMPLAUSIBLE, "jump_temperature: 9"),
    (jumping, 0, Trouble.IMPLAUSIBLE, "jump_temperature_per_minute: 60"),
    (apart, 0, Trouble.IMPLAUSIBLE, "deviation_temperature: 30"),
    (clean, 40, Trouble.INCOMPLETE, "complete_share: 0.01"),
]


def limits_with(own: str) -> QualityLimits:
    entry = own.strip("{}").replace(", ", "\n    ")
    return parse_device_limits(
        f"limits:\n  - devices: [own_*]\n    {entry}\n", "x.yaml", QualityLimits(QUANTITIES)
    )


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
    assert [problem.device_id for problem in found] == ["others_1"]


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


def test_the_first_entry_that_names_a_device_holds() -> None:
    text = (
        "limits:\n- devices: ['a_?', b]\n  stuck_readings: 5\n- devices: ['*']\n  late_share: 0.5\n"
    )
    limits = parse_device_limits(text, "x.yaml", QualityLimits(QUANTITIES, silent_seconds=90))
    assert (limits.of("a_1").stuck_readings, limits.of("a_1").late_share) == (5, 0.05)
    assert (limits.of("a_12").stuck_readings, limits.of("a_12").late_share) == (30, 0.5)
    assert limits.of("b").silent_seconds == limits.of("x").silent_seconds == 90
    assert QualityLimits(QUANTITIES).of("b") == QualityLimits(QUANTITIES)


def test_what_names_no_device_is_told() -> None:
    states = FleetStates(limits_with("stuck_readings: 5"))
    one_by_one(states, {"b_1": [clean(0)]})
    assert states.fleet(START + MINUTE).unused_patterns() == ["own_*"]
    one_by_one(states, {"own_1": [clean(0)]})
    assert states.fleet(START + MINUTE).unused_patterns() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x.yaml:1: the file is empty; expected limits of some devices"),
        ("limits: 3", "x.yaml:1: limits: expected a list"),
        ("limit: []", "x.yaml:1: limit: no such limit; expected one of limits"),
        (
            "limits:\n- devices: []",
            "x.yaml:2: limits[0].devices: expected a list of length >= 1",
        ),
        ("limits:\n- late_share: 0.1", "x.yaml:2: limits[0]: Object missing required field"),
        (
            "limits:\n- devices: [a]\n  silence: 5",
            "x.yaml:3: limits[0].silence: no such limit; expected one of devices, late_seconds,",
        ),
        # Of all devices together, and what is a dead letter at all.
        ("limits:\n- devices: [a]\n  expected_days: 5", "x.yaml:3: limits[0].expected_days: no"),
        ("limits:\n- devices: [a]\n  temperature_max: 5", "x.yaml:3: limits[0].temperature_max: "),
        (
            "limits:\n- devices: [a]\n  late_share: often",
            "x.yaml:3: limits[0].late_share: expected a number, got text",
        ),
        (
            "limits:\n- devices: [a]\n- devices: [b]\n  silent_seconds: 0",
            "x.yaml:4: limits[1].silent_seconds: expected a number > 0.0",
        ),
        (
            "limits:\n- devices: [a]\n  plausible_humidity_max: 1",
            "x.yaml:2: plausible_humidity_min is 1; expected less than plausible_humidity_max, 1",
        ),
        (
            "limits:\n- devices: [a]\n  late_share: 0.1\n  late_share: 0.2",
            "x.yaml:3: late_share is",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_device_limits(text, "x.yaml", QualityLimits(QUANTITIES))
    assert str(caught.value).startswith(said)


def test_every_limit_of_a_device_can_be_set() -> None:
    for name, value in named_limits(QualityLimits(QUANTITIES)).items():
        other = round(value / 2, 3) if "share" in name or "min" in name else value + 1
        limits = limits_with(f"{name}: {other}")
        assert named_limits(limits.of("own_1")) == named_limits(limits) | {name: other}, name
