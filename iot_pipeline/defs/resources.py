"""What a run stands on: its clients, its log while it works, and why it fails.

Of its clients a run may change the timeouts. Addresses and secrets are never in run config, which
everybody who sees the UI can read: they come from the settings, when a client is built, in the
process that uses it.
"""

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from pydantic import ConfigDict, Field

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.connections import Connections, open_connections
from iot_pipeline.defs.names import SERVER_AWAY
from iot_pipeline.defs.pipeline import Pipeline
from iot_pipeline.errors import PipelineError, TransientError
from iot_pipeline.settings import Settings

_SAID_EVERY_SECONDS = 2.0
# A tick that waits longer holds up every other sensor of the process.
TICK_ANSWER_SECONDS = 2.0


@functools.lru_cache(maxsize=64)
def tick_clients(settings: Settings, sensor: str) -> tuple[KafkaLog, CassandraClient]:
    """Clients of a sensor's ticks, which it may close; no other sensor has them.

    They are kept from tick to tick: the code server lives for days, and every new client would
    leave threads behind for a while.
    """
    return (
        KafkaLog(settings, timeout_seconds=TICK_ANSWER_SECONDS),
        CassandraClient(
            settings,
            request_timeout_seconds=TICK_ANSWER_SECONDS,
            connect_timeout_seconds=TICK_ANSWER_SECONDS,
        ),
    )


class KafkaResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Kafka, at IOT_BOOTSTRAP_SERVERS."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    timeout_seconds: float = Field(default=10.0, ge=0.5, le=60)
    """How long Kafka may take to answer one question, 0.5 to 60 seconds."""

    def open(self, settings: Settings) -> KafkaLog:
        return KafkaLog(settings, timeout_seconds=self.timeout_seconds)


class CassandraResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Cassandra, at IOT_CONTACT_POINTS and IOT_CASSANDRA_PORT."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    request_timeout_seconds: float = Field(default=10.0, ge=0.5, le=120)
    """How long Cassandra may take to answer one request, 0.5 to 120 seconds."""
    connect_timeout_seconds: float = Field(default=5.0, ge=0.5, le=60)
    """How long connecting to a node may take, 0.5 to 60 seconds."""

    def open(self, settings: Settings) -> CassandraClient:
        return CassandraClient(
            settings,
            request_timeout_seconds=self.request_timeout_seconds,
            connect_timeout_seconds=self.connect_timeout_seconds,
        )


@contextmanager
def failing_with_advice() -> Iterator[None]:
    """Fail the op with the message of an error we raise on purpose; others pass as they are.

    Interruptions are no `Exception` and pass too: Terminate must stay one.
    """
    try:
        yield
    except PipelineError as exc:
        raise dg.Failure(
            description=str(exc),
            metadata={SERVER_AWAY: exc.away} if exc.away else None,
            allow_retries=isinstance(exc, TransientError),
        ) from exc


@contextmanager
def connected(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    pipeline: Pipeline,
    *,
    answer_seconds: float | None = None,
) -> Iterator[Connections]:
    """The clients of a run, closed however it ends; fails with advice. The settings are read here.

    `answer_seconds` shortens how long a question may take.
    """
    with failing_with_advice():
        settings = pipeline.settings()
        kafka: KafkaResource = getattr(context.resources, pipeline.called("kafka"))
        cassandra: CassandraResource = getattr(context.resources, pipeline.called("cassandra"))
        if answer_seconds is not None:
            kafka = KafkaResource(timeout_seconds=min(answer_seconds, kafka.timeout_seconds))
            cassandra = CassandraResource(
                request_timeout_seconds=min(answer_seconds, cassandra.request_timeout_seconds),
                connect_timeout_seconds=min(answer_seconds, cassandra.connect_timeout_seconds),
            )
        log, client = kafka.open(settings), cassandra.open(settings)
        with open_connections(settings, log=log, cassandra=client) as connections:
            yield connections


class NowAndThen:
    """Progress in the run's log, a line every two seconds at most."""

    def __init__(self, context: dg.OpExecutionContext | dg.AssetExecutionContext) -> None:
        self._log = context.log
        self._said_at = time.monotonic()

    def __call__(self, line: str) -> None:
        if time.monotonic() - self._said_at >= _SAID_EVERY_SECONDS:
            self._said_at = time.monotonic()
            self._log.info("%s", line)
