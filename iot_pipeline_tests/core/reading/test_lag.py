"""How far behind: offsets add up, seconds are those of the one furthest behind."""

from iot_pipeline.core.reading.lag import Held, measure_lag, total_lag
from iot_pipeline.core.reading.offsets import PartitionState


def state(partition: int, low: int, last_stable: int, checkpoint: int | None) -> PartitionState:
    return PartitionState("t", partition, low, last_stable, checkpoint)


def test_seconds_are_the_age_of_the_record_at_the_checkpoint() -> None:
    lag = measure_lag(state(0, 0, 10, 4), oldest_ms=7_500, now_ms=10_000)
    assert (lag.state.lag, lag.lag_seconds) == (6, 2.5)


def test_without_a_record_there_is_no_lag_in_seconds_though_holes_have_offsets() -> None:
    lag = measure_lag(state(0, 0, 10, 9), oldest_ms=None, now_ms=10_000)
    assert (lag.state.lag, lag.lag_seconds) == (1, 0.0)


def test_a_broker_whose_clock_is_ahead_makes_no_negative_lag() -> None:
    assert measure_lag(state(0, 0, 10, 4), 10_001, 10_000).lag_seconds == 0.0


def test_a_partition_never_ingested_lags_from_its_low_watermark() -> None:
    assert measure_lag(state(0, 3, 10, None), 0, 1_000).state.lag == 7


def test_a_total_adds_offsets_and_takes_the_longest_time() -> None:
    lags = [
        measure_lag(state(0, 0, 10, 4), 1_000, 3_000),
        measure_lag(state(1, 0, 5, 4), 2_000, 3_000),
        measure_lag(state(2, 0, 5, 5), None, 3_000),
    ]
    total = total_lag(lags)
    assert (total.lag_offsets, total.lag_seconds) == (7, 2.0)
    nothing = total_lag([])
    assert (nothing.lag_offsets, nothing.lag_seconds) == (0, 0.0)


def test_what_is_not_known_is_no_zero() -> None:
    unknown = measure_lag(state(0, 0, 10, 4), None, 3_000, "nobody answered")
    assert (unknown.lag_seconds, unknown.why_unknown) == (None, "nobody answered")
    total = total_lag([measure_lag(state(1, 0, 5, 4), 2_000, 3_000), unknown])
    assert (total.lag_offsets, total.lag_seconds, total.unknown) == (7, 1.0, "nobody answered")


def test_what_an_open_transaction_holds_back_is_told_apart_from_the_lag() -> None:
    lag = measure_lag(state(0, 0, 10, 10), None, 60_000, held=Held(25, 15_000))
    assert (lag.state.lag, lag.lag_seconds, lag.held_offsets, lag.held_seconds) == (0, 0, 15, 45)
    total = total_lag([lag, measure_lag(state(1, 0, 5, 5), None, 60_000, held=Held(5, None))])
    assert (total.held_offsets, total.behind_seconds) == (15, 45.0)
