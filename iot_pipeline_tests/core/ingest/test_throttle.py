"""The rate that a bucket keeps, and which of several limits holds."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ingest.throttle import (
    MICRO_BATCH_SECONDS,
    Bucket,
    Limit,
    SetLimit,
    choose_limit,
)

_EARLY = datetime(2026, 1, 1, tzinfo=UTC)
_LATE = _EARLY + timedelta(hours=1)
_ASKED, _KEPT = Limit(10), Limit(20)


@given(
    st.lists(st.tuples(st.integers(1, 300), st.floats(0, 0.2)), min_size=5, max_size=80),
    st.integers(100, 100_000),
)
def test_no_more_than_the_rate_leaves_however_it_is_asked(
    requests: list[tuple[int, float]], rate: int
) -> None:
    bucket, now, sent, last = Bucket(Limit(rows_per_second=rate)), 1000.0, 0, 0
    for rows, pause in requests:
        now += pause
        while not bucket.is_open(now):
            now += 0.01
        bucket.take(now, rows, rows * 100)
        sent, last = sent + rows, rows
    # What was lent last is paid for only then; and a quarter of a second may be made up for.
    assert sent - last <= rate * (now - 1000.0 + 0.25) * (1 + 1e-9)


def test_the_rate_is_reached_though_it_is_asked_in_steps() -> None:
    bucket, now, sent = Bucket(Limit(rows_per_second=5_000)), 0.0, 0
    while now < 10.0:
        while bucket.is_open(now):
            bucket.take(now, 300, 0)
            sent += 300
        now += 0.1
    assert sent == pytest.approx(50_000, rel=0.05)


def test_the_slower_of_rows_and_bytes_counts() -> None:
    limit = Limit(rows_per_second=100, bytes_per_second=1_000)
    assert limit.seconds_for(10, 100) == pytest.approx(0.1)
    assert limit.seconds_for(10, 5_000) == pytest.approx(5.0)


def test_a_micro_batch_takes_no_longer_to_write_than_a_run_may_need_to_end() -> None:
    assert Limit(1_000).most_records() == 1_000 * MICRO_BATCH_SECONDS
    assert Limit(0, 1).most_records() == 1


@pytest.mark.parametrize(
    ("asked", "kept", "holds"),
    [
        (None, None, Limit(5)),
        (SetLimit(_ASKED, _EARLY), None, _ASKED),
        (None, SetLimit(_KEPT, _EARLY), _KEPT),
        (SetLimit(_ASKED, _LATE), SetLimit(_KEPT, _EARLY), _ASKED),
        (SetLimit(_ASKED, _EARLY), SetLimit(_KEPT, _LATE), _KEPT),
        # `iot throttle off` is a word too.
        (SetLimit(_ASKED, _EARLY), SetLimit(Limit(), _LATE), Limit()),
    ],
)
def test_what_was_said_last_holds(
    asked: SetLimit | None, kept: SetLimit | None, holds: Limit
) -> None:
    assert choose_limit(Limit(5), asked, kept) == holds


def test_limits_are_said_in_words() -> None:
    assert str(Limit()) == "no limit"
    assert str(Limit(5_000)) == "5,000 rows/s"
    assert str(Limit(5_000, 200)) == "5,000 rows/s and 200 bytes/s"
