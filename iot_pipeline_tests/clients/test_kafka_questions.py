"""A question that a broker leaves unanswered is asked of others, and the first answer counts."""

import gc
import time
import weakref
from concurrent.futures import Future
from threading import Timer

import pytest
from confluent_kafka import KafkaError, KafkaException

from iot_pipeline.clients import kafka_questions
from iot_pipeline.clients.kafka import Heard
from iot_pipeline.clients.kafka_questions import KafkaQuestions
from iot_pipeline.errors import KafkaUnavailableError, PermanentError
from iot_pipeline.settings import Settings

NOBODY = {"bootstrap.servers": "127.0.0.1:1"}
AWAY = KafkaException(KafkaError(KafkaError._TRANSPORT))


def questions(timeout_seconds: float) -> KafkaQuestions:
    settings = Settings(bootstrap_servers=NOBODY["bootstrap.servers"])
    return KafkaQuestions(settings, NOBODY, Heard(), timeout_seconds)


class Brokers:
    """The k-th client that is asked has these answers, and is silent about what is not in them."""

    def __init__(self, *answers: dict[str, int]) -> None:
        self.answers, self.asked = [*answers], []

    def __call__(self, client: object, seconds: float) -> "dict[str, Future[int]]":
        assert seconds > 0
        mine = self.answers[len(self.asked)] if len(self.asked) < len(self.answers) else {}
        self.asked.append(client)
        futures: dict[str, Future[int]] = {"a": Future(), "b": Future()}
        for name, answer in mine.items():
            futures[name].set_result(answer)
        return futures


@pytest.fixture(autouse=True)
def _is_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_questions, "_ASK_ANOTHER_SECONDS", 0.01)


def test_who_answers_is_asked_once():
    brokers, asking = Brokers({"a": 1, "b": 2}, {"a": 3, "b": 4}), questions(60)
    assert asking.ask(brokers, "asking") == {"a": 1, "b": 2}
    assert len(brokers.asked) == 1


def test_what_a_silent_broker_leaves_open_a_new_client_is_asked_and_stays():
    brokers, asking = Brokers({"a": 1}, {}, {"a": 5, "b": 6}), questions(60)
    assert asking.ask(brokers, "asking") == {"a": 1, "b": 6}
    assert len(set(map(id, brokers.asked))) == 3
    brokers.answers.append({"a": 7, "b": 8})
    assert asking.ask(brokers, "asking") == {"a": 7, "b": 8}
    assert brokers.asked[3] is brokers.asked[2]


def test_where_all_are_silent_some_clients_are_asked_and_then_it_is_an_outage():
    brokers, asking = Brokers(), questions(1)
    with pytest.raises(KafkaUnavailableError, match="did not answer in 1 s"):
        asking.ask(brokers, "asking")
    assert len(brokers.asked) == 4


class InTime:
    """The k-th client's one answer, or its error, comes after so many seconds."""

    def __init__(self, *after: tuple[float, int | KafkaException]) -> None:
        self.after, self.asked = [*after], []

    def __call__(self, client: object, seconds: float) -> "dict[str, Future[int]]":
        wait, answer = self.after[len(self.asked)]
        self.asked.append(client)
        future: Future[int] = Future()

        def say() -> None:
            if isinstance(answer, KafkaException):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        if wait:
            Timer(wait, say).start()
        else:
            say()
        return {"a": future}


def test_where_one_client_fails_another_that_was_asked_is_heard_and_stays():
    brokers, asking = InTime((0.5, AWAY), (0.8, 5), (9, 0), (9, 0)), questions(9)
    assert asking.ask(brokers, "asking") == {"a": 5}
    brokers.after.append((0, 6))
    assert asking.ask(brokers, "asking") == {"a": 6}
    assert brokers.asked[-1] is brokers.asked[1]


def test_where_a_client_fails_at_once_the_next_is_asked_at_once(monkeypatch):
    monkeypatch.setattr(kafka_questions, "_ASK_ANOTHER_SECONDS", 60)
    brokers, asking = InTime((0, AWAY), (0, AWAY), (0, 5)), questions(60)
    began = time.monotonic()
    assert asking.ask(brokers, "asking") == {"a": 5}
    assert time.monotonic() - began < 10


def test_where_all_clients_fail_the_first_error_is_told_at_once():
    starting = KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    brokers, asking = InTime((0, AWAY), *[(0, starting)] * 3), questions(60)
    began = time.monotonic()
    with pytest.raises(KafkaUnavailableError, match="does not answer"):
        asking.ask(brokers, "asking")
    assert time.monotonic() - began < 10
    assert len(brokers.asked) == 4


def test_an_answer_that_no_other_client_can_change_ends_the_question():
    refused = KafkaException(KafkaError(KafkaError.INVALID_REQUEST))
    brokers, asking = InTime((0, refused), (0, 5)), questions(60)
    with pytest.raises(PermanentError):
        asking.ask(brokers, "asking")
    assert len(brokers.asked) == 1


def test_a_cluster_that_is_slow_but_well_keeps_its_client():
    brokers, asking = InTime((0.4, 1), *[(0.4, 2)] * 30), questions(2)
    asking.ask(brokers, "asking")
    first = len(brokers.asked)
    assert first > 1
    for _ in range(3):
        asking.ask(brokers, "asking")
    assert len(brokers.asked) == first + 3
    # All of them the one that answered first, not the newest.
    assert {*map(id, brokers.asked[first:])} == {id(brokers.asked[0])}


def test_a_client_that_was_passed_over_is_let_go_once_what_it_was_asked_is_decided():
    brokers, asking = InTime((0.6, 1), (0.3, 2), *[(0.6, 3)] * 2, (0, 4)), questions(60)
    asking.ask(brokers, "asking")
    passed_over = weakref.ref(brokers.asked[0])
    brokers.asked[0] = None
    time.sleep(1)
    asking.ask(InTime((0, 4)), "asking")
    assert passed_over() is None


class Counted:
    """Stands for a client, and shows when it is gone."""

    def poll(self, seconds: float) -> None:
        return


def test_an_outage_leaves_no_client_to_the_garbage_collector(monkeypatch):
    made: list[weakref.ref[Counted]] = []

    def open_counted(*_: object) -> Counted:
        client = Counted()
        made.append(weakref.ref(client))
        return client

    monkeypatch.setattr(kafka_questions, "open_client", open_counted)
    starting = KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    refused = KafkaException(KafkaError(KafkaError.INVALID_REQUEST))
    ways = (
        InTime(*[(0, starting)] * 4),
        InTime((0, 1)),
        InTime((0, refused)),
        InTime((0, AWAY), (0, 2)),
        Brokers(),
    )
    gc.disable()
    try:
        for way in ways:
            asking, told = questions(0.5), None
            try:
                asking.ask(Forgetful(way), "asking")
            except (KafkaUnavailableError, PermanentError) as error:
                told = error  # as a run keeps it, with all its frames
            asking.close()
            assert [ref() for ref in made] == [None] * len(made), told
    finally:
        gc.enable()
    assert len(made) > 4 + 1 + 1 + 2


class Forgetful:
    """Asks as another does, and holds no client."""

    def __init__(self, other: "InTime | Brokers") -> None:
        self.other = other

    def __call__(self, client: object, seconds: float) -> "dict[str, Future[int]]":
        answer = self.other(client, seconds)
        self.other.asked[-1] = None
        return answer
