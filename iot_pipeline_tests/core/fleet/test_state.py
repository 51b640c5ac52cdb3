"""A device's state is the same however its readings were cut up, and small."""

from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.fleet.delays import FleetRecord
from iot_pipeline.core.fleet.evidence import WINDOW_MS
from iot_pipeline.core.fleet.kept_states import (
    decode,
    encode,
    form_of,
    merge,
)
from iot_pipeline.core.fleet.problems import Trouble
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.fleet.states import MANY, FleetStates
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR

LIMITS = QualityLimits(QUANTITIES)
START_MS = 1_772_409_600_000
# (measured, arrived, temperature, humidity)
Row = tuple[int, int, float, float]
# What is decided at the end of a part, or learned when a half window ends.
LEARNED = {"late_at_ms", "late_most_ms", "visit_ms", "pause_ms", "pauses", "long_ms"}
LEARNED |= {"visit_event_ms", "nights", "night_ms", "night_at_ms"}
LEARNED |= {"interval_ms", "regular_votes", "half", "before"}


@st.composite
def devices_rows(draw: st.DrawFn, *, is_wild: bool = True) -> list[Row]:
    """A device's readings as they arrive: mostly every second, with all that can be wrong."""
    rows: list[Row] = []
    at = START_MS + draw(st.integers(0, MS_PER_HOUR))
    wild_delays = st.sampled_from([40, 40, 40, 70_000, 61_000, -9_000, -600_000, 90_000_000])
    delays = wild_delays if is_wild else st.just(40)
    values = st.sampled_from([20.0, 20.0, 20.5, 21.0, *([35.0, 70.0] if is_wild else [])])
    for _ in range(draw(st.integers(1, 60))):
        at += draw(st.sampled_from([1_000, 1_000, 1_000, 90_000, 500_000]))
        ms = at - draw(delays)
        if all(ms != row[0] for row in rows):
            rows.append((ms, at, draw(values), draw(st.sampled_from([50.0, 50.0, 51.0]))))
    return rows


def taken(rows: list[Row], state: DeviceState | None = None) -> DeviceState:
    state = state or DeviceState()
    for ms, at, *values in rows:
        state.take_row(ms, at, tuple(values), LIMITS)
    return state


