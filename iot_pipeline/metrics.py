"""Metrics of a pipeline and of a run: what stages measure, served as artifacts show it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from iot_pipeline.artifacts.prometheus import served
from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.connections import Connections, open_connections
from iot_pipeline.core.alerts import metrics
from iot_pipeline.core.alerts.conditions import SERVER_IS_AWAY, Condition, condition_of
from iot_pipeline.core.alerts.metrics import Sample
from iot_pipeline.core.checks.verdicts import CheckVerdict
from iot_pipeline.errors import PipelineError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.alerts.live import RunMetrics
from iot_pipeline.stages.alerts.looking import SERVERS, look_at_ingestion
from iot_pipeline.stages.alerts.measuring import (
    LedgerTotals,
    of_audit,
    of_checks,
    of_lags,
    of_newest,
)
from iot_pipeline.stages.checks.machinery.check import DAILY, HOURLY, READINGS
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.checks.machinery.registry import checks_of, look_at
from iot_pipeline.stages.run_ingest import IngestOutcome

# A server that needs longer for one question is away.
_ANSWER_SECONDS = 5.0


@contextmanager
def run_metrics(settings: Settings, outcome: IngestOutcome, lane: int = 0) -> Iterator[RunMetrics]:
    """The metrics of a run that stays, served until it ends, if IOT_METRICS_PORT is set.

    At that port and `lane`: lanes are processes of one host, mostly.
    """
    live = RunMetrics()
    if not settings.metrics_port:
        yield live
        return
    outcome.probe.on_measured = live.measured
    live.in_flight = lambda: outcome.drained.in_flight()
    address = settings.metrics_address
    with live, served(settings.metrics_port + lane, address, live.samples, waits=True):
        yield live


@contextmanager
def open_watching(settings: Settings) -> Iterator[Connections]:
    """Clients that wait no longer for a server than a look may take."""
    cassandra = CassandraClient(
        settings, request_timeout_seconds=_ANSWER_SECONDS, connect_timeout_seconds=_ANSWER_SECONDS
    )
    log = KafkaLog(settings, timeout_seconds=_ANSWER_SECONDS)
    with open_connections(settings, log=log, cassandra=cassandra) as connections:
        yield connections


@dataclass(slots=True)
class Look:
    """What one look found: conditions for alerts, samples for metrics."""

    conditions: list[Condition] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


class Observer:
    """Looks at a pipeline from outside, again and again, and keeps what need not be asked twice.

    Checks are looked at every `checks_seconds` (None: never); between two looks their samples are
    those of the last one, their conditions are not repeated.
    """

    def __init__(self, connections: Connections, checks_seconds: float | None) -> None:
        self._connections, self._checks_seconds = connections, checks_seconds
        settings = connections.settings
        self._totals = LedgerTotals(connections.ledger, settings.topic)
        self._of_checks: list[Sample] = []
        self._suspects: dict[str, tuple[str, ...]] = {}
        self._checked_at: float | None = None

    def look(self, now: datetime) -> Look:
        """Everything, as of now; what cannot be asked is left out, and a condition says so."""
        began, found = time.monotonic(), Look()
        connections, topic = self._connections, self._connections.settings.topic
        looked = look_at_ingestion(connections.log, connections.ledger, connections.settings, now)
        found.conditions += looked.conditions
        found.samples += of_lags(topic, looked.lags)
        states = {c.name: c.level for c in looked.conditions if c.kind == SERVER_IS_AWAY}
        for server in SERVERS:
            if server in states:
                found.samples.append(Sample(metrics.UP, not states[server], {"server": server}))
        if looked.lags:
            found.samples += self._of_ledger(range(len(looked.lags)), now)
        if self._is_due(began):
            self._look_at_checks(found, now)
            self._checked_at = began
        found.samples += self._of_checks
        found.samples.append(Sample(metrics.LOOK_SECONDS, time.monotonic() - began))
        return found

    def _of_ledger(self, partitions: range, now: datetime) -> list[Sample]:
        connections, topic = self._connections, self._connections.settings.topic
        try:
            self._totals.update(partitions, now)
            newest = connections.ledger.read_entries(topic, partitions, limit=1)
            last = connections.audits.read_last_audit(topic)
        except PipelineError:
            # The server went away within this look: the next one says so.
            return []
        return [*self._totals.samples(), *of_newest(topic, newest), *of_audit(last)]

    def _is_due(self, now: float) -> bool:
        if self._checks_seconds is None:
            return False
        return self._checked_at is None or now - self._checked_at >= self._checks_seconds

    def _look_at_checks(self, found: Look, now: datetime) -> None:
        facts = Facts(self._connections, now, suspects=self._suspects)
        verdicts: list[tuple[str, CheckVerdict]] = []
        for table in (READINGS, HOURLY, DAILY):
            verdicts += [(table, one) for one in look_at(checks_of(table), facts)]
        for table, verdict in verdicts:
            name = "" if table == READINGS else table
            path = f"/assets/iot/{table}?view=checks"
            condition = condition_of(verdict, table=name, path=path)
            if condition is not None:
                found.conditions.append(condition)
        self._suspects = {v.name: tuple(v.suspects) for _, v in verdicts if v.suspects}
        self._of_checks = list(of_checks(verdicts, now))
