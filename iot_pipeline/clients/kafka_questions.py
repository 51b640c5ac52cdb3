"""Questions to the brokers by an admin client; where one says nothing, another one is asked.

Belongs here: waiting for answers. Does not belong here: which questions there are (`kafka_log`).
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

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
# A lock that waits longer would hold up Terminate.
_SLICE_SECONDS = 0.2


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
        self._ask_another = min(_ASK_ANOTHER_SECONDS, timeout_seconds / 3)
        self._client: Any = None
        # Those that were not waited for, kept until what they sent is decided.
        self._passed_over: list[tuple[Any, list[Future[Any]]]] = []
        self._has_answered = False

    def ask(
        self,
        question: Callable[[Any, float], Mapping[_K, "Future[Any]"]],
        doing: str,
        right: str = "",
    ) -> dict[_K, Any]:
        """The answers.

        Args:
            question: asks a client, given how long it may take; a future for each answer.
            doing: attempt and coordinates for the error's message.
            right: what to say where it is denied.

        Raises:
            KafkaUnavailableError: not all came in time.
            ConfigurationError: none has ever come, and none can by these settings.
            PermanentError: the first answer that is an error.
        """
        began = time.monotonic()
        deadline = began + self._timeout
        asked = [question(self._admin, self._timeout)]
        answers: dict[_K, Any] = {}
        while True:
            missing = [
                (key, future) for one in asked for key, future in one.items() if key not in answers
            ]
            if not missing:
                self._has_answered = True
                return answers
            done, _ = wait((f for _, f in missing), _SLICE_SECONDS, FIRST_COMPLETED)
            for key, future in missing:
                if future in done and key not in answers:
                    answers[key] = self._answer(future, doing, right)
            now = time.monotonic()
            if done:
                continue
            if now > deadline:
                self._give_up_on_client(doing)
                raise KafkaUnavailableError(
                    f"{doing}: Kafka at {self._settings.bootstrap_servers} did not answer in "
                    f"{self._timeout:g} s. `iot status` says whether it runs, `iot up` starts "
                    "it here"
                )
            if len(asked) < _MOST_CLIENTS and now - began > len(asked) * self._ask_another:
                self._pass_over([*asked[-1].values()])
                asked.append(question(self._admin, deadline - now))

    @property
    def _admin(self) -> Any:
        if self._client is None:
            self._passed_over = [
                (client, sent)
                for client, sent in self._passed_over
                if not all(future.done() for future in sent)
            ]
            self._client = open_client(
                AdminClient, {**self._config, "reconnect.backoff.max.ms": 1000}, self._heard
            )
        return self._client

    def _pass_over(self, sent: list["Future[Any]"]) -> None:
        self._passed_over.append((self._client, sent))
        self._client = None

    def _answer(self, future: "Future[Any]", doing: str, right: str) -> Any:
        try:
            return future.result()
        except KafkaException as exc:
            error = translate(exc, doing, at=self._settings.bootstrap_servers, right=right)
            if isinstance(error, KafkaUnavailableError):
                self._give_up_on_client(doing)
            raise error from exc

    def _give_up_on_client(self, doing: str) -> None:
        # Names and ports of brokers that were there before are right, whatever is wrong now.
        if not self._has_answered:
            self._admin.poll(0)  # logs come with it
            refuse_shut_door(self._settings, self._heard, doing)
        self._client = None

    def close(self) -> None:
        """Forget the clients; the next question makes a new one."""
        self._client = None
        self._passed_over.clear()
