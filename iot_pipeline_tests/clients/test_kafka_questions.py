"""A question that a broker leaves unanswered is asked of others, and the first answer counts."""

from concurrent.futures import Future

import pytest

from iot_pipeline.clients import kafka_questions
from iot_pipeline.clients.kafka import Heard
from iot_pipeline.clients.kafka_questions import KafkaQuestions
from iot_pipeline.errors import KafkaUnavailableError
from iot_pipeline.settings import Settings

NOBODY = {"bootstrap.servers": "127.0.0.1:1"}


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
