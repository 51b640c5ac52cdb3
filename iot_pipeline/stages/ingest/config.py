"""How a run drains, and everything that it touches."""

from collections.abc import Callable
from dataclasses import dataclass, field

from iot_pipeline.core.ingest.throttle import NO_LIMIT, Limit, SetLimit
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.reading.retention import FOR_EVER, Retention
from iot_pipeline.stages.ingest.following import Follow
from iot_pipeline.stages.ingest.throttle import Throttle
from iot_pipeline.stages.ports.ingest import Throttles, Traces
from iot_pipeline.stages.ports.ledger import LedgerStore
from iot_pipeline.stages.ports.log import DeadLetterSink, NoSchemas, RecordLogReader, SchemaSource
from iot_pipeline.stages.ports.proof import DeletionLog
from iot_pipeline.stages.ports.readings import Declarations, ReadingStore
from iot_pipeline.stages.requests import retry_transient


@dataclass(frozen=True, slots=True)
class DrainConfig:
    """How a run drains; the meaning of each is that of the setting with its name.

    `micro_batch_bytes` is the memory into which a micro-batch grows when many devices are active
    (`core.ingest.sizing`); 0: it does not grow. `asked_limit` is what this run was asked for beside
    the settings' `limit`. `follow` is set for a run that stays.
    """

    rules: ReadingRules = field(default_factory=ReadingRules)
    micro_batch_records: int = 50_000
    micro_batch_seconds: float = 1.0
    requests_in_flight: int = 128
    retry_seconds: float = 30.0
    retention: Retention = FOR_EVER
    micro_batch_bytes: int = 0
    limit: Limit = NO_LIMIT
    asked_limit: SetLimit | None = None
    follow: Follow | None = None


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything a drain touches."""

    log: RecordLogReader
    store: ReadingStore
    ledger: LedgerStore
    dead_letters: DeadLetterSink
    throttles: Throttles | None = None
    deletions: DeletionLog | None = None
    schemas: SchemaSource = field(default_factory=NoSchemas)
    open_traces: Callable[[], Traces | None] = lambda: None
    declarations: Declarations | None = None

    def keep_declaration(self, rules: ReadingRules, retry_seconds: float) -> None:
        """Keep what the ledger is about to name by its fingerprint."""
        kept = self.declarations
        if kept is not None:
            retry_transient(lambda: kept.keep_declaration(rules.declaration), retry_seconds)


def open_throttle(topic: str, ports: Ports, config: DrainConfig) -> Throttle:
    """How fast a run may write its rows, as of now and as it changes."""
    throttle = Throttle(topic, ports.throttles, config.limit, config.asked_limit)
    throttle.look(config.retry_seconds)
    return throttle
