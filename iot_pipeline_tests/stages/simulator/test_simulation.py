import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.simulator.simulation import plan_simulation
from iot_pipeline.errors import KafkaUnavailableError
from iot_pipeline.stages.simulator.simulation import (
    PROGRESS_SECONDS,
    STOP_SECONDS,
    SimulationResult,
    simulate,
)
from iot_pipeline_tests.stages.fakes_simulation import (
    FakeClock,
    FakeSender,
    RefusingSender,
    SilentSender,
)

NOW = 1_735_444_918.316686


def run(plan, sender=None, clock=None, **options):
    clock = clock or FakeClock()
    sender = sender or FakeSender(clock)
    result = simulate(sender, plan, clock=clock, sleep=clock.sleep, now=lambda: NOW, **options)
    return result, sender, clock


def stop_at(clock, seconds):
    at = clock() + seconds
    return lambda: clock() >= at


@given(
    count=st.integers(1, 5_000),
    room=st.integers(1, 3_000),
    rate=st.sampled_from(["max", 400.0, 7_777.0]),
)
def test_every_message_is_sent_once_in_order_whatever_room_there_is(count, room, rate):
    plan = plan_simulation(devices=30, rate=rate, count=count)
    clock = FakeClock()
    result, sender, _ = run(plan, FakeSender(clock, room), clock)
    assert sender.taken == plan.fleet(round(NOW * 1e6)).messages(0, count)
    assert (result.produced, result.acknowledged, result.failed) == (count, count, 0)
    assert not result.is_stopped


def test_the_average_rate_is_the_one_asked_for():
    result, _, _ = run(plan_simulation(devices=50, rate=1_000, duration_seconds=10))
    assert result.produced == 10_000
    assert result.seconds == pytest.approx(10, rel=0.01)
    assert result.rate == pytest.approx(1_000, rel=0.01)


def test_the_last_message_has_its_share_of_the_time():
    result, _, _ = run(plan_simulation(devices=3, rate=1, count=5))
    assert result.seconds == pytest.approx(5, rel=0.01)


def test_a_paced_fleet_sends_without_bursts():
    _, sender, clock = run(plan_simulation(devices=50, rate=10_000, duration_seconds=4))
    began = clock() - 4
    for second in range(4):
        sent = sum(began + second <= at < began + second + 1 for at in sender.taken_at)
        assert sent == pytest.approx(10_000, rel=0.02)


def test_a_slow_fleet_rests_instead_of_spinning():
    _, _, clock = run(plan_simulation(devices=3, rate=1, count=3))
    assert len(clock.sleeps) < 60
    assert max(clock.sleeps) <= 0.1


def test_rate_max_ends_after_its_duration():
    result, _, _ = run(plan_simulation(devices=50, rate="max", duration_seconds=0.5))
    assert result.seconds == pytest.approx(0.5, abs=0.01)
    assert result.produced > 50_000
    assert result.acknowledged == result.produced


@pytest.mark.parametrize("rate", [0.1, 1_000])
def test_stopping_ends_a_paced_fleet_within_a_fifth_of_a_second(rate):
    clock = FakeClock()
    plan = plan_simulation(devices=10, rate=rate)
    result, sender, _ = run(plan, clock=clock, should_stop=stop_at(clock, 3.0))
    assert result.is_stopped
    assert 3.0 <= result.seconds <= 3.2
    assert result.produced == result.acknowledged == sender.sent
    assert result.produced == pytest.approx(3 * rate, abs=1 + rate * 0.01)


def test_stopping_ends_a_fleet_at_rate_max_at_once():
    clock = FakeClock()
    plan = plan_simulation(devices=10, rate="max", count=10**9)
    result, _, _ = run(plan, clock=clock, should_stop=stop_at(clock, 1.0))
    assert result.is_stopped
    assert result.seconds <= 1.2


@pytest.mark.parametrize("rate", ["max", 1_000.0])
def test_a_silent_broker_holds_a_stopped_fleet_for_a_bounded_time(rate):
    clock = FakeClock()
    plan = plan_simulation(devices=10, rate=rate, count=10**6)
    sender = SilentSender(clock, room=500)
    result, _, _ = run(plan, sender, clock, should_stop=stop_at(clock, 1.0))
    assert result.seconds <= 1.0 + STOP_SECONDS + 0.3
    assert (result.produced, result.acknowledged, result.unconfirmed) == (500, 0, 500)


class Interrupt(BaseException):
    """Stands for KeyboardInterrupt and DagsterExecutionInterruptedError."""


@pytest.mark.parametrize("interrupted_in", ["sleep", "send"])
def test_an_interrupt_passes_through_and_leaves_the_true_count(interrupted_in):
    clock, told, result = FakeClock(), [], SimulationResult()
    sender = FakeSender(clock)
    take = sender.send

    def interrupting_send(messages):
        taken = take(messages)
        if sender.sent > 500:
            raise Interrupt
        return taken

    def interrupting_sleep(seconds):
        clock.sleep(seconds)
        if sender.sent > 500:
            raise Interrupt

    if interrupted_in == "send":
        sender.send = interrupting_send
    sleep = interrupting_sleep if interrupted_in == "sleep" else clock.sleep
    plan = plan_simulation(devices=10, rate=1_000)
    with pytest.raises(Interrupt):
        simulate(
            sender,
            plan,
            clock=clock,
            sleep=sleep,
            now=lambda: NOW,
            on_progress=lambda r: told.append(r.acknowledged),
            result=result,
        )
    assert result.produced == result.acknowledged == sender.sent > 500
    assert told[-1] == sender.sent


def test_a_second_interrupt_ends_the_waiting_and_not_the_counting():
    clock, result = FakeClock(), SimulationResult()
    sender = SilentSender(clock)

    def interrupting(_seconds):
        raise Interrupt

    sender.flush = interrupting
    plan = plan_simulation(devices=10, rate=1_000)
    with pytest.raises(Interrupt):
        simulate(sender, plan, clock=clock, sleep=interrupting, now=lambda: NOW, result=result)
    assert result.produced == result.unconfirmed == sender.sent > 0


def test_a_refused_delivery_ends_the_run_with_its_error_and_the_true_count():
    result = SimulationResult()
    sender = RefusingSender(KafkaUnavailableError("away"))
    with pytest.raises(KafkaUnavailableError, match="away"):
        run(plan_simulation(devices=3, rate=10, count=100), sender, result=result)
    assert result.failed == 1
    assert result.produced == sender.sent == result.acknowledged + 1


def test_progress_is_told_about_four_times_a_second_and_at_the_end():
    told = []
    plan = plan_simulation(devices=10, rate=1_000, duration_seconds=5)
    run(plan, on_progress=lambda r: told.append(r.produced))
    assert len(told) == pytest.approx(5 / PROGRESS_SECONDS, abs=2)
    assert told == sorted(told)
    assert told[-1] == 5_000


def test_the_result_names_the_event_time_it_began_with():
    plan = plan_simulation(devices=3, rate=10, count=10)
    result, _, _ = run(plan)
    assert result.start_us == round(NOW * 1e6)
