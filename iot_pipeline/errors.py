"""Every error iot_pipeline raises, sorted by what the caller can do about it.

A `ConfigurationError` is wrong before any I/O: fix a setting, then start again. After a
`TransientError` the same call may succeed later: retry. After a `PermanentError` a retry cannot
change the answer: fail and tell a person.

A reading that cannot be decoded is not an error: it is a `DeadLetter`, a value that travels
with the micro-batch. One bad device must not stop a partition. A run that another run overtook
is not an error either: `Fenced` is an outcome (`core.ledger.chain`).
"""

from typing import ClassVar


class PipelineError(Exception):
    """Anything iot_pipeline raises on purpose; the message says what to do next."""

    # The server that did not answer, where that is what is wrong.
    away: ClassVar[str] = ""


class ConfigurationError(PipelineError):
    """A setting is wrong; nothing was contacted yet."""


class TransientError(PipelineError):
    """The same call may succeed later."""

    away = "a server"


class KafkaUnavailableError(TransientError):
    """Kafka did not answer, or not in time."""

    away = "Kafka"


class CassandraUnavailableError(TransientError):
    """Cassandra did not answer, or not in time, or not with enough replicas."""

    away = "Cassandra"


class CassandraSlowError(CassandraUnavailableError):
    """Cassandra was asked and did not answer in time; a smaller question may be answered."""


class RegistryUnavailableError(TransientError):
    """The schema registry did not answer, or not in time."""

    away = "the schema registry"


class PermanentError(PipelineError):
    """A retry cannot change the answer; a person has to."""


class MissingRightError(PermanentError):
    """Our user may not do this; the message has the line that grants it."""


class OffsetsExpiredError(PermanentError):
    """Kafka deleted records above the checkpoint before they were read."""


class UnreadableError(PermanentError):
    """Kafka has records that it cannot hand out: offsets [start, end) of one partition.

    `cause` says why, in words, as the ledger keeps it. An `end` of 0: it cannot be told.
    `newest_ms` is the Kafka timestamp of the newest of the first batch, None where it may lie.
    """

    def __init__(
        self,
        message: str,
        *,
        partition: int = -1,
        start: int = 0,
        end: int = 0,
        cause: str = "",
        newest_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.partition, self.start, self.end = partition, start, end
        self.cause, self.newest_ms = cause, newest_ms


class TopicChangedError(PermanentError):
    """The topic was recreated, truncated or swapped since the checkpoint was written."""


class CheckpointWentBackError(PermanentError):
    """The ledger was wiped, or Cassandra came back older than what it acknowledged."""


class SchemaMismatchError(PermanentError):
    """A topic, a table or a migration differs from what this version expects."""


class TooManyTombstonesError(PermanentError):
    """Too many deleted or expired cells lie in what one question reads; ask for less at once."""


class RowsRefusedError(PermanentError):
    """Cassandra refuses rows that are valid readings."""


class ServiceError(PermanentError):
    """A local server could not be started or stopped; the message carries its last words."""


class RollupFrozenError(PermanentError):
    """The rows of a day age out; its rollups stay as they are."""


class PlanError(PermanentError):
    """Offsets that cannot be drained as asked: a skip, or a range the log does not have."""
