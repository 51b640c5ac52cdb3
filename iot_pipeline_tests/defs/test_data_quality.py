"""A fleet with faults through Kafka, the table and Dagster: the right checks, the right devices."""

import functools
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import msgspec
import pytest
from confluent_kafka import Message, Producer

from iot_pipeline.core.checks.device_table import as_code
from iot_pipeline.core.simulator.fault_specs import FaultKind
from iot_pipeline.core.simulator.faults import Emission
from iot_pipeline.core.simulator.manifest import ManifestRecorder
from iot_pipeline.core.simulator.scenario_fleet import ScenarioFleet
from iot_pipeline.core.simulator.scenarios import Scenario, make_devices
from iot_pipeline_tests.defs.conftest import Dagster, Outcome
from iot_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.services

# How long the fleet has been sending when it is looked at; it goes on until the test is over.
SECONDS = 36
# A rough day in half a minute: what takes minutes there takes seconds here.
SHORTENED = {
    "IOT_SILENT_SECONDS": "10",
    "IOT_SILENT_INTERVALS": "10",
    "IOT_STUCK_SECONDS": "5",
    "IOT_STUCK_READINGS": "15",
    "IOT_LATE_SECONDS": "5",
    "IOT_CLOCK_AHEAD_SECONDS": "3",
}
QUALITY = {
    "values_are_plausible",
    "devices_are_reporting",
    "readings_are_on_time",
    "no_stuck_sensors",
    "clocks_are_right",
    "readings_are_complete",
}
# A name that would be a second column, a link or a script, were it not only a name.
GARDEN = "gar|den`<b>_{number}"
FAULTS: list[dict[str, object]] = [
    {"kind": "dropout", "devices": ["kitchen_1", "kitchen_2"], "at": "12s", "for": "15m"},
    {"kind": "stuck", "devices": ["kitchen_3"], "at": "8s", "for": "15m"},
    # Past 50 °C after half a minute, and below what is refused at its end.
    {"kind": "drift", "devices": ["kitchen_4"], "at": "5s", "for": "90s", "size": 120},
    {"kind": "spike", "devices": ["kitchen_5"], "share": 0.1, "size": 40},
    {"kind": "clock_skew", "devices": ["kitchen_6"], "at": "8s", "for": "15m", "skew": "10m"},
    {
        "kind": "late",
        "devices": [GARDEN.format(number=1)],
        "at": "2s",
        "for": "15m",
        "delay": {"distribution": "uniform", "min": "8s", "max": "14s"},
    },
    {"kind": "malformed", "devices": ["kitchen_7"], "share": 0.3},
    {"kind": "duplicate", "devices": ["kitchen_8"], "share": 0.3},
]


@pytest.fixture
def keyspace() -> str:
    """A keyspace of this test's own: whoever reported in another test is silent by now."""
    return f"iot_test_{uuid.uuid4().hex[:10]}"


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    return {**settings_env, **SHORTENED}


def scenario(faults: list[dict[str, object]]) -> Scenario:
    groups = [
        {"name": "indoors", "devices": 10, "places": ["kitchen"], "interval": "250ms"},
        {"name": "garden", "devices": 6, "interval": "250ms", "ids": GARDEN, "outdoors": 1.0},
    ]
    shape = {"description": "a rough half minute", "groups": groups, "faults": faults}
    return msgspec.convert(shape, Scenario)


def send_live(
    pipeline: Pipeline, fleet: ScenarioFleet, is_over: threading.Event
) -> ManifestRecorder:
    """Send each message when it is due until it is over; remember what Kafka acknowledged."""
    recorder = ManifestRecorder(fleet.devices)
    producer = Producer({"bootstrap.servers": pipeline.brokers, "acks": "all", "linger.ms": 5})

    def note(emission: Emission, error: object, message: Message) -> None:
        assert error is None
        recorder.acknowledge(emission, message.partition(), message.offset())

    for emission in fleet.emissions():
        while (wait := emission.send_us / 1e6 - time.time()) > 0:
            producer.poll(0)
            is_over.wait(min(wait, 0.05))
        if is_over.is_set():
            break
        if emission.is_withheld:
            recorder.withhold(emission)
        else:
            key = emission.device.device_id.encode()
            told = functools.partial(note, emission)
            producer.produce(pipeline.topic, emission.payload, key, on_delivery=told)
    assert producer.flush(30) == 0
    return recorder


@contextmanager
def live(pipeline: Pipeline, fleet: ScenarioFleet) -> Iterator[Future[ManifestRecorder]]:
    """A fleet that sends while the test does something else; its truth once that is done."""
    is_over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        truth = pool.submit(send_live, pipeline, fleet, is_over)
        try:
            yield truth
        finally:
            is_over.set()


def fleet_for(faults: list[dict[str, object]], seconds: float) -> ScenarioFleet:
    start_us = int(time.time() * 1e6)
    end_us = start_us + int(seconds * 1e6)
    return ScenarioFleet(scenario(faults), seed=1, start_us=start_us, end_us=end_us)


def named(outcome: Outcome) -> Iterator[tuple[str, set[str]]]:
    for name in QUALITY & outcome.red.keys():
        table = str(outcome.checks[name].metadata["worst_devices"].value)
        rows = table.splitlines()[2:]
        yield (
            name,
            {
                device
                for device in (d.device_id for d in make_devices(scenario(FAULTS)))
                if any(row.startswith(f"| {as_code(device)} |") for row in rows)
            },
        )


def test_each_fault_is_on_its_check_with_its_devices_in_a_run_and_on_their_own(
    dagster: Dagster, pipeline: Pipeline
) -> None:
    with live(pipeline, fleet_for(FAULTS, 900)) as future:
        time.sleep(SECONDS)
        in_run = dagster.drain_by_sensor()
        alone = dagster.launch("checks")
    truth = future.result(60)
    assert in_run.is_success, in_run.failure
    assert alone.is_success, alone.failure

    def hit_by(*kinds: FaultKind) -> set[str]:
        return {fault.device_id for fault in truth.faults() if fault.kind in kinds}

    for outcome in (in_run, alone):
        found = dict(named(outcome))
        assert outcome.checks.keys() >= QUALITY
        assert found["devices_are_reporting"] == hit_by(FaultKind.DROPOUT)
        assert found["no_stuck_sensors"] == hit_by(FaultKind.STUCK)
        assert found["values_are_plausible"] == hit_by(FaultKind.SPIKE, FaultKind.DRIFT)
        assert found["clocks_are_right"] == hit_by(FaultKind.CLOCK_SKEW)
        assert found["readings_are_on_time"] == hit_by(FaultKind.LATE)
        # Half a minute is less than 5 % of an hour; stages/fleet/test_keeper.py has longer ones.
        assert "readings_are_complete" not in found
        assert "dead_letters_are_few" in outcome.red
        for name in QUALITY:
            assert outcome.checks[name].severity.value == "WARN"
        table = outcome.checks["readings_are_on_time"].metadata["worst_devices"].value
        assert "``gar\\|den`<b>_1``" in str(table)


def test_a_clean_fleet_is_all_green_from_its_first_seconds_on(
    dagster: Dagster, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SHORTENED:
        monkeypatch.delenv(name)
    with live(pipeline, fleet_for([], 900)) as sending:
        for seconds in (3, 5, 7):
            time.sleep(seconds)
            outcome = dagster.drain_by_sensor()
            assert outcome.is_success, outcome.failure
            assert {name: why for name, why in outcome.red.items() if name in QUALITY} == {}
            alone = dagster.launch("checks")
            assert {name: why for name, why in alone.red.items() if name in QUALITY} == {}
    assert not sending.result(60).faults()
