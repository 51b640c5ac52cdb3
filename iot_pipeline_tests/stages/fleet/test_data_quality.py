"""Each fault turns the check made for it, and names the device; a clean fleet turns none."""

import random

import pytest

from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.reading.groups import DeviceGroup
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline_tests.stages.fakes_quality import (
    HOUR,
    MINUTE,
    START_MS,
    Lapse,
    Sent,
    TimeLapse,
    red,
)

BAD = "room_3"


def only_bad(change):
    return lambda name, reading: change(reading) if name == BAD else [reading]


def between(reading: Sent, first_minute: float, last_minute: float) -> bool:
    return first_minute * MINUTE <= reading[1] - START_MS < last_minute * MINUTE


@pytest.mark.parametrize("seed", range(3))
def test_a_clean_fleet_raises_no_alarm_in_a_week(seed: int) -> None:
    table = Lapse(devices=6, hours=7 * 24, interval_ms=2 * MINUTE, seed=seed).table()
    draw = random.Random(seed)
    for _ in range(40):
        at = START_MS + draw.randrange(1, 7 * 24 * 60) * MINUTE
        assert red(table.look(at)) == {}, at
    assert (
        table.look(START_MS + 6 * 24 * HOUR)["readings_are_complete"].numbers["device_hours"] >= 6
    )


def test_a_device_that_dropped_out_is_silent_since_then_and_its_hours_are_incomplete() -> None:
    lapse = Lapse(change=only_bad(lambda r: [] if between(r, 100, 125) else [r]))
    table = lapse.table()
    during = table.look(START_MS + 115 * MINUTE)
    assert red(during)["devices_are_reporting"] == {BAD}
    assert during["devices_are_reporting"].worst.rows[0][1].startswith("2026-03-02 01:39:5")
    after = table.look(START_MS + 150 * MINUTE)
    assert red(after) == {"readings_are_complete": {BAD}}
    worst = after["readings_are_complete"].worst.rows
    assert {row[:2] for row in worst} == {(BAD, "2026-03-02 01:00")}
    assert 120 <= after["readings_are_complete"].numbers["readings_missing"] <= 155


def test_a_table_says_which_groups_limits_found_a_device() -> None:
    table = Lapse(change=lambda _, reading: [] if between(reading, 100, 125) else [reading]).table()
    of_group = [DeviceGroup("mine", (BAD,), (("silent_seconds", 600),))]
    patient = QualityLimits(QUANTITIES, silent_seconds=6_000)
    verdict = table.look(START_MS + 115 * MINUTE, patient.with_groups(of_group))[
        "devices_are_reporting"
    ]
    assert verdict.worst.columns[-1] == "limits of the group"
    assert [(row[0], row[-1]) for row in verdict.worst.rows] == [(BAD, "mine")]
    assert "usually one every 10 s (limits of the group mine)" in verdict.sentence
    assert "Groups of devices have limits of their own (`iot reading show`)." in verdict.sentence
    every = table.look(START_MS + 115 * MINUTE)["devices_are_reporting"]
    assert "group" not in f"{every.sentence} {every.worst.columns}"


def test_a_stuck_sensor_is_named_with_the_value_it_repeats() -> None:
    held: list[Sent] = []

    def change(reading: Sent) -> list[Sent]:
        if not between(reading, 30, 90):
            return [reading]
        held.append(reading)
        return [(*reading[:3], *held[0][3:])]

    table = Lapse(change=only_bad(change)).table()
    assert red(table.look(START_MS + 29 * MINUTE)) == {}
    found = table.look(START_MS + 50 * MINUTE)
    assert red(found) == {"no_stuck_sensors": {BAD}}
    sentence = found["no_stuck_sensors"].sentence
    assert f"{held[0][3]:g} °C and {held[0][4]:g} %" in sentence
    assert found["no_stuck_sensors"].worst.rows[0][3].startswith("2026-03-02 00:30:0")
    assert red(table.look(START_MS + 95 * MINUTE)) == {}


