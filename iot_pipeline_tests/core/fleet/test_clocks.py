"""Clocks that were reset, rolled over or overflowed are named with their cause; history is not."""

from random import Random

import pytest

from iot_pipeline.core.fleet.clocks import RESET, ROLLED_OVER, fits_day, why_off
from iot_pipeline.core.fleet.problems import Trouble
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.states import FleetStates
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR

NOW = 1_795_000_000_000
RESET_MS = 946_684_800_000
WEEKS = 1_024 * 7 * MS_PER_DAY


@pytest.mark.parametrize(
    ("measured", "cause"),
    [
        (RESET_MS + 10_000, RESET),
        (RESET_MS + 40 * MS_PER_DAY, RESET),
        (NOW - WEEKS - 600_000, ROLLED_OVER),
        (NOW - WEEKS - 30 * MS_PER_DAY, ""),
        (NOW - 400 * MS_PER_DAY, ""),
        (RESET_MS + 5_000 * MS_PER_DAY, ""),
        (NOW + 60_000, ""),
        (NOW, ""),
    ],
)
def test_a_cause_fits_or_none_does(measured: int, cause: str) -> None:
    assert why_off(measured, NOW) == cause
    assert fits_day(measured // MS_PER_DAY * MS_PER_DAY, NOW) == bool(cause)


@pytest.mark.parametrize(
    ("measured", "year"), [(2_085_978_496_000, 2036), (2_147_483_648_000, 2038)]
)
def test_overflows_ahead_are_named(measured: int, year: int) -> None:
    assert str(year) in why_off(measured, NOW)
    assert why_off(measured, measured + 1000) == "", "then it is the time"


def burst(begin_ms: int, arrived_ms: int, name: str = "d") -> dict[tuple[str, int], RowsByTime]:
    """An hour's buffer, sent at once: every reading is late by another time."""
    rows: RowsByTime = {
        begin_ms + 10_000 * n: ((arrived_ms + n) * 1000, 0, n, 20.0 + n % 7 / 10, 50.0)
        for n in range(60)
    }
    return {(name, begin_ms // MS_PER_DAY): rows}


def problems(states: FleetStates, at: int) -> dict[str, str]:
    return {p.device_id: p.sentence for p in states.fleet(at).problems[Trouble.CLOCK]}


def test_devices_that_send_bursts_with_a_wrong_clock_are_found_and_are_expected_to_report() -> None:
    states = FleetStates(QualityLimits(QUANTITIES))
    states.fold(RowGroups.of(burst(RESET_MS, NOW, "rtc")))
    states.fold(RowGroups.of(burst(NOW - WEEKS - 600_000, NOW, "gps")))
    states.fold(RowGroups.of(burst(NOW - 600_000, NOW, "good")))
    found = problems(states, NOW + 1000)
    assert found.keys() == {"rtc", "gps"}
    assert found["rtc"].endswith(f"behind: {RESET}")
    assert found["gps"].endswith(f"behind: {ROLLED_OVER}")
    assert states.fleet(NOW + 1000).states.keys() == {"rtc", "gps", "good"}
    assert states.devices["rtc"].backfilled == 0


def test_earlier_starts_that_later_ones_overwrite_are_told() -> None:
    states = FleetStates(QualityLimits(QUANTITIES))
    states.fold(RowGroups.of(burst(RESET_MS, NOW)))
    states.fold(RowGroups.of(burst(RESET_MS, NOW + 3_600_000)))
    (said,) = problems(states, NOW + 3_601_000).values()
    assert "it began anew once, and readings of earlier starts are overwritten" in said


def test_history_that_is_sent_now_is_no_clock() -> None:
    states = FleetStates(QualityLimits(QUANTITIES))
    states.fold(RowGroups.of(burst(NOW - 400 * MS_PER_DAY, NOW)))
    assert problems(states, NOW) == {}
    assert states.devices["d"].backfilled == 60


@pytest.mark.parametrize("seed", range(40))
def test_groups_that_are_folded_together_are_looked_at_as_each_alone(seed: int) -> None:
    """Histories, clocks that are behind by one time, and fresh readings, in groups of any size."""
    random = Random(seed)
    groups: dict[tuple[str, int], RowsByTime] = {}
    for device in range(random.randrange(1, 8)):
        behind = random.choice([0, 1, 30, 200]) * MS_PER_HOUR
        step = random.choice([-1000, 0, 100, 1000, 60_000])
        rows: RowsByTime = {}
        at = NOW
        for n in range(random.choice([1, 2, 9, 10, 11, 30, 100])):
            at += random.choice([1, 1000])
            # A step of 0: a clock that is behind by the same, reading after reading.
            measured = (NOW + n * step if step else at) - behind
            rows[measured] = (at * 1000, 0, n, 20.0, 40.0)
        groups[f"d{device}", NOW // MS_PER_DAY] = rows
    together, alone = (FleetStates(QualityLimits(QUANTITIES)) for _ in range(2))
    for _ in range(2):
        together.fold(RowGroups.of(groups))
        for place, rows in groups.items():
            alone.fold(RowGroups.of({place: rows}))
    assert together.devices == alone.devices
    assert together.changed == alone.changed


def test_a_clock_is_found_also_where_its_tenth_reading_comes_before_history() -> None:
    """Late by the same ten times, the tenth of them in front of a buffer of another time."""
    behind = 30 * MS_PER_DAY
    late: list[tuple[int, int]] = [(NOW + n * 2_000 - behind, NOW + n * 2_000) for n in range(10)]
    buffer = [(NOW - 2 * behind + n * 60_000, NOW + 18_000 + n) for n in range(1, 30)]

    def group(told: list[tuple[int, int]]) -> RowGroups:
        rows: RowsByTime = {measured: (at * 1000, 0, at - NOW, 20.0, 40.0) for measured, at in told}
        return RowGroups.of({("d", NOW // MS_PER_DAY): rows})

    apart, at_once = (FleetStates(QualityLimits(QUANTITIES)) for _ in range(2))
    apart.fold(group(late[:9]))
    assert apart.devices["d"].steady_rows == 9
    apart.fold(group([late[9], *buffer]))
    at_once.fold(group([*late, *buffer]))
    assert apart.devices == at_once.devices
    assert apart.devices["d"].clock_at_ms == NOW + 18_000
