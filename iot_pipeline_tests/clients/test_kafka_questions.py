"""A question that a broker leaves unanswered is asked of others, and the first answer counts."""

import contextlib
import gc
import weakref
from collections.abc import Callable, Set
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace

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


@dataclass
class Clock:
    """Time that passes only while answers are waited for; what is due then happens."""

    now: float = 100.0
    due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        while self.pass_to_next(until):
            pass

    def wait(
        self, futures: "Set[Future[int]]", seconds: float, _: object
    ) -> "tuple[Set[Future[int]], Set[Future[int]]]":
        until = self.now + seconds
        while not (done := {future for future in futures if future.done()}):
            if not self.pass_to_next(until):
                break
        return done, futures - done

    def pass_to_next(self, until: float) -> bool:
        """Go to the next moment at which something is due, `until` at the latest."""
        coming = sorted((at for at, _ in self.due if at <= until))
        self.now = coming[0] if coming else until
        happening = [say for at, say in self.due if at <= self.now]
        self.due = [(at, say) for at, say in self.due if at > self.now]
        for say in happening:
            say()
        return bool(coming)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(
        kafka_questions, "time", SimpleNamespace(monotonic=made.monotonic, sleep=made.sleep)
    )
    monkeypatch.setattr(kafka_questions, "wait", made.wait)
    return made


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


def test_where_all_are_silent_some_clients_are_asked_and_then_it_is_an_outage(clock):
    brokers, asking = Brokers(), questions(10)
    with pytest.raises(KafkaUnavailableError, match="did not answer in 10 s"):
        asking.ask(brokers, "asking")
    assert len(brokers.asked) == 4
    assert 110 < clock.now < 111


class InTime:
    """The k-th client's one answer, or its error, comes after so many seconds."""

    def __init__(self, clock: Clock, *after: tuple[float, int | KafkaException]) -> None:
        self.clock, self.after, self.asked = clock, [*after], []

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
            self.clock.due.append((self.clock.now + wait, say))
        else:
            say()
        return {"a": future}


def test_where_one_client_fails_another_that_was_asked_is_heard_and_stays(clock):
    brokers, asking = InTime(clock, (4, AWAY), (4, 5), (30, 0), (30, 0)), questions(30)
    assert asking.ask(brokers, "asking") == {"a": 5}
    brokers.after[len(brokers.asked) :] = [(0, 6)]
    assert asking.ask(brokers, "asking") == {"a": 6}
    assert brokers.asked[-1] is brokers.asked[1]


def test_where_a_client_fails_at_once_the_next_is_asked_at_once(clock):
    brokers, asking = InTime(clock, (0, AWAY), (0, AWAY), (0, 5)), questions(60)
    assert asking.ask(brokers, "asking") == {"a": 5}
    assert clock.now == 100


@pytest.mark.parametrize("code", [KafkaError.LEADER_NOT_AVAILABLE, KafkaError._NOENT])
def test_where_a_broker_says_that_a_leader_is_missing_the_next_client_is_asked_later(clock, code):
    moving = KafkaException(KafkaError(code))
    brokers, asking = InTime(clock, (0, moving), (0, moving), (0, 5)), questions(60)
    assert asking.ask(brokers, "asking") == {"a": 5}
    assert 2 * kafka_questions._SETTLED_SECONDS < clock.now - 100 < 2
    assert len(brokers.asked) == 3


def test_where_all_clients_fail_the_first_error_is_told_soon(clock):
    starting = KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    brokers, asking = InTime(clock, (0, AWAY), *[(0, starting)] * 3), questions(60)
    with pytest.raises(KafkaUnavailableError, match="does not answer"):
        asking.ask(brokers, "asking")
    assert clock.now < 103
    assert len(brokers.asked) == 4


def test_an_answer_that_no_other_client_can_change_ends_the_question(clock):
    refused = KafkaException(KafkaError(KafkaError.INVALID_REQUEST))
    brokers, asking = InTime(clock, (0, refused), (0, 5)), questions(60)
    with pytest.raises(PermanentError):
        asking.ask(brokers, "asking")
    assert len(brokers.asked) == 1


def test_a_cluster_that_is_slow_but_well_keeps_its_client(clock):
    brokers, asking = InTime(clock, (3, 1), *[(3, 2)] * 30), questions(10)
    asking.ask(brokers, "asking")
    first = len(brokers.asked)
    assert first > 1
    for _ in range(3):
        asking.ask(brokers, "asking")
    assert len(brokers.asked) == first + 3
    # All of them the one that answered first, not the newest.
    assert {*map(id, brokers.asked[first:])} == {id(brokers.asked[0])}


def test_a_client_that_was_passed_over_is_let_go_once_what_it_was_asked_is_decided(clock):
    brokers, asking = InTime(clock, (6, 1), (3, 2), *[(6, 3)] * 2, (0, 4)), questions(60)
    asking.ask(brokers, "asking")
    passed_over = weakref.ref(brokers.asked[0])
    brokers.asked[0] = None
    asking.ask(InTime(clock, (0, 4)), "asking")
    assert passed_over() is not None
    while clock.due:
        clock.pass_to_next(200)
    asking.ask(InTime(clock, (0, 4)), "asking")
    assert passed_over() is None


class Counted:
    """Stands for a client, and shows when it is gone."""

    def poll(self, seconds: float) -> None:
        return


def test_an_outage_leaves_no_client_to_the_garbage_collector(monkeypatch, clock):
    made: list[weakref.ref[Counted]] = []

    def open_counted(*_: object) -> Counted:
        client = Counted()
        made.append(weakref.ref(client))
        return client

    monkeypatch.setattr(kafka_questions, "open_client", open_counted)
    starting = KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    refused = KafkaException(KafkaError(KafkaError.INVALID_REQUEST))
    ways = (
        InTime(clock, *[(0, AWAY)] * 4),
        InTime(clock, (0, starting), (0, 1)),
        InTime(clock, (0, 1)),
        InTime(clock, (0, refused)),
        InTime(clock, (0, AWAY), (0, 2)),
        Brokers(),
    )
    gc.disable()
    try:
        for way in ways:
            asking, told = questions(10), None
            try:
                asking.ask(Forgetful(way), "asking")
            except (KafkaUnavailableError, PermanentError) as error:
                told = error  # as a run keeps it, with all its frames
            asking.close()
            assert [ref() for ref in made] == [None] * len(made), told
    finally:
        gc.enable()
    assert len(made) == 4 + 2 + 1 + 1 + 2 + 4


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("code", [KafkaError.INVALID_REQUEST, KafkaError._TRANSPORT, None])
def test_an_error_that_was_caught_holds_nothing_of_who_asked(clock, code, is_known):
    answers = [] if code is None else [(0, KafkaException(KafkaError(code)))] * 4

    def ask_and_catch() -> "weakref.ref[Counted]":
        owner = Counted()
        asking = questions(10)
        brokers = InTime(clock, *answers) if answers else Brokers()
        with contextlib.suppress(KafkaUnavailableError, PermanentError):
            asking.ask_known(brokers, "asking") if is_known else asking.ask(brokers, "asking")
        asking.close()
        return weakref.ref(owner)

    gc.disable()
    try:
        assert ask_and_catch()() is None
    finally:
        gc.enable()


class Forgetful:
    """Asks as another does, and holds no client."""

    def __init__(self, other: "InTime | Brokers") -> None:
        self.other = other

    def __call__(self, client: object, seconds: float) -> "dict[str, Future[int]]":
        answer = self.other(client, seconds)
        self.other.asked[-1] = None
        return answer
