from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import ReadingRules, Rejection
from iot_pipeline.core.simulator.fault_specs import FaultKind
from iot_pipeline.core.simulator.manifest import Manifest
from iot_pipeline.core.simulator.plan import plan_fleet, plan_scenario
from iot_pipeline.errors import KafkaUnavailableError
from iot_pipeline.local.manifests import write_manifest
from iot_pipeline.local.scenario_files import load_scenario
from iot_pipeline.stages.simulator.simulation import PROGRESS_SECONDS, STOP_SECONDS, Simulation
from iot_pipeline_tests.stages.fakes_simulation import (
    FakeClock,
    FakeSender,
    RefusingSender,
    SilentSender,
    offsets_of,
)

NOW = 1_760_000_000.316686
RULES = ReadingRules()


def begin(plan, sender=None, clock=None, **options):
    """A simulation of that plan that is not yet sent, with its sender and clock."""
    clock = clock or FakeClock()
    sender = sender or FakeSender(clock)
    options = {"topic": "iot_data", "sleep": clock.sleep, "now": lambda: NOW, **options}
    return Simulation(plan, sender, RULES, clock=clock, **options), sender, clock


def run(plan, sender=None, clock=None, **options):
    simulation, sender, clock = begin(plan, sender, clock, **options)
    return simulation.send(), sender, clock


def send(plan, sender=None, clock=None, **options):
    """A scenario that was sent, and remembers what became of each device."""
    simulation, sender, clock = begin(plan, sender, clock, manifest_id="m", **options)
    simulation.send()
    return simulation, sender, clock


def scenario_of(name="rough_day", **options):
    now = datetime.fromtimestamp(NOW, UTC)
    return plan_scenario(load_scenario(name)[1], name=name, now=now, **options)


def expected(plan):
    """What the plan's messages are, made again without sending."""
    emissions = plan.fleet(round(NOW * 1e6), RULES).emissions()
    return [(e.device.device_id, e.payload) for e in emissions if not e.is_withheld]


def stop_at(clock, seconds):
    at = clock() + seconds
    return lambda: clock() >= at


@given(
    count=st.integers(1, 5_000),
    room=st.integers(1, 3_000),
    rate=st.sampled_from(["max", 400.0, 7_777.0]),
)
def test_every_reading_of_a_fleet_is_sent_once_in_order_whatever_room_there_is(count, room, rate):
    plan = plan_fleet(devices=30, rate=rate, count=count)
    clock = FakeClock()
    result, sender, _ = run(plan, FakeSender(clock, room), clock)
    assert sender.taken == expected(plan)
    assert len(sender.taken) == count
    assert (result.produced, result.acknowledged, result.failed) == (count, count, 0)
    assert not result.is_stopped


def test_the_average_rate_is_the_one_asked_for():
    result, _, _ = run(plan_fleet(devices=50, rate=1_000, duration_seconds=10))
    assert result.produced == 10_000
    assert result.seconds == pytest.approx(10, rel=0.01)
    assert result.rate == pytest.approx(1_000, rel=0.01)


def test_the_last_message_has_its_share_of_the_time():
    result, _, _ = run(plan_fleet(devices=3, rate=1, count=5))
    assert result.seconds == pytest.approx(5, rel=0.01)


def test_a_paced_fleet_sends_without_bursts():
    _, sender, clock = run(plan_fleet(devices=50, rate=10_000, duration_seconds=4))
    began = clock() - 4
    for second in range(4):
        sent = sum(began + second <= at < began + second + 1 for at in sender.taken_at)
        assert sent == pytest.approx(10_000, rel=0.02)


def test_a_slow_fleet_rests_instead_of_spinning():
    _, _, clock = run(plan_fleet(devices=3, rate=1, count=3))
    assert len(clock.sleeps) < 60
    assert max(clock.sleeps) <= 0.1


def test_rate_max_ends_after_its_duration():
    result, _, _ = run(plan_fleet(devices=50, rate="max", duration_seconds=0.5))
    assert result.seconds == pytest.approx(0.5, abs=0.01)
    assert result.produced > 50_000
    assert result.acknowledged == result.produced


@pytest.mark.parametrize("rate", [0.1, 1_000])
def test_stopping_ends_a_paced_fleet_within_a_fifth_of_a_second(rate):
    clock = FakeClock()
    plan = plan_fleet(devices=10, rate=rate)
    result, sender, _ = run(plan, clock=clock, should_stop=stop_at(clock, 3.0))
    assert result.is_stopped
    assert 3.0 <= result.seconds <= 3.2
    assert result.produced == result.acknowledged == sender.sent
    assert result.produced == pytest.approx(3 * rate, abs=1 + rate * 0.01)


def test_stopping_ends_a_fleet_at_rate_max_at_once():
    clock = FakeClock()
    plan = plan_fleet(devices=10, rate="max", count=10**9)
    result, _, _ = run(plan, clock=clock, should_stop=stop_at(clock, 1.0))
    assert result.is_stopped
    assert result.seconds <= 1.2


