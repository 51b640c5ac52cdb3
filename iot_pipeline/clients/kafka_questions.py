"""Questions to the brokers by an admin client; where one says nothing, another one is asked.

Belongs here: waiting for answers. Does not belong here: which questions there are (`kafka_log`).
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from iot_pipeline.clients.kafka import Heard, open_client, refuse_shut_door
from iot_pipeline.clients.kafka_errors import translate
from iot_pipeline.errors import KafkaUnavailableError
from iot_pipeline.settings import Settings

_K = TypeVar("_K")
# A client whose controller is away or frozen waits for that broker alone, and asks no other who the
# controller is now. So the same is asked by a new client after this time, and the first answer
# counts: with one broker of three frozen, a run that waited 10 s for it stood still twice as long.
_ASK_ANOTHER_SECONDS = 2.0
_MOST_CLIENTS = 4
# A lock that waits longer would hold up Terminate. No further client is asked with less time left.
_SLICE_SECONDS = 0.2


@dataclass(slots=True, eq=False)
class _Asked(Generic[_K]):
    """One client, what it was asked, and when, in monotonic seconds.

    An error that is raised holds the frames it came through, and these hold this. So a client that
    is done with is let go by name: left to the garbage collector, each outage of a process that
    asks for days leaves clients behind, with their threads and sockets.
    """

    client: Any
    sent: Mapping[_K, "Future[Any]"]
    at: float

    def let_go(self) -> None:
        self.client = None

    @property
    def is_decided(self) -> bool:
        return all(future.done() for future in self.sent.values())


class _Answers(Generic[_K]):
    """What the clients that were asked have said so far; of each answer the first one counts."""

    def __init__(self, first: _Asked[_K]) -> None:
        self.asked = [first]
        self.found: dict[_K, Any] = {}
        self.failed: dict[Future[Any], KafkaUnavailableError] = {}
        # Who gave the newest answer.
        self.by = first

    @property
    def missing(self) -> list[_K]:
        return [key for key in self.asked[0].sent if key not in self.found]

    def pending(self) -> "list[tuple[_Asked[_K], _K, Future[Any]]]":
        """Who may still answer what is missing."""
        return [
            (one, key, future)
            for one in self.asked
            for key, future in one.sent.items()
            if key not in self.found and future not in self.failed
        ]

    @property
    def has_newest_failed(self) -> bool:
        """Whether the client that was asked last will not give all that is missing."""
        return any(self.asked[-1].sent[key] in self.failed for key in self.missing)

    @property
    def is_hopeless(self) -> bool:
        """Whether something is missing that each client has failed to say."""
        return any(all(one.sent[key] in self.failed for one in self.asked) for key in self.missing)


class KafkaQuestions:
    """One admin client, made at first use, and a new one where it does not answer.

    Args:
        settings: where the brokers are.
        config: `client_config`'s.
        heard: remembers what the clients complain about.
        timeout_seconds: how long one question may take.
    """

    def __init__(
        self, settings: Settings, config: Mapping[str, Any], heard: Heard, timeout_seconds: float
    ) -> None:
        self._settings, self._config = settings, config
        self._heard, self._timeout = heard, timeout_seconds
        self._soonest = min(_ASK_ANOTHER_SECONDS, timeout_seconds / 3)
        self._ask_another = self._soonest
        self._client: Any = None
        # Those that were not waited for, kept until what they sent is decided.
        self._passed_over: list[_Asked[Any]] = []
        self._has_answered = False

    def ask(
        self,
        question: Callable[[Any, float], Mapping[_K, "Future[Any]"]],
        doing: str,
        right: str = "",
    ) -> dict[_K, Any]:
        """The answers.

        A client that finds no broker, or one that is starting or moving, has not answered: the
        next one is asked at once, and those asked before are still heard.

        Args:
            question: asks a client, given how long it may take; a future for each answer.
            doing: attempt and coordinates for the error's message.
            right: what to say where it is denied.

        Raises:
            KafkaUnavailableError: not all came in time, or all clients failed.
            ConfigurationError: none has ever come, and none can by these settings.
            PermanentError: the first answer that is an error.
        """
        self._keep_undecided(self._passed_over)
        deadline = time.monotonic() + self._timeout
        answers = _Answers(self._put(question, self._take_kept(), self._timeout))
        try:
            self._gather(answers, question, deadline, doing, right)
        finally:
            self._keep_undecided([*self._passed_over, *answers.asked])
        return answers.found

    def _take_kept(self) -> Any:
        """The client that answered last. Unless it does again, the next question has a new one."""
        # Not `or`: a client's truth is how much waits in its queue.
        client = self._open() if self._client is None else self._client
        self._client = None
        return client

    def _keep_undecided(self, asked: Iterable[_Asked[Any]]) -> None:
        self._passed_over = []
        for one in asked:
            if one.client is self._client or one.is_decided:
                one.let_go()
            else:
                self._passed_over.append(one)

    def _gather(
        self,
        answers: _Answers[_K],
        question: Callable[[Any, float], Mapping[_K, "Future[Any]"]],
        deadline: float,
        doing: str,
        right: str,
    ) -> None:
        while answers.missing:
            pending = answers.pending()
            done, _ = wait({future for *_, future in pending}, _SLICE_SECONDS, FIRST_COMPLETED)
            for one, key, future in pending:
                if future in done and key not in answers.found:
                    self._take(answers, one, key, future, doing, right)
            if not answers.missing:
                break
            now = time.monotonic()
            newest = answers.asked[-1]
            has_waited = not done and now - newest.at > self._ask_another
            may_ask = len(answers.asked) < _MOST_CLIENTS and deadline - now > _SLICE_SECONDS
            if may_ask and (answers.has_newest_failed or has_waited):
                answers.asked.append(self._put(question, self._open(), deadline - now))
            elif answers.is_hopeless or (now > deadline and not done):
                raise self._outage(answers, doing)
        self._client = answers.by.client
        self._has_answered = True
        # A cluster that is well but slow would have a new client for each question, for ever.
        took = time.monotonic() - answers.by.at
        self._ask_another = min(self._timeout / 2, max(self._soonest, 2 * took))

    def _take(
        self,
        answers: _Answers[_K],
        one: _Asked[_K],
        key: _K,
        future: "Future[Any]",
        doing: str,
        right: str,
    ) -> None:
        exc = future.exception()
        if exc is None:
            answers.found[key], answers.by = future.result(), one
            return
        if not isinstance(exc, KafkaException):
            raise exc
        error = translate(exc, doing, at=self._settings.bootstrap_servers, right=right)
        if not isinstance(error, KafkaUnavailableError):
            self._client = one.client
            raise error from exc
        error.__cause__ = exc
        answers.failed[future] = error

    def _put(
        self,
        question: Callable[[Any, float], Mapping[_K, "Future[Any]"]],
        client: Any,
        seconds: float,
    ) -> _Asked[_K]:
        return _Asked(client, question(client, seconds), time.monotonic())

    def _open(self) -> Any:
        config = {**self._config, "reconnect.backoff.max.ms": 1000}
        return open_client(AdminClient, config, self._heard)

    def _outage(self, answers: _Answers[Any], doing: str) -> KafkaUnavailableError:
        # Names and ports of brokers that were there before are right, whatever is wrong now.
        if not self._has_answered:
            for one in answers.asked:
                one.client.poll(0)  # logs come with it
            refuse_shut_door(self._settings, self._heard, doing)
        for error in answers.failed.values():
            return error
        return KafkaUnavailableError(
            f"{doing}: Kafka at {self._settings.bootstrap_servers} did not answer in "
            f"{self._timeout:g} s. `iot status` says whether it runs, `iot up` starts it here"
        )

    def close(self) -> None:
        """Forget the clients; the next question makes a new one."""
        self._client = None
        for one in self._passed_over:
            one.let_go()
        self._passed_over.clear()
