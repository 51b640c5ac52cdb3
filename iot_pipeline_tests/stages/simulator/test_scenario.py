from datetime import UTC, datetime

import pytest

from iot_pipeline.core.reading.decoding import ReadingDecoder, ReadingRules, Rejection
from iot_pipeline.core.simulator.fault_specs import FaultKind
from iot_pipeline.core.simulator.manifest import decode_manifest, encode_manifest
from iot_pipeline.core.simulator.scenario_plan import plan_scenario
from iot_pipeline.errors import KafkaUnavailableError
from iot_pipeline.local.manifests import read_manifest, write_manifest
from iot_pipeline.local.scenario_files import load_scenario
from iot_pipeline.stages.simulator.scenario import ScenarioRun
from iot_pipeline.stages.simulator.sending import STOP_SECONDS
from iot_pipeline_tests.stages.fakes_simulation import (
    FakeClock,
    FakeSender,
    RefusingSender,
    SilentSender,
)

NOW = 1_760_000_000.0
RULES = ReadingRules()


def plan_of(name="rough_day", **options):
    now = datetime.fromtimestamp(NOW, UTC)
    return plan_scenario(load_scenario(name)[1], name=name, now=now, **options)


def send(plan, sender=None, clock=None, **options):
    clock = clock or FakeClock()
    sender = sender or FakeSender(clock)
    run = ScenarioRun(plan, manifest_id="m", topic="iot_data")
    run.send(sender, RULES, clock=clock, sleep=clock.sleep, now=lambda: NOW, **options)
    return run, sender, clock


def expected(plan):
    """What the scenario's emissions are, made again without sending."""
    return list(plan.fleet(round(NOW * 1e6), RULES).emissions())


@pytest.mark.parametrize(("speed", "room"), [("max", 100_000), ("max", 700), (1.0, 100), (60, 90)])
def test_every_message_is_sent_once_and_in_order_whatever_room_there_is(speed, room):
    plan = plan_of(speed=speed, duration_seconds=90)
    clock = FakeClock()
    run, sender, _ = send(plan, FakeSender(clock, room), clock)
    assert sender.taken == [
        (e.device.device_id, e.payload) for e in expected(plan) if not e.is_withheld
    ]
    assert run.result.acknowledged == run.result.produced == len(sender.taken)
    assert run.manifest().is_complete


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, 60), (60.0, 1)])
def test_event_time_passes_as_fast_as_was_asked_for(speed, seconds):
    run, sender, clock = send(plan_of("smart_home", speed=speed, duration_seconds=60))
    assert run.result.seconds == pytest.approx(seconds, abs=0.2)
    half = sum(at < clock() - seconds / 2 for at in sender.taken_at)
    assert half == pytest.approx(len(sender.taken) / 2, rel=0.1)


@pytest.mark.parametrize("speed", [1.0, 60.0, "max"])
def test_no_reading_is_sent_before_it_was_measured(speed):
    _, sender, clock = send(plan_of("smart_home", speed=speed, duration_seconds=120))
    began_at = clock.seconds - (clock.seconds - 100.0)
    decode = ReadingDecoder(RULES).decode
    for (_, value), at in zip(sender.taken, sender.taken_at, strict=True):
        # The grid of event times begins up to 2 ms after now.
        assert decode(value).timestamp <= NOW + (at - began_at) + 0.003


def test_the_manifest_says_of_each_device_and_fault_what_the_topic_holds():
    run, sender, _ = send(plan_of(speed="max", duration_seconds=600))
    manifest = run.manifest()
    assert manifest.acknowledged == sum(d.messages for d in manifest.devices) == len(sender.taken)
    for device in manifest.devices:
        of_device = [value for key, value in sender.taken if key == device.device_id]
        assert device.messages == len(of_device)
    assert {fault.kind for fault in manifest.faults} == set(FaultKind)
    decode = ReadingDecoder(RULES).decode
    for fault in manifest.faults:
        held = [sender.taken[offset] for _, offset in fault.offset_list()]
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
    assert malformed == sum(f.messages for f in manifest.faults_of(FaultKind.MALFORMED))


def test_a_rough_day_troubles_the_devices_its_file_names_within_two_minutes():
    run, _, _ = send(plan_of(speed=1.0, duration_seconds=120))
    troubled = {}
    for fault in run.manifest().faults:
        troubled.setdefault(str(fault.kind), set()).add(fault.device_id)
    assert troubled["dropout"] == {"kitchen_1", "kitchen_2", "garden_1"}
    assert troubled["stuck"] == {"bedroom_1", "bathroom_1"}
    assert troubled["late"] == {"garden_2", "garden_3"}
    assert troubled["malformed"] == {"kitchen_3"}
    assert troubled["clock_skew"] == {"study_2"}


def test_the_manifest_is_kept_while_it_sends_and_at_its_end(tmp_path):
    kept = []
    run, _, _ = send(plan_of("smart_home", duration_seconds=60), write=kept.append)
    assert 5 <= len(kept) <= 8
    path = write_manifest(tmp_path, run.manifest())
    assert read_manifest(path).acknowledged == run.result.acknowledged
    assert decode_manifest(encode_manifest(run.manifest())).devices == run.manifest().devices
    assert list(path.parent.iterdir()) == [path]


def test_stopping_ends_it_at_once_with_the_true_count_in_the_manifest():
    clock = FakeClock()
    run, sender, _ = send(
        plan_of(duration_seconds=600), clock=clock, should_stop=lambda: clock() > 160
    )
    assert run.result.seconds <= 60.2
    manifest = run.manifest()
    assert (manifest.is_stopped, manifest.is_complete) == (True, False)
    assert manifest.acknowledged == sum(d.messages for d in manifest.devices) == sender.sent


def test_what_was_never_confirmed_is_in_no_device_of_the_manifest():
    clock = FakeClock()
    sender = SilentSender(clock, room=500)
    run, _, _ = send(plan_of(speed="max"), sender, clock, should_stop=lambda: clock() > 101)
    assert run.result.seconds <= 1 + STOP_SECONDS + 0.3
    manifest = run.manifest()
    assert (manifest.produced, manifest.unconfirmed) == (500, 500)
    assert sum(d.messages for d in manifest.devices) == 0
    assert not [f for f in manifest.faults if f.offsets]


class Interrupt(BaseException):
    """Stands for KeyboardInterrupt and DagsterExecutionInterruptedError."""


def test_an_interrupt_passes_through_and_leaves_the_manifest_with_the_true_count():
    clock, kept = FakeClock(), []
    sender = FakeSender(clock)

    def interrupting(seconds):
        clock.sleep(seconds)
        if sender.sent > 500:
            raise Interrupt

    run = ScenarioRun(plan_of(), manifest_id="m", topic="iot_data")
    with pytest.raises(Interrupt):
        run.send(sender, RULES, clock=clock, sleep=interrupting, now=lambda: NOW, write=kept.append)
    assert kept[-1].acknowledged == sender.sent > 500
    assert not kept[-1].is_complete


def test_a_refused_delivery_ends_it_with_its_error_and_a_manifest():
    kept = []
    sender = RefusingSender(KafkaUnavailableError("away"))
    with pytest.raises(KafkaUnavailableError, match="away"):
        send(plan_of(), sender, write=kept.append)
    assert kept[-1].failed == 1
