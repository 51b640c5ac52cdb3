"""Percentiles of durations, kept in bounded memory."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ingest.latency import Latencies

_SECONDS = st.floats(min_value=1e-5, max_value=1e5)


@given(st.lists(_SECONDS, min_size=1, max_size=200), st.floats(min_value=0.01, max_value=1.0))
def test_a_percentile_is_within_half_a_percent_of_the_sample_of_that_rank(
    seconds: list[float], share: float
) -> None:
    rank = max(1, math.ceil(share * len(seconds)))
    assert Latencies.of(seconds).percentile_seconds(share) == pytest.approx(
        sorted(seconds)[rank - 1], rel=0.0051
    )


@given(st.lists(_SECONDS), st.lists(_SECONDS))
def test_merging_is_measuring_both(first: list[float], second: list[float]) -> None:
    merged = Latencies.of(first)
    merged.merge(Latencies.of(second))
    assert merged == Latencies.of([*first, *second])


def test_the_highest_is_exact_and_a_clock_that_runs_ahead_gives_no_negative_time() -> None:
    latencies = Latencies.of([0.0123, -0.5])
    assert latencies.percentile_seconds(1) == 0.0123
    assert 0 <= latencies.percentile_seconds(0.5) < 1e-5


def test_nothing_measured_has_no_percentile_that_could_be_taken_for_zero() -> None:
    assert Latencies().numbers() == {"latency_samples": 0}
    assert "not measured" in str(Latencies())


def test_memory_is_bounded_however_many_are_added() -> None:
    latencies = Latencies.of(number / 1000 for number in range(1, 20_000))
    assert latencies.samples == 19_999
    assert len(latencies._buckets) < 1100