def groups_of(rows: list[Row], name: str = "a") -> dict[tuple[str, int], RowsByTime]:
    """As a micro-batch has them: by day, in the order of arrival."""
    groups: dict[tuple[str, int], RowsByTime] = {}
    for number, (ms, at, temperature, humidity) in enumerate(rows):
        group = groups.setdefault((name, ms // MS_PER_DAY), {})
        group[ms] = (at * 1000, number, 0, temperature, humidity)
    return groups


def folded(rows: list[Row], parts: list[int]) -> DeviceState:
    states = FleetStates(LIMITS)
    for start, end in pairwise(sorted({0, *(part % len(rows) for part in parts), len(rows)})):
        states.fold(RowGroups.of(groups_of(rows[start:end])))
    return states.devices["a"]


def facts(state: DeviceState, without: set[str] = LEARNED) -> dict[int | str, object]:
    found = msgspec.structs.asdict(state)
    halves = {
        half.number: (half.rows, half.jumps, half.outside) for half in (state.half, state.before)
    }
    return {name: value for name, value in found.items() if name not in without} | halves


@given(devices_rows(), st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=150)
def test_columns_in_any_parts_say_what_the_readings_one_by_one_say(
    rows: list[Row], parts: list[int]
) -> None:
    # A micro-batch groups by day: what crosses midnight there is in another order.
    rows = [row for row in rows if row[0] // MS_PER_DAY == rows[0][0] // MS_PER_DAY]
    assert facts(folded(rows, parts)) == facts(taken(rows))


@given(devices_rows(is_wild=False), st.integers(0, 60))
def test_a_kept_state_and_what_came_since_are_one(rows: list[Row], cut: int) -> None:
    older, newer = taken(rows[:cut]), taken(rows[cut:])
    before = encode(older), encode(newer)
    assert facts(merge(older, newer)) == facts(taken(rows))
    assert (encode(older), encode(newer)) == before, "neither is changed by it"


@given(devices_rows(), st.integers(0, 60))
def test_a_state_that_was_kept_goes_on_as_if_it_had_not_been(rows: list[Row], cut: int) -> None:
    kept = decode(DeviceState, encode(taken(rows[:cut])))
    assert kept is not None
    assert taken(rows[cut:], kept) == taken(rows)


def test_what_another_version_kept_is_not_taken_for_a_state() -> None:
    class Other(DeviceState, array_like=True, tag=99):
        """The same fields, of another form."""

    assert decode(DeviceState, encode(Other())) is None
    assert decode(DeviceState, b"\xff") is None
    assert decode(FleetRecord, b"\xff") is None


def test_what_was_kept_of_other_quantities_is_not_taken_for_a_state() -> None:
    state = DeviceState(values=(20.0,))
    form = form_of(QUANTITIES[:1])
    kept = encode(state, form)
    assert decode(DeviceState, kept, form) == state
    for others in ((), QUANTITIES, QUANTITIES[1:], [replace(QUANTITIES[0], type="float")]):
        assert decode(DeviceState, kept, form_of(others)) is None


def test_a_state_with_every_trouble_and_a_day_of_hours_is_small() -> None:
    state = DeviceState()
    for number in range(30_000):
        at = START_MS + number * 3_000
        delay = 70_000 if number % 3 else 40
        state.take_row(at - delay, at, (20.0 + number % 40, 50.0), LIMITS)
    state.take_row(START_MS + 10**8, START_MS + 9 * 10**7, (20.0, 50.0), LIMITS)
    assert len(state.hours) == 25
    assert len(encode(state)) <= 400


def beats(count: int, every_ms: int = 1_000, since: int = START_MS, delay: int = 40) -> list[Row]:
    return [
        (since + n * every_ms - delay, since + n * every_ms, 20 + n % 7 / 10, 50 + n % 5 / 10)
        for n in range(count)
    ]


def troubles(rows: list[Row], as_of_ms: int, well: list[Row] | None = None) -> set[Trouble]:
    """What is wrong with a device; six neighbours send `well`."""
    states = FleetStates(LIMITS)
    states.fold(RowGroups.of(groups_of(rows)))
    for number in range(6 if well else 0):
        states.fold(RowGroups.of(groups_of(well or [], f"b{number}")))
    states.settle(as_of_ms)
    found = states.fleet(as_of_ms).problems
    return {
        trouble
        for trouble, problems in found.items()
        if any(problem.device_id == "a" for problem in problems)
    }


def test_a_device_that_sends_bundles_is_well_between_them() -> None:
    rows: list[Row] = []
    for bundle in range(8):
        sent = START_MS + (bundle + 1) * 600_000
        rows += [(sent - 600_000 + n * 1_000, sent + n, 20 + n % 7 / 10, 50.0) for n in range(600)]
    after = rows[-1][1] + 590_000
    assert troubles(rows, after) == set()
    assert troubles(rows, after + 5 * 600_000) == {Trouble.SILENT}


def test_a_device_that_sleeps_is_well_while_it_does() -> None:
    rows = [row for hour in range(6) for row in beats(30, since=START_MS + hour * MS_PER_HOUR)]
    assert troubles(rows, rows[-1][1] + MS_PER_HOUR) == set()


def test_dropouts_that_come_again_and_again_are_not_sleep() -> None:
    rows = [row for turn in range(8) for row in beats(240, since=START_MS + turn * 600_000)]
    assert Trouble.SILENT in troubles(rows, rows[-1][1] + 61_000)


@pytest.mark.parametrize("years", [0.0001, 1, 40])
def test_a_clock_that_is_behind_is_a_clock_and_neither_late_nor_silent(years: float) -> None:
    rows = beats(60, delay=int(years * 365 * MS_PER_DAY))
    assert troubles(rows, rows[-1][1] + 1_000) == {Trouble.CLOCK}


def test_a_clock_that_is_ahead_lacks_no_readings() -> None:
    rows = [*beats(600), *beats(1_200, since=START_MS + 600_000, delay=-7_200_000)]
    rows += beats(1_800, since=START_MS + 1_800_000)
    ahead_until = START_MS + 1_800_000
    as_of_ms = ahead_until + WINDOW_MS - 2_000
    assert troubles(rows[:1_800], as_of_ms) == {Trouble.CLOCK, Trouble.SILENT}
    # The third of the hour that it measured under other times would be missed else.
    right = beats(3_600)
    assert troubles(rows, START_MS + MS_PER_HOUR, right) == set()
    left_out = [*right[:600], *right[1_800:]]
    assert troubles(left_out, START_MS + MS_PER_HOUR, right) == {Trouble.INCOMPLETE}


def test_history_that_was_sent_later_is_neither_late_nor_a_sign_of_life() -> None:
    month = [
        (START_MS - 30 * MS_PER_DAY + n * 300_000, START_MS + n, 20.0, 50.0) for n in range(500)
    ]
    assert troubles(month, START_MS + 10_000) == set()
    states = FleetStates(LIMITS)
    for row in month:
        states.fold(RowGroups.of(groups_of([row])))
    assert states.devices["a"].backfilled == 500
    assert states.fleet(START_MS).states == {}, "nobody expects it to report"


def second_of(devices: int, at: int) -> dict[tuple[str, int], RowsByTime]:
    day = at // MS_PER_DAY
    return {(f"d{n}", day): {at: (at * 1000, n, 0, 20.0, 50.0)} for n in range(devices)}


def test_up_to_ten_thousand_devices_every_reading_is_looked_at() -> None:
    states = FleetStates(LIMITS)
    for second in range(3):
        at = START_MS + second * 1_000
        states.fold(RowGroups.of(second_of(MANY, at)))
    assert states.rows == states.rows_seen == 3 * MANY


def test_beyond_that_suspects_are_looked_at_every_time_and_the_rest_is_counted() -> None:
    states = FleetStates(LIMITS, record=FleetRecord(suspects=["d29999"]))
    for second in range(3):
        at = START_MS + second * 1_000
        states.fold(RowGroups.of(second_of(30_000, at)))
    assert states.devices["d29999"].rows == 3
    assert 0 < states.rows_seen < states.rows == 90_000


def test_a_device_that_was_left_out_once_begins_anew_and_has_no_hole_in_its_counts() -> None:
    states = FleetStates(LIMITS)
    states.fold(RowGroups.of(second_of(9_000, START_MS)))
    states.fold(RowGroups.of(second_of(30_000, START_MS + 1_000)))
    seen_twice = [name for name, state in states.devices.items() if state.begin_ms == START_MS]
    assert 0 < len(seen_twice) < 9_000
    assert all(states.devices[name].rows == 2 for name in seen_twice)