def test_a_fast_sensor_that_is_stuck_is_found_although_few_seconds_of_it_are_read() -> None:
    def change(reading: Sent) -> list[Sent]:
        return [(*reading[:3], 20.5, 44.0)] if reading[1] > START_MS + MINUTE else [reading]

    lapse = Lapse(devices=3, hours=0.1, interval_ms=50, change=only_bad(change), prefix="room")
    lapse.devices = 4
    found = lapse.table().look(lapse.end_ms)
    assert red(found) == {"no_stuck_sensors": {BAD}}


def test_a_spike_is_implausible() -> None:
    def change(reading: Sent) -> list[Sent]:
        is_hit = between(reading, 50, 50.17)
        return [(*reading[:3], reading[3] + 15, reading[4])] if is_hit else [reading]

    table = Lapse(change=only_bad(change)).table()
    found = table.look(START_MS + 55 * MINUTE)
    assert red(found) == {"values_are_plausible": {BAD}}
    assert found["values_are_plausible"].numbers["jumps"] == 2
    assert "jumped from" in found["values_are_plausible"].sentence


def test_a_slow_drift_is_implausible_once_the_device_differs_from_its_neighbours() -> None:
    def change(reading: Sent) -> list[Sent]:
        off = max(0.0, (reading[1] - START_MS - HOUR) / HOUR * 15)
        return [(*reading[:3], round(reading[3] + off, 2), reading[4])]

    table = Lapse(change=only_bad(change)).table()
    assert red(table.look(START_MS + 70 * MINUTE)) == {}
    found = table.look(START_MS + 150 * MINUTE)
    assert red(found) == {"values_are_plausible": {BAD}}
    assert "where its group says" in found["values_are_plausible"].sentence


@pytest.mark.parametrize(("minutes", "word"), [(5, "ahead"), (-5, "behind"), (200, "ahead")])
def test_a_wrong_clock_is_neither_late_nor_silent(minutes: int, word: str) -> None:
    def change(reading: Sent) -> list[Sent]:
        name, at, arrived, warm, damp = reading
        return [(name, at + minutes * MINUTE, arrived, warm, damp)]

    table = Lapse(change=only_bad(change)).table()
    found = table.look(START_MS + 150 * MINUTE)
    assert red(found) == {"clocks_are_right": {BAD}}
    off = "3.3 h" if minutes == 200 else "5 min"
    assert f"{BAD}: its clock is {off} {word}" in found["clocks_are_right"].sentence


def test_a_clock_that_was_set_right_again_does_not_look_silent() -> None:
    def change(reading: Sent) -> list[Sent]:
        name, at, arrived, warm, damp = reading
        skew = HOUR if between(reading, 30, 60) else 0
        return [(name, at + skew, arrived, warm, damp)]

    found = Lapse(change=only_bad(change)).table().look(START_MS + 80 * MINUTE)
    assert "devices_are_reporting" not in red(found)


def test_late_readings_are_told_by_group() -> None:
    draw = random.Random(7)

    def change(name: str, reading: Sent) -> list[Sent]:
        _, at, arrived, warm, damp = reading
        is_hit = name.startswith("roof") and draw.random() < 0.4
        return [(name, at, arrived + is_hit * draw.randrange(120_000, 600_000), warm, damp)]

    roof = Lapse(prefix="roof", change=change, devices=3)
    table = TimeLapse([*roof.sent(), *Lapse().sent()])
    found = table.look(START_MS + 150 * MINUTE)
    assert red(found) == {"readings_are_on_time": {"roof_0", "roof_1", "roof_2"}}
    verdict = found["readings_are_on_time"]
    assert "roof (3 devices" in verdict.sentence
    assert verdict.numbers["event_to_broker_max_seconds"] > 120
    assert verdict.numbers["event_to_broker_p50_seconds"] < 1


