import math
from datetime import UTC, date, datetime, timedelta

from iot_pipeline.core.fleet.series import Series, thin
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.spans import day_span
from iot_pipeline.core.times import Window

DAY = date(2026, 11, 22)
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
MIDNIGHT_MS = round(MIDNIGHT.timestamp() * 1000)
DAY_MS = 86_400_000


def test_a_day_is_from_its_first_to_its_last_millisecond():
    span = day_span("d", DAY)
    assert (span.first_ms, span.last_ms) == (MIDNIGHT_MS, MIDNIGHT_MS + DAY_MS - 1)
    assert span.day_number * DAY_MS == MIDNIGHT_MS


def test_a_window_cuts_both_ends_and_its_own_end_is_outside():
    window = Window(MIDNIGHT + timedelta(hours=1), MIDNIGHT + timedelta(hours=2))
    span = day_span("d", DAY, window)
    assert (span.first_ms, span.last_ms) == (MIDNIGHT_MS + 3_600_000, MIDNIGHT_MS + 7_200_000 - 1)
    half = Window(MIDNIGHT + timedelta(microseconds=500), MIDNIGHT + timedelta(microseconds=1500))
    span = day_span("d", DAY, half)
    assert (span.first_ms, span.last_ms) == (MIDNIGHT_MS + 1, MIDNIGHT_MS + 1)


def test_an_open_window_takes_the_whole_day():
    window = Window(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    assert day_span("d", DAY, window) == day_span("d", DAY)


def series_of(times_ms):
    series = Series.of("d", len(QUANTITIES))
    series.extend((ms, float(ms % 7), 50.0) for ms in times_ms)
    return series


def test_a_thinned_line_keeps_its_mean_and_is_short():
    whole = series_of(range(0, 10_000_000, 1000))
    thinned = thin(whole, 100)
    assert len(thinned) <= 101
    assert math.isclose(
        sum(thinned.values[0]) / len(thinned), sum(whole.values[0]) / len(whole), rel_tol=0.01
    )
    assert whole.times_ms[0] <= thinned.times_ms[0] < thinned.times_ms[-1] <= whole.times_ms[-1]


def test_no_line_is_drawn_over_silence():
    there = [*range(0, 600_000, 1000), *range(3_000_000, 3_600_000, 1000)]
    thinned = thin(series_of(there))
    (hole,) = [
        ms
        for ms, value in zip(thinned.times_ms, thinned.values[0], strict=True)
        if math.isnan(value)
    ]
    assert 600_000 < hole < 3_000_000
    steady = thin(series_of(range(0, 600_000, 1000)))
    assert not any(math.isnan(value) for value in steady.values[0])
    assert len(thin(series_of([5]))) == 1
    assert len(thin(Series.of("d", len(QUANTITIES)))) == 0
