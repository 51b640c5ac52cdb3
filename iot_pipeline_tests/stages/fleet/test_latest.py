"""The newest reading of each device by its own clock, however late it or others came."""

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.stages.fleet.latest import newest_readings
from iot_pipeline_tests.stages.fake_rows import FakeDeviceDays, FakeSensorData

NOW = 20_000 * MS_PER_DAY + 3_600_000
LIMITS = QualityLimits(QUANTITIES)


def _newest(rows: FakeSensorData, *devices: str, days_back: int = 7) -> dict[str, int]:
    days = FakeDeviceDays(rows.store)
    found = list(newest_readings(rows, days, LIMITS, NOW, days_back, devices))
    names = [item.device_id for item in found]
    assert len(names) == len(set(names))
    assert devices or names == sorted(names)
    return {item.device_id: item.measured_ms for item in found}


@given(
    st.dictionaries(
        st.sampled_from("abcde"),
        st.lists(st.integers(-5 * MS_PER_DAY, 0), min_size=1, max_size=8),
        min_size=1,
    )
)
def test_it_is_the_greatest_time_in_whatever_order_they_came(told: dict[str, list[int]]) -> None:
    rows = FakeSensorData()
    for name, ages in told.items():
        for age in ages:
            rows.add(name, [NOW + age])
    assert _newest(rows) == {name: NOW + max(ages) for name, ages in told.items()}


def test_a_reading_of_a_clock_that_is_ahead_is_passed_over() -> None:
    rows = FakeSensorData()
    rows.add("d", [NOW - MS_PER_DAY, NOW + 5 * MS_PER_DAY, NOW + 2 * round(LIMITS.ahead_ms)])
    assert _newest(rows) == {"d": NOW - MS_PER_DAY}


def test_a_day_in_the_index_whose_rows_have_gone_is_no_answer() -> None:
    rows = FakeSensorData()
    rows.add("d", [NOW - 2 * MS_PER_DAY])
    rows.store.send_devices(NOW // MS_PER_DAY, {"d": NOW})
    rows.store.send_devices(NOW // MS_PER_DAY, {"nothing": NOW})
    assert _newest(rows) == {"d": NOW - 2 * MS_PER_DAY}


def test_only_the_days_and_devices_asked_for_are_looked_at() -> None:
    rows = FakeSensorData()
    rows.add("old", [NOW - 9 * MS_PER_DAY])
    rows.add("b", [NOW - 5])
    rows.add("a", [NOW - 7])
    assert _newest(rows) == {"a": NOW - 7, "b": NOW - 5}
    assert _newest(rows, "b", "unheard") == {"b": NOW - 5}
    # One question a device: its newest day has a row.
    rows.asked.clear()
    _newest(rows)
    assert rows.asked == {"range": 2}
