"""kill -9 of the draining process, at every step of a micro-batch: nothing lost, nothing twice."""

import signal
import subprocess
import sys
import uuid
from datetime import date
from pathlib import Path

import pytest

from iot_pipeline.core.ledger.chain import find_flaws
from iot_pipeline.stages.proof.dead_letters import read_newest_letters
from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import clean_environment

pytestmark = pytest.mark.services

GOOD, BAD, DEVICES = 6000, 12, 10

# (method, k-th call, before or after it took effect). All records are on one Kafka partition and
# arrive in three waves, so there are three micro-batches at least, of ten devices each.
MOMENTS = [
    ("send_rows", 1, "before"),  # nothing was written
    ("send_rows", 15, "after"),  # some rows of the second micro-batch are there
    ("send_devices", 1, "before"),
    ("deliver", 1, "before"),  # rows acknowledged, dead letters not
    ("deliver", 1, "after"),  # dead letters delivered, checkpoint where it was
    ("send_commit", 2, "before"),  # everything written, nothing committed
    ("send_commit", 2, "after"),  # committed, and we never heard
    ("mirror", 2, "before"),  # committed, lag tools not told
]


def produce_waves(pipeline: Pipeline, device: str, partition: int | None = 0) -> list[bytes]:
    """GOOD readings in three waves, each later than the one before, then BAD records."""
    messages = list(fleet(device, DEVICES, GOOD))
    for at in range(0, GOOD, GOOD // 3):
        wave = messages[at : at + GOOD // 3]
        produce(pipeline.brokers, pipeline.topic, wave, partition=partition)
    bad = [f"no reading {number}".encode() for number in range(BAD)]
    produce(pipeline.brokers, pipeline.topic, [(b"bad", v) for v in bad], partition=partition)
    return bad


def crash(pipeline: Pipeline, method: str, at_call: int, when: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "iot_pipeline_tests.crashing_drain", method, str(at_call), when],
        cwd=Path(__file__).resolve().parents[3],
        env=clean_environment(pipeline.env),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, f"it lived: {done.stdout}\n{done.stderr}"


def assert_all_arrived_once(pipeline: Pipeline, device: str, bad: list[bytes]) -> None:
    total = pipeline.iot("ledger", "--json")["total"]
    assert (total["span"], total["stored"], total["rejected"]) == (GOOD + BAD, GOOD, BAD)
    assert total["superseded"] == 0
    checkpoints = pipeline.connections.ledger.read_checkpoints(pipeline.topic, range(4))
    entries = pipeline.connections.ledger.read_entries(pipeline.topic, range(4))
    assert find_flaws(entries, checkpoints.values()) == []
    assert pipeline.count_rows(device, DEVICES) == GOOD
    noted = pipeline.connections.days.devices(date(2024, 12, 29))
    assert {f"{device}_{number}" for number in range(DEVICES)} <= set(noted)
    letters = read_newest_letters(pipeline.log, pipeline.settings.dead_letter_topic, 1000).letters
    assert sorted(item.letter.value or b"" for item in letters) == sorted(bad)


@pytest.mark.parametrize(("method", "at_call", "when"), MOMENTS)
def test_a_drain_killed_at_this_moment_loses_nothing_and_counts_nothing_twice(
    pipeline: Pipeline, method: str, at_call: int, when: str
) -> None:
    device = f"dev_{uuid.uuid4().hex[:8]}"
    bad = produce_waves(pipeline, device)
    crash(pipeline, method, at_call, when)
    pipeline.iot("drain", "--json")
    assert_all_arrived_once(pipeline, device, bad)


def test_a_drain_killed_again_and_again_still_arrives(pipeline: Pipeline) -> None:
    """Between the commits of several Kafka partitions, then a micro-batch further each time."""
    device = f"dev_{uuid.uuid4().hex[:8]}"
    bad = produce_waves(pipeline, device, partition=None)
    crash(pipeline, "send_commit", 1, "after")
    crash(pipeline, "send_commit", 1, "before")
    crash(pipeline, "send_commit", 1, "after")
    pipeline.iot("drain", "--json")
    assert_all_arrived_once(pipeline, device, bad)
    assert pipeline.iot("drain", "--json")["ranges"] == []
