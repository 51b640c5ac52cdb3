"""How long doors that hang are knocked at, all together."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from iot_pipeline.clients import doors
from iot_pipeline.clients.doors import why_cassandra_is_shut, why_kafka_is_shut
from iot_pipeline.settings import Settings


class Clock:
    """Time passes by what a step may take, and no faster."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waited: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def hang(self, address: tuple[str, int], seconds: float) -> socket.socket:
        self.now += seconds
        self.waited.append(seconds)
        raise TimeoutError(f"{address} hangs")


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(doors, "time", clock)
    monkeypatch.setattr(doors, "socket", SimpleNamespace(create_connection=clock.hang))
    return clock


HOSTS = tuple(f"10.0.0.{number}" for number in range(1, 40))


def test_many_nodes_that_hang_are_not_asked_one_after_the_other_for_ever(hanging: Clock) -> None:
    assert why_cassandra_is_shut(Settings(contact_points=HOSTS)) is None
    assert sum(hanging.waited) <= doors._ALL_SECONDS + doors._LEAST_SECONDS
    assert len(hanging.waited) < len(HOSTS)


def test_so_with_brokers(hanging: Clock) -> None:
    servers = ",".join(f"{host}:9092" for host in HOSTS)
    assert why_kafka_is_shut(Settings(bootstrap_servers=servers)) is None
    assert sum(hanging.waited) <= doors._ALL_SECONDS + doors._LEAST_SECONDS


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where connections are taken and nothing is said."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        yield listener.getsockname()[1]


def test_one_that_takes_connections_and_says_nothing_hangs_too(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "_ALL_SECONDS", 0.2)
    settings = Settings(contact_points=("127.0.0.1",) * 3, cassandra_port=silent)
    asked = []
    knock = doors._knock
    monkeypatch.setattr(doors, "_knock", lambda *given: (asked.append(given), knock(*given))[1])
    assert why_cassandra_is_shut(settings) is None
    assert len(asked) == 1
