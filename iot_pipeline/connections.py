"""Every client that a drain or a question takes: made by the settings, closed at the end.

The one place where stages meet clients; `cli` and `defs` both stand on it.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from iot_pipeline.clients.audit_log import KafkaAuditLog
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.dead_letters import KafkaDeadLetters
from iot_pipeline.clients.declarations import CassandraDeclarations
from iot_pipeline.clients.device_states import CassandraDeviceStates
from iot_pipeline.clients.device_tables import CassandraDeviceTables
from iot_pipeline.clients.devices_by_day import CassandraDeviceDays
from iot_pipeline.clients.kafka import check_config
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.clients.ledger_store import CassandraLedgerStore
from iot_pipeline.clients.ledger_sums import CassandraLedgerSums
from iot_pipeline.clients.packed_batch import open_reading_store
from iot_pipeline.clients.remembered import (
    CassandraAcknowledgedLosses,
    CassandraAudits,
    CassandraDeletions,
    CassandraMendedRows,
    CassandraSettlements,
    CassandraStops,
    CassandraThrottles,
)
from iot_pipeline.clients.rollup_store import CassandraRollupStore
from iot_pipeline.clients.run_costs import CassandraRunCosts
from iot_pipeline.clients.schema_store import CassandraSchema, KafkaTopics
from iot_pipeline.clients.sensor_data import CassandraSensorData
from iot_pipeline.clients.traces import open_traces
from iot_pipeline.core.checks.schema import Difference
from iot_pipeline.core.ingest.sizing import memory_of_micro_batch
from iot_pipeline.core.ingest.throttle import Limit, SetLimit
from iot_pipeline.core.proof.audit_result import dying
from iot_pipeline.core.reading.quantities import Quantity, are_in_parts
from iot_pipeline.errors import MissingRightError, SchemaMismatchError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.fleet.rows import FleetPorts
from iot_pipeline.stages.ingest.config import DrainConfig, Ports
from iot_pipeline.stages.ingest.planning import Plan, make_plan
from iot_pipeline.stages.ports.ingest import Traces
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.ports.log import NoSchemas, SchemaSource
from iot_pipeline.stages.ports.proof import Receipts
from iot_pipeline.stages.ports.readings import ReadingStore
from iot_pipeline.stages.proof.ports import AuditPorts, History
from iot_pipeline.stages.proof.replay import replay
from iot_pipeline.stages.proof.replay_dead_letters import LetterReplay, replay_dead_letters
from iot_pipeline.stages.proof.replay_progress import ReplayProgress
from iot_pipeline.stages.proof.reread import Reread
from iot_pipeline.stages.reading.slices import SlicedRows
from iot_pipeline.stages.rollups.rebuild import RollupPorts
from iot_pipeline.stages.run_ingest import IngestRequest
from iot_pipeline.stages.schema import SchemaReport, check_schema, setup_schema
from iot_pipeline.tls import tls_context

if TYPE_CHECKING:
    from iot_pipeline.stages.ingest.look_ahead import Ahead


class Tables:
    """Every table of the pipeline, through one client of Cassandra."""

    def __init__(self, cassandra: CassandraClient) -> None:
        self.cassandra = cassandra
        settings = cassandra.settings
        # Once: a property, made anew each time it is asked.
        self.quantities = settings.quantities
        self.rows = self.rows_of(self.quantities)
        self.declarations = CassandraDeclarations(cassandra)
        self.days = CassandraDeviceDays(cassandra)
        self.ledger = CassandraLedgerStore(cassandra)
        self.ledger_sums = CassandraLedgerSums(cassandra)
        self.rollups = CassandraRollupStore(cassandra, self.quantities)
        self.audits = CassandraAudits(cassandra)
        self.settlements = CassandraSettlements(cassandra)
        self.stops = CassandraStops(cassandra)
        self.throttles = CassandraThrottles(cassandra)
        self.run_costs = CassandraRunCosts(cassandra)
        self.deletions = CassandraDeletions(cassandra)
        self.receipts: Receipts = self.deletions
        self.mends = CassandraMendedRows(cassandra)
        self.acknowledgements = CassandraAcknowledgedLosses(cassandra)
        self.tables = CassandraSchema(cassandra)
        states = CassandraDeviceStates(cassandra)
        self.device_tables = CassandraDeviceTables(self.rollups, states, self.mends, self.days)
        self.fleet_ports = FleetPorts(states, self.rows, self.days, self.deletions)
        self.rollup_ports = RollupPorts(
            self.quantities, self.rollups, self.rows, self.days, self.ledger, self.deletions
        )

    def rows_of(self, quantities: Sequence[Quantity]) -> SlicedRows:
        """The rows of readings, with these columns."""
        return SlicedRows(
            CassandraSensorData(self.cassandra, quantities),
            len(quantities),
            self.cassandra.settings.retention,
            in_parts=are_in_parts(quantities),
        )


class Connections(Tables):
    """Everything a command or a run may ask; nothing is contacted before it is used."""

    def __init__(self, settings: Settings, log: KafkaLog, cassandra: CassandraClient) -> None:
        super().__init__(cassandra)
        self.settings = settings
        self.log = log
        self.store = open_reading_store(cassandra, settings)
        self.dead_letters = KafkaDeadLetters(settings)
        self.schemas = schemas_of(settings)
        self.ports = Ports(
            log,
            self.store,
            self.ledger,
            self.dead_letters,
            self.throttles,
            self.deletions,
            self.schemas,
            self.open_traces,
            self.declarations,
        )
        self._traces: Traces | None = None
        self.audit_ports = AuditPorts(
            settings,
            log,
            self.ledger,
            KafkaAuditLog(settings),
            self.rows,
            self.days,
            self.deletions,
            self.mends,
            self.audits,
            live_seconds=self.live_seconds,
            schemas=self.schemas,
            history=History(
                self.declarations, self.rows_of, self.store_of, self.tables.reading_columns
            ),
        )
        self.quality_limits = settings.quality_limits

    def open_traces(self) -> Traces | None:
        """What takes the traces of micro-batches; None where none are wanted."""
        if self._traces is None:
            self._traces = open_traces()
        return self._traces

    def store_of(self, quantities: Sequence[Quantity]) -> ReadingStore:
        """What writes rows with these columns."""
        return open_reading_store(self.cassandra, self.settings, quantities)

    def close(self) -> None:
        if self._traces is not None:
            self._traces.close()
        self.dead_letters.close()
        self.log.close()
        self.cassandra.close()

    def live_seconds(self) -> int:
        """How long a row lives that is written without a lifetime of its own; 0: for ever."""
        return 0 if self.settings.retention.may_end else self.tables.live_seconds()

    def set_up(self, say: Callable[[str], None] = lambda _: None) -> SchemaReport:
        """Make topics, keyspace and tables where they are missing; see `setup_schema`."""
        topics = KafkaTopics(self.settings)
        report = setup_schema(topics, self.log, self.tables, self.settings, say)
        # The first run keeps it as well, so a user that may only look can set up.
        with suppress(MissingRightError):
            self.declarations.keep_declaration(self.settings.declaration)
        return report

    def plan_ahead(
        self, max_records: int | None = None, partitions: Container[int] | None = None
    ) -> "tuple[Plan, Ahead, list[Difference]]":
        """What a drain would read now, what its first records would become, how tables differ.

        Nothing is written, not even a first contact with the topic.
        """
        # Dagster loads this module for each run, and few runs look ahead.
        from iot_pipeline.stages.ingest.look_ahead import look_ahead

        settings = self.settings
        plan = make_plan(
            self.log,
            self.ledger,
            settings.topic,
            start_at=settings.start_at,
            max_records=max_records,
            partitions=partitions,
            accept_producer_timestamps=settings.accept_producer_timestamps,
            is_dry=True,
        )
        ahead = look_ahead(
            plan, self.log, self.schemas, settings.reading_rules, settings.retry_seconds
        )
        return plan, ahead, check_schema(self.tables, settings).differences

    def replay(
        self,
        plan: Plan,
        run: Run,
        progress: ReplayProgress,
        rereads: Sequence[Reread],
        *,
        limit: SetLimit | None = None,
        **watched: Any,
    ) -> None:
        """Write ranges again; `limit` is what this run was asked for.

        Args:
            rereads: by which declaration, as `choose_reading` says it.

        Raises:
            SchemaMismatchError: the table would forget the rows at once (`default_time_to_live`).
        """
        if live_seconds := self.live_seconds():
            raise SchemaMismatchError(
                f"replaying: {self.settings.keyspace}.sensor_data {dying(live_seconds)}"
            )
        config = replace(drain_config(self.settings), asked_limit=limit)
        started_at = datetime.now(UTC)
        for reread in rereads:
            ports, proof, declaration = self.ports, self.audit_ports, reread.declaration
            if declaration.fingerprint != self.settings.declaration.fingerprint:
                columns = declaration.quantities
                ports = replace(ports, store=self.store_of(columns))
                proof = replace(proof, declaration=declaration, rows=self.rows_of(columns))
            replay(
                replace(plan, replay=reread.ranges),
                ports,
                proof,
                run,
                replace(config, rules=replace(config.rules, declaration=declaration)),
                progress=progress,
                started_at=started_at,
                added=reread.added,
                **watched,
            )

    def replay_letters(self, run: Run, reason: str | None) -> LetterReplay:
        """Store the dead letters that the present declaration accepts."""
        return replay_dead_letters(
            self.ports, self.audit_ports, run, drain_config(self.settings), reason=reason
        )


@contextmanager
def open_connections(
    settings: Settings, *, log: KafkaLog | None = None, cassandra: CassandraClient | None = None
) -> Iterator[Connections]:
    """Clients of Kafka and Cassandra by these settings; those given are used, and closed too.

    Raises:
        ConfigurationError: a client does not take its configuration; nothing was contacted.
    """
    if settings.kafka_has_tls or settings.kafka_has_sasl or settings.kafka_properties:
        check_config(settings)
    tls_context(settings.cassandra_tls)
    connections = Connections(
        settings, log or KafkaLog(settings), cassandra or CassandraClient(settings)
    )
    try:
        yield connections
    finally:
        connections.close()


def schemas_of(settings: Settings) -> SchemaSource:
    """What knows the schemas of messages; it is not asked where they name none."""
    if not settings.registry_url:
        return NoSchemas()
    from iot_pipeline.clients.registry import SchemaRegistry

    return SchemaRegistry(settings)


def drain_config(settings: Settings) -> DrainConfig:
    return DrainConfig(
        rules=settings.reading_rules,
        micro_batch_records=settings.micro_batch_records,
        micro_batch_seconds=settings.micro_batch_seconds,
        requests_in_flight=settings.requests_in_flight,
        retry_seconds=settings.retry_seconds,
        retention=settings.retention,
        micro_batch_bytes=memory_of_micro_batch(settings.memory_budget_mb),
        limit=Limit(settings.max_rows_per_second, settings.max_bytes_per_second),
    )


def asked_limit(rows: int | None, size_bytes: int | None) -> SetLimit | None:
    """What a run is asked for now; None: nothing. With one of the two the other is 0, no limit."""
    if rows is None and size_bytes is None:
        return None
    return SetLimit(Limit(rows or 0, size_bytes or 0), datetime.now(UTC))


def ingest_request(
    settings: Settings, run: Run, *, limit: SetLimit | None = None, **asked: Any
) -> IngestRequest:
    """A run by these settings; `limit` and `asked`, fields of IngestRequest, are its own."""
    return IngestRequest(
        settings.topic,
        run,
        replace(drain_config(settings), asked_limit=limit),
        start_at=settings.start_at,
        on_expired=settings.on_expired,
        on_unreadable=settings.on_unreadable,
        accept_producer_timestamps=settings.accept_producer_timestamps,
        **asked,
    )
