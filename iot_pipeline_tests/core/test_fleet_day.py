import pytest

from iot_pipeline.core.fleet_day import (
    HOUR_MS,
    SLOT_MS,
    Cell,
    Slot,
    choose_devices,
    completeness,
    last_hours,
    natural_key,
    order_cells,
    temperature_line,
)
from iot_pipeline.core.picture_budget import is_due

NOW = 500_000 * HOUR_MS + 30 * 60_000
HOURS = last_hours(NOW)


def cell(device, hour, cadence_seconds=10.0, counted_ms=NOW, first_ms=None, lost=0.0):
    """A cell of a device that reports regularly, of what there was when it was counted."""
    slots = []
    for number in range(6):
        start = hour * HOUR_MS + number * SLOT_MS
        begin, end = max(start, first_ms or 0), min(start + SLOT_MS, counted_ms)
        count = int((end - begin) / 1000 / cadence_seconds * (1 - lost))
        if count > 0:
            slots.append(Slot(start, count, 20.0 + number, begin))
    return Cell(device, hour, counted_ms, tuple(slots))


def board(*cells):
    return {(item.device_id, item.hour): item for item in cells}


def test_the_current_hour_comes_first_then_what_was_never_counted_then_the_oldest_count():
    known = board(
        cell("a", HOURS[-1]),
        cell("a", HOURS[0], counted_ms=NOW - 5000),
        cell("a", HOURS[1], counted_ms=NOW - 9000),
        cell("a", HOURS[-2], counted_ms=HOURS[-2] * HOUR_MS + 60_000),
    )
    order = order_cells(known, ["a"], NOW)
    assert len(order) == len(set(order)) == 24
    assert [hour for _, hour in order[:3]] == [HOURS[-1], HOURS[-2], HOURS[-3]]
    assert [hour for _, hour in order[-2:]] == [HOURS[1], HOURS[0]]


def test_devices_are_chosen_evenly_in_an_order_people_expect():
    names = [f"device_{number}" for number in range(100)]
    chosen = choose_devices(reversed(names), 10)
    assert chosen == names[::10]
    assert choose_devices(names[:3], 10) == names[:3]
    assert sorted(["b10", "b9", "a", "b"], key=natural_key) == ["a", "b", "b9", "b10"]


def test_a_device_that_reports_as_ever_is_complete_and_one_that_loses_half_is_half():
    known = board(
        *(
            cell(name, hour, lost=lost)
            for hour in HOURS
            for name, lost in (("well", 0.0), ("gaps", 0.5 if hour == HOURS[5] else 0.0))
        )
    )
    shares = completeness(known, ["well", "gaps"], {"well": 10.0, "gaps": 10.0}, NOW)
    assert min(shares["well"]) > 0.98
    assert shares["gaps"][5] == pytest.approx(0.5, abs=0.02)
    assert min(shares["gaps"][:5] + shares["gaps"][6:]) > 0.98


def test_an_hour_without_readings_is_none_received_and_before_the_first_nothing_is_due():
    begin = HOURS[3] * HOUR_MS + 20 * 60_000
    known = board(
        *(cell("d", hour, first_ms=begin, lost=1.0 if hour == HOURS[9] else 0.0) for hour in HOURS)
    )
    (row,) = completeness(known, ["d"], {"d": 10.0}, NOW).values()
    assert row[:3] == [None, None, None]
    assert row[3] > 0.98, "judged from its first reading on"
    assert row[9] == 0.0
    assert row[23] > 0.98, "judged up to now"


def test_what_was_not_counted_or_has_no_rhythm_is_not_judged():
    known = board(cell("d", HOURS[4]))
    assert completeness(known, ["d"], {"d": 10.0}, NOW)["d"][5] is None
    assert set(completeness(known, ["d"], {}, NOW)["d"]) == {None}


def test_a_device_that_reports_more_often_lately_was_not_incomplete_before():
    known = board(*(cell("d", hour, 60.0 if hour < HOURS[-1] else 1.0) for hour in HOURS))
    row = completeness(known, ["d"], {"d": 1.0}, NOW)["d"]
    assert min(row) > 0.95


def test_a_line_has_a_point_for_each_ten_minutes_and_none_where_nothing_is():
    line = temperature_line(board(cell("d", HOURS[-2])), "d", NOW)
    assert len(line) == 144
    assert [mean for _, mean in line[-12:-6]] == [20.0, 21.0, 22.0, 23.0, 24.0, 25.0]
    assert {mean for _, mean in line[:-12] + line[-6:]} == {None}
    assert line[-12][0] == HOURS[-2] * HOUR_MS + SLOT_MS // 2


@pytest.mark.parametrize(
    ("passed_seconds", "cost", "due"),
    [(59, 0.1, False), (61, 0.1, True), (119, 1.0, False), (121, 1.0, True), (-5, 1.0, True)],
)
def test_pictures_rest_a_minute_and_twice_as_many_minutes_as_they_took_seconds(
    passed_seconds, cost, due
):
    assert is_due(NOW - passed_seconds * 1000, cost, NOW) is due
    assert is_due(0, 0.0, NOW)
