"""Requests in flight: each answer once, failures sent again together, an end to patience."""

import time
from typing import Any

import pytest

from iot_pipeline.errors import CassandraUnavailableError, PermanentError, PipelineError
from iot_pipeline.stages.requests import Flight, ask_all
from iot_pipeline_tests.stages.fakes import FakeAnswer, answer

AWAY = CassandraUnavailableError("away")


class Server:
    """Fails the first `failures` requests, answers the others with their number.

    One that `is_deaf` fails them while they are sent.
    """

    def __init__(
        self, failures: int, error: PipelineError = AWAY, *, is_deaf: bool = False
    ) -> None:
        self.failures, self.error, self.is_deaf, self.sent = failures, error, is_deaf, 0

    def send(self, number: int) -> FakeAnswer[list[int]]:
        self.sent += 1
        if self.failures:
            self.failures -= 1
            if self.is_deaf:
                raise self.error
            return answer([], self.error)
        return answer([number])


def fly(server: Server, requests: int, give_up_after_seconds: float = 5.0) -> list[Any]:
    taken: list[Any] = []
    flight = Flight(lambda _: None, give_up_after_seconds)
    for number in range(requests):
        flight.start(lambda number=number: server.send(number), lambda a: taken.extend(a.found))  # type: ignore[misc]
    flight.finish()
    return taken


@pytest.mark.parametrize("is_deaf", [False, True])
def test_every_request_is_answered_once_however_often_it_failed(is_deaf: bool) -> None:
    server = Server(failures=25, is_deaf=is_deaf)
    assert sorted(fly(server, 10)) == list(range(10))
    assert server.sent == 35


def test_all_that_fail_at_once_wait_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # A server that stood still for ten seconds times out everything on its way.
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    assert len(fly(Server(failures=96), 96, give_up_after_seconds=0.5)) == 96
    assert len(waits) == 1


def test_what_stays_away_is_raised_when_patience_is_over() -> None:
    began = time.monotonic()
    with pytest.raises(CassandraUnavailableError, match="away"):
        fly(Server(failures=10**9), 3, give_up_after_seconds=0.05)
    assert 0.05 <= time.monotonic() - began < 5


def test_what_no_retry_can_change_is_raised_at_once() -> None:
    server = Server(failures=1, error=PermanentError("refused"))
    with pytest.raises(PermanentError, match="refused"):
        fly(server, 2)
    assert server.sent == 2


def test_what_is_cut_off_waits_for_no_answer_after_its_deadline() -> None:
    silent = answer(0, looks=1_000_000)
    given = [answer(1), answer(2), silent, answer(4)]
    ticks = iter(range(1_000))
    found = ask_all(
        range(4),
        given.__getitem__,
        lambda _: None,
        deadline=20.0,
        clock=lambda: float(next(ticks)),
        is_cut_off=True,
    )
    assert [item for item, _ in found] == [0, 1]
    assert silent.looks < 1_000_000
