import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.simulator.pacing import CATCH_UP, LONGEST_PAUSE_SECONDS, TICK_SECONDS, Pacer


def run_pacer(rate, seconds, wake_late=lambda _now: 0.0):
    """Instants at which messages leave, when every pause ends `wake_late(now)` too late.

    Message i is of event time i / 50, so that event time passes at a fiftieth of the rate.
    """
    pacer, now, sent, left_at = Pacer(rate / 50), 0.0, 0, []
    while now < seconds:
        due = math.floor(pacer.due(now) * 50 + 1e-6) + 1 - sent
        sent += due
        left_at += [now] * due
        pause = pacer.pause_seconds(now, sent / 50)
        assert 0 <= pause <= LONGEST_PAUSE_SECONDS
        now += max(pause, 1e-6) + wake_late(now)
    return left_at


def per_second(left_at, seconds):
    counts = [0] * seconds
    for instant in left_at:
        counts[int(instant)] += 1
    return counts


@pytest.mark.parametrize("rate", [50, 333, 10_000, 123_456])
def test_no_second_is_outside_two_percent(rate):
    for count in per_second(run_pacer(rate, 5), 5):
        assert count == pytest.approx(rate, rel=0.02)


@given(
    rate=st.floats(min_value=5, max_value=20_000),
    lateness=st.lists(st.floats(min_value=0, max_value=0.004), min_size=1, max_size=30),
)
def test_late_wake_ups_do_not_add_up(rate, lateness):
    left_at = run_pacer(rate, 4.0, lambda now: lateness[int(now * 1000) % len(lateness)])
    assert len(left_at) == pytest.approx(rate * 4, rel=0.01, abs=1 + rate * 0.01)


@given(rate=st.floats(min_value=0.5, max_value=5_000))
def test_no_message_leaves_before_it_is_due(rate):
    for number, instant in enumerate(run_pacer(rate, 2.0)):
        assert instant >= number / rate - 1e-6


def test_nothing_leaves_in_a_burst():
    left_at = run_pacer(10_000, 3)
    for instant in set(left_at):
        assert left_at.count(instant) <= 10_000 * TICK_SECONDS * CATCH_UP + 1


def test_a_stall_is_caught_up_smoothly_and_completely():
    stalled = []

    def one_stall_of_a_second(now):
        if now >= 1.0 and not stalled:
            stalled.append(now)
            return 1.0
        return 0.0

    left_at = run_pacer(1_000, 8, one_stall_of_a_second)
    seconds = per_second(left_at, 8)
    # Rounding up may add a message per tick, and the first look 0.05 s worth.
    assert max(seconds) <= 1_000 * CATCH_UP + 1 / TICK_SECONDS + 75
    assert len(left_at) == pytest.approx(8_000, rel=0.01)
    assert seconds[-1] == pytest.approx(1_000, rel=0.02)


def test_a_slow_rate_sends_one_message_at_a_time_when_it_is_due():
    left_at = run_pacer(1, 4.9)
    assert left_at == pytest.approx([0, 1, 2, 3, 4], abs=0.01)
