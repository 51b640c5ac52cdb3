"""Metrics over HTTP: served while the block lasts, also when the port is taken at first."""

import socket
import time
import urllib.request

import pytest

from iot_pipeline.artifacts.prometheus import served
from iot_pipeline.core.alerts.metrics import UP, Sample
from iot_pipeline.errors import ConfigurationError


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def samples() -> list[Sample]:
    return [Sample(UP, 1, {"server": "Kafka"})]


def test_they_are_served_with_cpu_and_memory_of_the_process_until_the_block_ends() -> None:
    with served(0, "127.0.0.1", samples) as port:
        text = scrape(port)
        with (
            pytest.raises(ConfigurationError, match="address already in use"),
            served(port, "127.0.0.1", samples),
        ):
            pass
    assert 'iot_up{server="Kafka"} 1.0' in text
    assert "process_cpu_seconds_total" in text
    assert "process_resident_memory_bytes" in text
    with pytest.raises(OSError, match="refused"):
        scrape(port)


def test_a_run_waits_for_the_port_in_the_background_and_ends_whether_it_got_it_or_not() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with served(port, "127.0.0.1", samples, waits=True):
            pass
        with served(port, "127.0.0.1", samples, waits=True):
            other.close()
            deadline = time.monotonic() + 30
            while True:
                try:
                    assert "iot_up" in scrape(port)
                    break
                except OSError:
                    assert time.monotonic() < deadline