@pytest.mark.parametrize("rate", ["max", 1_000.0])
def test_a_silent_broker_holds_a_stopped_fleet_for_a_bounded_time(rate):
    clock = FakeClock()
    plan = plan_fleet(devices=10, rate=rate, count=10**6)
    sender = SilentSender(clock, room=500)
    result, _, _ = run(plan, sender, clock, should_stop=stop_at(clock, 1.0))
    assert result.seconds <= 1.0 + STOP_SECONDS + 0.3
    assert (result.produced, result.acknowledged, result.unconfirmed) == (500, 0, 500)


class Interrupt(BaseException):
    """Stands for KeyboardInterrupt and DagsterExecutionInterruptedError."""


@pytest.mark.parametrize("interrupted_in", ["sleep", "send"])
def test_an_interrupt_passes_through_and_leaves_the_true_count(interrupted_in):
    clock, told = FakeClock(), []
    sender = FakeSender(clock)
    take = sender.send

    def interrupting_send(*arguments):
        taken = take(*arguments)
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
    plan = plan_fleet(devices=10, rate=1_000)
    simulation, _, _ = begin(plan, sender, clock, sleep=sleep, on_progress=told.append)
    with pytest.raises(Interrupt):
        simulation.send()
    result = simulation.result
    assert result.produced == result.acknowledged == sender.sent > 500
    assert told[-1] is result


def test_a_second_interrupt_ends_the_waiting_and_not_the_counting():
    clock = FakeClock()
    sender = SilentSender(clock)

    def interrupting(_seconds):
        raise Interrupt

    sender.flush = interrupting
    plan = plan_fleet(devices=10, rate=1_000)
    simulation, _, _ = begin(plan, sender, clock, sleep=interrupting)
    with pytest.raises(Interrupt):
        simulation.send()
    result = simulation.result
    assert result.produced == result.unconfirmed == sender.sent > 0


def test_a_refused_delivery_ends_the_run_with_its_error_and_the_true_count():
    sender = RefusingSender(KafkaUnavailableError("away"))
    simulation, _, _ = begin(plan_fleet(devices=3, rate=10, count=100), sender)
    with pytest.raises(KafkaUnavailableError, match="away"):
        simulation.send()
    result = simulation.result
    assert result.failed == 1
    assert result.produced == sender.sent == result.acknowledged + 1


def test_progress_is_told_about_four_times_a_second_and_at_the_end():
    told = []
    plan = plan_fleet(devices=10, rate=1_000, duration_seconds=5)
    run(plan, on_progress=lambda r: told.append(r.produced))
    assert len(told) == pytest.approx(5 / PROGRESS_SECONDS, abs=2)
    assert told == sorted(told)
    assert told[-1] == 5_000


def test_the_result_names_the_event_time_it_began_with():
    plan = plan_fleet(devices=3, rate=10, count=10)
    result, _, _ = run(plan)
    assert result.start_us == round(NOW * 1e6)


def test_a_fleet_without_a_manifest_keeps_none():
    kept = []
    run(plan_fleet(devices=3, rate=10, duration_seconds=30), write=kept.append)
    assert not kept


# A scenario goes the same way, and leaves a manifest.


@pytest.mark.parametrize(("speed", "room"), [("max", 100_000), ("max", 700), (1.0, 100), (60, 90)])
def test_every_message_of_a_scenario_is_sent_once_and_in_order_whatever_room_there_is(speed, room):
    clock = FakeClock()
    simulation, sender, _ = send(
        scenario_of(speed=speed, duration_seconds=90), FakeSender(clock, room), clock
    )
    assert sender.taken == expected(simulation.plan)
    assert simulation.result.acknowledged == simulation.result.produced == len(sender.taken)
    assert simulation.manifest().is_complete


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, 60), (60.0, 1)])
def test_event_time_passes_as_fast_as_was_asked_for(speed, seconds):
    simulation, sender, clock = send(scenario_of("smart_home", speed=speed, duration_seconds=60))
    assert simulation.result.seconds == pytest.approx(seconds, abs=0.2)
    half = sum(at < clock() - seconds / 2 for at in sender.taken_at)
    assert half == pytest.approx(len(sender.taken) / 2, rel=0.1)


@pytest.mark.parametrize("speed", [1.0, 60.0, "max"])
def test_no_reading_is_sent_before_it_was_measured(speed):
    _, sender, clock = send(scenario_of("smart_home", speed=speed, duration_seconds=120))
    began_at = clock.seconds - (clock.seconds - 100.0)
    decode = ReadingDecoder(RULES).decode
    for (_, value), at in zip(sender.taken, sender.taken_at, strict=True):
        # The grid of event times begins up to 2 ms after now.
        assert decode(value).timestamp <= NOW + (at - began_at) + 0.003


