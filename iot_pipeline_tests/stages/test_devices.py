"""Looking at devices over a fake table: which are found, and that questions are bounded."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest

from iot_pipeline.core.quality_limits import QualityLimits
from iot_pipeline.core.read_back import Place
from iot_pipeline.core.readings import MS_PER_DAY
from iot_pipeline.errors import CassandraUnavailableError
from iot_pipeline.stages.devices import find_devices, look_at, read_devices
from iot_pipeline_tests.stages.fake_rows import FakeRowReader
from iot_pipeline_tests.stages.fakes import FakeStore

NOW = datetime(2026, 11, 22, 0, 10, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)


@dataclass
class Counted:
    rows: int
    done: bool = True
    error: None = None


class FakeDays:
    """Which devices have rows on which day; `extra` are places whose rows were deleted."""

    def __init__(self, store: FakeStore, extra: set[Place]) -> None:
        self.store, self.extra, self.counted = store, extra, 0

    def devices(self, day: date) -> list[str]:
        number = (day - date(1970, 1, 1)).days
        there = {(name, at) for name, at, _ in self.store.cells} | self.extra
        return [name for name, at in there if at == number]

    def send_count(self, device_id: str, day: date) -> Counted:
        self.counted += 1
        number = (day - date(1970, 1, 1)).days
        return Counted(sum(key[:2] == (device_id, number) for key in self.store.cells))


def table(devices):
    store = FakeStore()
    for name, (age_seconds, cadence_ms) in devices.items():
        for number in range(40):
            ms = NOW_MS - age_seconds * 1000 - number * cadence_ms
            cells = {"temperature": (ms * 1000 + 5000, 21.5), "humidity": (ms * 1000 + 5000, 40.0)}
            store.cells[name, ms // MS_PER_DAY, ms] = cells
    return store


def look(devices, extra=(), **options):
    store = table(devices)
    days, rows = FakeDays(store, set(extra)), FakeRowReader(store)
    return (
        {d.device_id: d for d in read_devices(days, rows, NOW, QualityLimits(), **options)},
        days,
        rows,
    )


def test_devices_of_the_last_days_are_found_with_their_newest_reading_and_rhythm():
    found, _, rows = look({"now": (1, 1000), "yesterday": (3600, 60_000), "ahead": (-90, 1000)})
    assert list(found) == ["ahead", "now", "yesterday"]
    assert found["now"].newest.timestamp_ms == NOW_MS - 1000
    assert (found["now"].newest.temperature, found["now"].newest.humidity) == (21.5, 40.0)
    assert found["now"].newest.arrived_ms == NOW_MS - 1000 + 5
    assert [device.cadence_seconds for device in found.values()] == [1.0, 1.0, 60.0]
    assert found["yesterday"].silent_since == NOW - timedelta(hours=1, milliseconds=-5)
    assert not found["now"].is_silent
    assert rows.ranges == 3, "one question each"


def test_todays_count_is_of_the_utc_day_and_left_out_when_nobody_asks():
    found, days, _ = look({"now": (1, 60_000), "yesterday": (3600, 1000)})
    assert found["now"].count_today == 10, "the tenth reading is ten minutes old, of 00:00"
    assert found["yesterday"].count_today == 0
    assert days.counted == 1
    found, days, _ = look({"now": (1, 60_000)}, is_counted=False)
    assert (found["now"].count_today, days.counted) == (None, 0)


def test_days_further_back_are_not_looked_at():
    week = 7 * 86_400
    assert list(look({"old": (week, 1000), "new": (1, 1000)})[0]) == ["new"]
    assert list(look({"old": (week, 1000)}, look_back_days=8)[0]) == ["old"]


def test_a_device_whose_newest_day_was_deleted_is_found_on_the_day_before():
    today = NOW_MS // MS_PER_DAY
    devices = {"d": (86_400, 1000)}
    found, _, rows = look(devices, {("d", today), ("gone", today)})
    assert list(found) == ["d"]
    assert found["d"].newest.timestamp_ms == NOW_MS - 86_400_000
    assert rows.ranges == 3


def test_a_rhythm_is_learned_across_midnight():
    # 00:10 now; two readings of today, the others of yesterday.
    found, days, rows = look({"d": (240, 300_000)})
    assert found["d"].cadence_seconds == 300.0
    assert (found["d"].count_today, days.counted) == (2, 1)
    assert rows.ranges == 2


def test_silence_is_measured_until_where_ingestion_has_come():
    store = table({"d": (100, 1000)})
    days, rows = FakeDays(store, set()), FakeRowReader(store)
    known = find_devices(days, NOW, 7)
    for lag_seconds, is_silent in ((0, True), (50, False)):
        as_of = NOW - timedelta(seconds=lag_seconds)
        (device,) = look_at(days, rows, known, NOW, as_of, QualityLimits())
        assert device.is_silent is is_silent


def test_progress_ends_with_all_of_them_and_an_error_is_raised():
    seen = []
    look({f"d{n}": (1, 1000) for n in range(50)}, on_progress=lambda p: seen.append(p.done))
    assert seen == list(range(1, 51))
    store = table({"d": (1, 1000)})
    rows = FakeRowReader(store, [CassandraUnavailableError("away")])
    with pytest.raises(CassandraUnavailableError):
        read_devices(FakeDays(store, set()), rows, NOW, QualityLimits())
