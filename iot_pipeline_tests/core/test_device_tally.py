import random
import time

import pytest

from iot_pipeline.core.device_tally import (
    MOST_DEVICES,
    DeviceTally,
    FleetTally,
    QualityLimits,
    Spread,
    group_of,
)
from iot_pipeline.core.ingest import MicroBatch
from iot_pipeline.core.ledger import Counts
from iot_pipeline.core.readings import MS_PER_DAY

START_MS = 1_772_409_600_000


def batch_of(devices: int, rows_each: int, start_ms: int = START_MS, seed: int = 1) -> MicroBatch:
    """A clean micro-batch: readings a second apart, 100 ms on their way."""
    draw = random.Random(seed)
    groups = {}
    for number in range(devices):
        rows = {}
        for step in range(rows_each):
            ms = start_ms + step * 1000
            warm, damp = 20 + draw.random(), 45 + draw.random()
            rows[ms] = ((ms + 100) * 1000 + step, 0, step, round(warm, 2), round(damp, 2))
        groups[f"device_{number}", start_ms // MS_PER_DAY] = rows
    stored = devices * rows_each
    last_ms = start_ms + rows_each * 1000
    counts = {0: Counts(stored=stored, first_record_ms=start_ms, last_record_ms=last_ms)}
    return MicroBatch(groups, [], {0: 0}, {0: stored}, counts, [])


def test_a_clean_micro_batch_counts_its_rows_and_nothing_else() -> None:
    tally = FleetTally(QualityLimits())
    tally.observe(batch_of(5, 40), START_MS + 60_000)
    tally.observe(batch_of(5, 40, START_MS + 40_000), START_MS + 100_000)
    assert tally.rows == tally.rows_seen == 400
    for device in tally.devices.values():
        assert (device.rows, device.late, device.ahead, device.outside, device.jumps) == (
            80, 0, 0, 0, 0,
        )  # fmt: skip
        assert device.last_arrived_ms == START_MS + 79_100
    assert tally.delays.percentile(0.5) == tally.delays.largest == 100
    assert tally.ingested.largest == 60_000


def test_a_jump_between_two_micro_batches_is_seen() -> None:
    tally = FleetTally(QualityLimits())
    for step, warm in enumerate((20.0, 20.1, 33.0, 20.2)):
        rows = [(START_MS + step * 1000, START_MS + step * 1000 + 50, warm, 45.0)]
        tally.add_rows("d", rows)
    assert tally.devices["d"].jumps == 2
    jump = tally.devices["d"].worst_jump
    assert jump is not None
    assert (jump.before, jump.after, jump.measured_ms) == (20.1, 33.0, START_MS + 2000)


def test_equal_readings_are_counted_over_micro_batches_and_begin_anew_with_another() -> None:
    tally = FleetTally(QualityLimits())

    def send(first: int, values: list[float]) -> DeviceTally:
        tally.add_rows(
            "d",
            [(START_MS + first + n, START_MS + first + n, v, 45.0) for n, v in enumerate(values)],
        )
        return tally.devices["d"]

    assert send(0, [20.0, 21.0, 21.0]).unchanged == 2
    assert send(3, [21.0, 21.0]).unchanged == 4
    assert tally.devices["d"].unchanged_since_ms == START_MS + 1
    assert send(5, [21.0, 22.0]).unchanged == 1


def test_readings_late_by_more_than_a_day_are_backfilled_and_those_between_are_late() -> None:
    tally = FleetTally(QualityLimits())
    hour = 3_600_000
    for delay in (500, 61_000, hour, 25 * hour):
        tally.add_rows("d", [(START_MS + delay, START_MS + 2 * delay, 20.0, 45.0)])
    device = tally.devices["d"]
    assert (device.rows, device.late, device.backfilled) == (4, 2, 1)
    assert (device.late_least_ms, device.late_most_ms) == (61_000, hour)
    assert device.last_arrived_ms == START_MS + 2 * hour


@pytest.mark.parametrize(
    ("rows", "warm", "damp", "outside"),
    [
        (5, 0.0, 45.0, 0),  # 0.0 is a reading
        (5, -40.0, 100.0, 0),
        (5, -40.01, 45.0, 5),
        (5, 50.01, 0.5, 10),
    ],
)
def test_limits_are_inclusive(rows: int, warm: float, damp: float, outside: int) -> None:
    tally = FleetTally(QualityLimits())
    tally.add_rows("d", [(START_MS + n, START_MS + n, warm, damp) for n in range(rows)])
    assert tally.devices["d"].outside == outside


def test_with_many_devices_a_part_is_folded_and_another_part_the_next_time() -> None:
    tally = FleetTally(QualityLimits())
    batch = batch_of(5_000, 2)
    tally.observe(batch, START_MS)
    first = set(tally.devices)
    assert 500 < len(first) < 2_500
    for _ in range(10):
        tally.observe(batch, START_MS)
    assert len(tally.devices) == 5_000
    assert tally.rows_seen < tally.rows


def test_random_device_ids_do_not_become_memory() -> None:
    tally = FleetTally(QualityLimits())
    for number in range(MOST_DEVICES + 10):
        tally.add_rows(f"x{number}y", [(START_MS, START_MS, 20.0, 45.0)])
    assert len(tally.devices) == MOST_DEVICES
    assert len(tally.delays_by_group) <= 1_000
    assert len(tally.delays.values) <= 4_096


@pytest.mark.parametrize(("devices", "rows_each"), [(100, 500), (1_000, 50), (10_000, 5)])
def test_folding_costs_half_a_microsecond_per_row_at_most(devices: int, rows_each: int) -> None:
    batch = batch_of(devices, rows_each)
    tally = FleetTally(QualityLimits())
    best = float("inf")
    for _ in range(7):
        began = time.process_time()
        tally.observe(batch, START_MS)
        best = min(best, time.process_time() - began)
    # Twice the promise: this machine may be a slow one.
    assert best / (devices * rows_each) < 1e-6


def test_a_spread_keeps_its_percentiles_in_bounded_memory() -> None:
    spread = Spread()
    for start in range(0, 1_000_000, 1000):
        spread.extend(range(start, start + 1000), start + 999)
    assert len(spread.values) <= 4_096
    assert spread.percentile(0.5) == pytest.approx(500_000, rel=0.01)
    assert spread.percentile(0.95) == pytest.approx(950_000, rel=0.01)
    assert spread.largest == 999_999
    assert Spread().percentile(0.5) == 0


@pytest.mark.parametrize(
    ("device_id", "group"),
    [("kitchen_12", "kitchen"), ("device-3", "device"), ("42", "42"), ("a1b", "a1b"), ("x9", "x")],
)
def test_a_group_is_the_name_without_its_number(device_id: str, group: str) -> None:
    assert group_of(device_id) == group