def test_the_manifest_says_of_each_device_and_fault_what_the_topic_holds():
    simulation, sender, _ = send(scenario_of(speed="max", duration_seconds=600))
    manifest = simulation.manifest()
    assert manifest.acknowledged == sum(d.messages for d in manifest.devices) == len(sender.taken)
    for device in manifest.devices:
        of_device = [value for key, value in sender.taken if key == device.device_id]
        assert device.messages == len(of_device)
    assert {fault.kind for fault in manifest.faults} == set(FaultKind)
    decode = ReadingDecoder(RULES).decode
    for fault in manifest.faults:
        held = [sender.taken[offset] for _, offset in offsets_of(fault)]
        assert len(held) == fault.messages
        assert {key for key, _ in held} <= {fault.device_id}
        if fault.kind is FaultKind.MALFORMED:
            reasons = {decode(value).reason for _, value in held}
            assert reasons == {fault.reason}
        elif fault.kind is FaultKind.DROPOUT:
            assert (fault.messages, fault.withheld > 0) == (0, True)
        else:
            times = [decode(value).timestamp for _, value in held]
            skew = fault.amount if fault.kind is FaultKind.CLOCK_SKEW else 0
            assert min(times) == pytest.approx(fault.first_at.timestamp() + skew, abs=0.003)
            assert max(times) == pytest.approx(fault.last_at.timestamp() + skew, abs=0.003)
    malformed = sum(isinstance(decode(value), Rejection) for _, value in sender.taken)
    assert malformed == sum(f.messages for f in manifest.faults if f.kind is FaultKind.MALFORMED)


def test_a_rough_day_troubles_the_devices_its_file_names_within_two_minutes():
    simulation, _, _ = send(scenario_of(speed=1.0, duration_seconds=120))
    troubled = {}
    for fault in simulation.manifest().faults:
        troubled.setdefault(str(fault.kind), set()).add(fault.device_id)
    assert troubled["dropout"] == {"kitchen_1", "kitchen_2", "garden_1"}
    assert troubled["stuck"] == {"bedroom_1", "bathroom_1"}
    assert troubled["late"] == {"garden_2", "garden_3"}
    assert troubled["malformed"] == {"kitchen_3"}
    assert troubled["clock_skew"] == {"study_2"}


def test_the_manifest_is_kept_while_it_sends_and_at_its_end(tmp_path):
    kept = []
    simulation, _, _ = send(scenario_of("smart_home", duration_seconds=60), write=kept.append)
    assert 5 <= len(kept) <= 8
    path = write_manifest(tmp_path, simulation.manifest())
    kept_at_the_end, now = (
        msgspec.json.decode(path.read_bytes(), type=Manifest),
        simulation.manifest(),
    )
    assert kept_at_the_end.acknowledged == simulation.result.acknowledged
    assert (kept_at_the_end.devices, kept_at_the_end.faults) == (now.devices, now.faults)
    assert list(path.parent.iterdir()) == [path]


def test_stopping_ends_it_at_once_with_the_true_count_in_the_manifest():
    clock = FakeClock()
    simulation, sender, _ = send(
        scenario_of(duration_seconds=600), clock=clock, should_stop=lambda: clock() > 160
    )
    assert simulation.result.seconds <= 60.2
    manifest = simulation.manifest()
    assert (manifest.is_stopped, manifest.is_complete) == (True, False)
    assert manifest.acknowledged == sum(d.messages for d in manifest.devices) == sender.sent


def test_what_was_never_confirmed_is_in_no_device_of_the_manifest():
    clock = FakeClock()
    sender = SilentSender(clock, room=500)
    simulation, _, _ = send(
        scenario_of(speed="max"), sender, clock, should_stop=lambda: clock() > 101
    )
    assert simulation.result.seconds <= 1 + STOP_SECONDS + 0.3
    manifest = simulation.manifest()
    assert (manifest.produced, manifest.unconfirmed) == (500, 500)
    assert sum(d.messages for d in manifest.devices) == 0
    assert not [f for f in manifest.faults if f.offsets]


def test_an_interrupt_passes_through_and_leaves_the_manifest_with_the_true_count():
    clock, kept = FakeClock(), []
    sender = FakeSender(clock)

    def interrupting(seconds):
        clock.sleep(seconds)
        if sender.sent > 500:
            raise Interrupt

    with pytest.raises(Interrupt):
        send(scenario_of(), sender, clock, sleep=interrupting, write=kept.append)
    assert kept[-1].acknowledged == sender.sent > 500
    assert not kept[-1].is_complete


def test_a_refused_delivery_ends_it_with_its_error_and_a_manifest():
    kept = []
    sender = RefusingSender(KafkaUnavailableError("away"))
    with pytest.raises(KafkaUnavailableError, match="away"):
        send(scenario_of(), sender, write=kept.append)
    assert kept[-1].failed == 1
