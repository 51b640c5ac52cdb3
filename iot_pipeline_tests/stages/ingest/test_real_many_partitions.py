"""Two hundred Kafka partitions with a backlog: what a person asks, a drain, an audit."""

import json
import subprocess
import time
from collections.abc import Iterator

import psutil
import pytest
from confluent_kafka import Producer

from iot_pipeline.cli.main import EXIT_TRANSIENT
from iot_pipeline_tests.load import ORIGIN_SECONDS, reading_json
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.pipeline import IOT, Pipeline
from iot_pipeline_tests.servers import clean_environment

pytestmark = pytest.mark.services

PARTITIONS, EACH = 200, 2_000
# Python and the drivers are 90 MB, IOT_MEMORY_BUDGET_MB is 256; a drain took 610 MB while it kept
# what each partition had ended with.
MOST_BYTES = 480_000_000


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    settings_env["IOT_PARTITIONS"] = str(PARTITIONS)
    return settings_env


def _readings(partition: int) -> Iterator[tuple[bytes, bytes]]:
    for number in range(EACH):
        name = f"many_{partition}"
        # Packed it is as long as unpacked readings are.
        yield name.encode(), reading_json(name, ORIGIN_SECONDS + number).ljust(400)


def _fill(pipeline: Pipeline) -> None:
    # One producer for all: each takes half a second to begin and to end.
    producer = Producer(
        {
            "bootstrap.servers": pipeline.brokers,
            "acks": "all",
            "compression.type": "lz4",
            "batch.size": 1_000_000,
            "linger.ms": 50,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for partition in range(PARTITIONS):
        for key, value in _readings(partition):
            producer.produce(pipeline.topic, value, key, partition=partition)
        producer.poll(0)
    assert producer.flush(60) == 0


def _run(pipeline: Pipeline, *arguments: str) -> tuple[str, int]:
    """What a command of its own process says, and the most memory that it took.

    A server that stood still for ten seconds has it end with "try again", which is what this does.
    """
    give_up_at = until(30)
    while True:
        code, said, peak = _run_once(pipeline, *arguments)
        if code == 0:
            return said, peak
        assert code == EXIT_TRANSIENT, said
        assert time.monotonic() < give_up_at, said


def _run_once(pipeline: Pipeline, *arguments: str) -> tuple[int, str, int]:
    with subprocess.Popen(
        [IOT, *arguments], env=clean_environment(pipeline.env), stdout=subprocess.PIPE, text=True
    ) as process:
        peak = 0
        while process.poll() is None:
            try:
                peak = max(peak, psutil.Process(process.pid).memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.02)
        assert process.stdout is not None
        said = process.stdout.read()
    return process.returncode, said, peak


def test_many_partitions_with_a_backlog_are_asked_about_and_drained_in_bounded_memory_and_proven(
    pipeline: Pipeline,
) -> None:
    _fill(pipeline)
    said, peak = _run(pipeline, "lag", "--json")
    lag = json.loads(said)
    assert lag["lag"] == PARTITIONS * EACH
    assert [one["why_unknown"] for one in lag["partitions"]] == [None] * PARTITIONS
    assert peak < MOST_BYTES

    said, peak = _run(pipeline, "drain", "--json")
    assert json.loads(said)["stored"] == PARTITIONS * EACH
    assert peak < MOST_BYTES

    audit = pipeline.iot("audit", "--all", "--json")
    assert (audit["stored"], audit["lost"], audit["torn"]) == (PARTITIONS * EACH, 0, 0)
    assert pipeline.iot("ledger", "--json")["flaws"] == []