def test_duplicates_and_what_comes_out_of_order_turn_nothing() -> None:
    def change(reading: Sent) -> list[Sent]:
        name, at, arrived, warm, damp = reading
        return [reading, (name, at, arrived + 50, warm, damp)]

    assert red(Lapse(change=only_bad(change)).table().look(START_MS + 150 * MINUTE)) == {}


def test_right_after_the_start_there_is_not_enough_history_and_all_is_green() -> None:
    table = Lapse(interval_ms=1000, hours=0.2).table()
    assert all(v.passed for v in TimeLapse([]).look(START_MS).values())
    for seconds in (1, 3, 5, 10, 30, 61, 90, 300):
        found = table.look(START_MS + seconds * 1000)
        assert red(found) == {}, seconds
    assert "Not enough history" in table.look(START_MS + 2000)["devices_are_reporting"].sentence
    assert "Not enough history" in table.look(START_MS + 30_000)["readings_are_complete"].sentence


def test_a_fleet_that_was_switched_off_and_on_again_lost_nothing() -> None:
    def change(name: str, reading: Sent) -> list[Sent]:
        return [] if between(reading, 66.4, 131.7) else [reading]

    table = Lapse(interval_ms=1000, hours=2.5, change=change).table()
    all_silent = table.look(START_MS + 90 * MINUTE)
    assert len(red(all_silent)["devices_are_reporting"]) == 8
    assert "All of them at once" in all_silent["devices_are_reporting"].sentence
    for minute in (132, 133, 135, 140, 149):
        assert red(table.look(START_MS + minute * MINUTE)) == {}, minute


def test_a_part_of_the_fleet_that_paused_is_not_taken_for_all_of_it() -> None:
    def change(name: str, reading: Sent) -> list[Sent]:
        return [] if between(reading, 66, 90) and name != "room_0" else [reading]

    found = Lapse(change=change).table().look(START_MS + 110 * MINUTE)
    assert red(found) == {"readings_are_complete": {f"room_{n}" for n in range(1, 8)}}


def test_what_was_backfilled_is_neither_late_nor_expected_to_go_on() -> None:
    def change(name: str, reading: Sent) -> list[Sent]:
        return [(name, reading[1], START_MS + 40 * HOUR + reading[1] % 9000, *reading[3:])]

    table = Lapse(change=change).table()
    found = table.look(START_MS + 40 * HOUR + 10_000)
    assert red(found) == {}
    assert "backfilled, not late" in found["readings_are_on_time"].sentence
    assert red(table.look(START_MS + 41 * HOUR)) == {}


def test_silence_is_measured_until_where_ingestion_has_come() -> None:
    table = Lapse(interval_ms=1000, hours=0.5).table()
    later = START_MS + 40 * MINUTE
    assert "devices_are_reporting" in red(table.look(later))
    assert red(table.look(later, lag_seconds=601)) == {}


def test_a_device_that_was_silent_for_a_week_is_not_expected_any_more() -> None:
    limits = QualityLimits(QUANTITIES, expected_days=2)
    lapse = Lapse(change=only_bad(lambda r: [] if r[1] > START_MS + HOUR else [r]), hours=72)
    lapse.interval_ms = MINUTE
    table = lapse.table()
    assert red(table.look(START_MS + 24 * HOUR, limits))["devices_are_reporting"] == {BAD}
    assert red(table.look(START_MS + 71 * HOUR, limits)) == {}


def test_a_fleet_too_large_for_the_time_says_how_many_were_not_looked_at() -> None:
    lapse = Lapse(devices=300, hours=0.5, interval_ms=30_000)
    table = lapse.table()
    ticks = iter(range(1_000_000))
    found = table.look(lapse.end_ms, budget_seconds=40.0, clock=lambda: next(ticks) / 2)
    verdict = found["devices_are_reporting"]
    looked_at = verdict.numbers["devices_looked_at"]
    assert verdict.numbers["devices"] == 300
    assert 0 < looked_at < 150
    assert f"Not looked at this time: {300 - looked_at} of 300 devices." in verdict.sentence
    assert table.questions < 700
