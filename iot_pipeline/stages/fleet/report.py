"""Gather every fact of a health report; reads only, safe beside ingestion."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol

from iot_pipeline.core.checks.verdicts import CheckVerdict
from iot_pipeline.core.fleet.problems import Fleet
from iot_pipeline.core.fleet.report import Health, LastAudit
from iot_pipeline.core.ledger.chain import Outcome, sum_counts
from iot_pipeline.core.ledger.losses import Acknowledgement, find_losses
from iot_pipeline.core.reading.lag import total_lag
from iot_pipeline.errors import SchemaMismatchError
from iot_pipeline.stages.fleet.view import ViewPorts, view_fleet
from iot_pipeline.stages.ingest.lag import read_lag
from iot_pipeline.stages.ledger.chain import read_chain
from iot_pipeline.stages.ports import RecordLogReader
from iot_pipeline.stages.proof.dead_letters import read_newest_letters

_NEWEST_LETTERS = 1000
_INGESTED = (Outcome.INGESTED, Outcome.FOLDED)


class Proofs(Protocol):
    """What audits proved and what people have seen."""

    def read_last_audit(self, topic: str) -> LastAudit | None: ...
    def acknowledged_losses(self, topic: str) -> dict[str, Acknowledgement]: ...


class HealthPorts(ViewPorts, Protocol):
    """What is asked."""

    @property
    def log(self) -> RecordLogReader: ...
    @property
    def audit_store(self) -> Proofs: ...


def gather_health(
    ports: HealthPorts,
    topic: str,
    dead_letter_topic: str,
    fleet: Fleet,
    verdicts: Iterable[CheckVerdict],
    now: datetime,
) -> Health:
    """The pipeline and its fleet, which was looked at just now.

    Losses that a person has acknowledged are not counted as expired again.

    Raises:
        TransientError: Kafka or Cassandra did not answer.
        SchemaMismatchError: a topic or table is not there.
    """
    chain = read_chain(ports.ledger, topic, range(ports.log.describe(topic).partitions))
    lag = total_lag(read_lag(ports.log, ports.ledger, topic, now))
    losses = find_losses(chain.entries, ports.audit_store.acknowledged_losses(topic))
    return Health(
        now,
        topic,
        sum_counts(entry.counts for entry in chain.entries if entry.outcome in _INGESTED),
        sum(loss.entry.span for loss in losses if loss.acknowledgement is None),
        [str(flaw) for flaw in chain.flaws],
        lag,
        ports.audit_store.read_last_audit(topic),
        _letters(ports.log, dead_letter_topic, now - timedelta(days=1)),
        view_fleet(ports, topic, fleet, now),
        list(verdicts),
    )


def _letters(log: RecordLogReader, dead_letter_topic: str, since: datetime) -> dict[str, int]:
    since_ms = since.timestamp() * 1000
    try:
        found = read_newest_letters(log, dead_letter_topic, _NEWEST_LETTERS)
    except SchemaMismatchError:
        # Not made yet: `schema_matches` says so, and there are no letters.
        return {}
    reasons = Counter(
        item.letter.reason for item in found.letters if item.letter.delivered_ms >= since_ms
    )
    return dict(reasons.most_common())
