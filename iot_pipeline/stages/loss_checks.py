"""Gather the facts on what is, or may soon be, missing, and have them judged; changes nothing."""

import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from iot_pipeline.core.checks import CheckVerdict
from iot_pipeline.core.deletions import Deletions
from iot_pipeline.core.lag import PartitionLag
from iot_pipeline.core.ledger import ChainLink, LedgerEntry, Outcome
from iot_pipeline.core.loss_checks import (
    judge_dead_letters,
    judge_losses,
    judge_read_back,
    judge_retention,
    measure_headroom,
)
from iot_pipeline.core.losses import Acknowledgement, find_losses
from iot_pipeline.core.offsets import OffsetRange, join_ranges
from iot_pipeline.core.readings import MS_PER_DAY
from iot_pipeline.stages.audit_ports import AuditConfig, AuditPorts
from iot_pipeline.stages.checks import RECENT, recent_entries
from iot_pipeline.stages.dead_letters import read_newest_letters
from iot_pipeline.stages.lag import first_record_ms
from iot_pipeline.stages.ports import LedgerStore, RecordLogReader
from iot_pipeline.stages.trace import MAX_KEYS, read_back_run

# Letters are looked at from the end of their topic, so many for their reasons.
_NEWEST_LETTERS = 200
# What one core reads from Kafka and Cassandra and compares in a second, with room to spare.
_KEYS_PER_SECOND = 8_000
_LOG_SECONDS = 3.0
# A row that ages while we look is not missing.
_GRACE_MS = 60_000


class LossLedger(Protocol):
    """Losses alone, without reading the whole ledger."""

    def read_expired(self, topic: str, partitions: Sequence[int]) -> list[LedgerEntry]: ...


class Acknowledgements(Protocol):
    """Which losses a person has seen."""

    def acknowledged_losses(self, topic: str) -> Mapping[str, Acknowledgement]: ...


def check_read_back(
    ports: AuditPorts,
    config: AuditConfig,
    topic: str,
    ranges: Sequence[OffsetRange],
    run_id: str,
    now: datetime,
    *,
    stored: int,
    budget_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> CheckVerdict:
    """Read a run's rows from Cassandra again and compare them with its records.

    Args:
        ports: an audit's: its reading of Kafka shares nothing with ingestion.
        config: rules and limits.
        topic: its name.
        ranges: what the run ingested or replayed; parts that Kafka has deleted since are left out.
        run_id: seeds the sample, so that looking again looks at the same.
        now: aware.
        stored: rows that were made of them; none compared is then no success.
        budget_seconds: how long it may take: fewer keys, and the end when it is over; some rows
            are compared however late it is.
        clock: monotonic seconds.
    """
    deadline = clock() + budget_seconds
    low = {marks.partition: marks.low for marks in ports.log.watermarks(topic)}
    here = [
        OffsetRange(item.partition, max(item.start, low[item.partition]), item.end)
        for item in join_ranges(ranges)
        if item.partition in low and item.end > low[item.partition]
    ]
    aged_before_ms = 0.0
    if config.retention_days:
        aged_before_ms = now.timestamp() * 1000 + _GRACE_MS - config.retention_days * MS_PER_DAY
    found = read_back_run(
        ports.log,
        ports.records,
        ports.rows,
        topic,
        config.rules,
        here,
        config.retry_seconds,
        max_keys=min(MAX_KEYS, int(_KEYS_PER_SECOND * budget_seconds)),
        seed=zlib.crc32(run_id.encode()),
        deletions=Deletions(ports.store.read_deletions()),
        aged_before_ms=aged_before_ms,
        # The other half is for Cassandra: records without rows beside them would say nothing.
        is_read=lambda: clock() > deadline - budget_seconds / 2,
        is_over=lambda: clock() > deadline,
    )
    return judge_read_back(found, sum(item.span for item in ranges), stored if here else 0)


def newest_entries(
    ledger: LedgerStore, topic: str, partitions: Sequence[int], now: datetime
) -> list[LedgerEntry]:
    """What was ingested within the last hour; a check on its own reads that back."""
    epochs = {p: c.epoch for p, c in ledger.read_checkpoints(topic, partitions).items()}
    return [
        entry
        for entry in recent_entries(ledger, topic, partitions, now)
        if entry.outcome is Outcome.INGESTED
        and entry.span > 0
        and entry.epoch == epochs.get(entry.partition)
    ]


def check_losses(
    ledger: LossLedger, seen: Acknowledgements, topic: str, partitions: Sequence[int]
) -> CheckVerdict:
    """Whether something expired unread that nobody has acknowledged."""
    entries = ledger.read_expired(topic, partitions)
    return judge_losses(find_losses(entries, seen.acknowledged_losses(topic) if entries else {}))


def check_retention(
    log: RecordLogReader,
    topic: str,
    lags: Sequence[PartitionLag],
    topic_config: Mapping[str, str | None],
    now: datetime,
) -> CheckVerdict:
    """How far Kafka's retention is from what was not read yet.

    Args:
        log: Kafka; asked for records only where the topic is limited by size.
        topic: its name.
        lags: of all partitions, as of `now`.
        topic_config: retention.ms, retention.bytes, cleanup.policy.
        now: aware.
    """
    deletes = "delete" in (topic_config.get("cleanup.policy") or "delete")
    retention_ms = int(topic_config.get("retention.ms") or -1) if deletes else -1
    retention_bytes = int(topic_config.get("retention.bytes") or -1) if deletes else -1
    oldest: dict[int, int] = {}
    if retention_bytes >= 0:
        full = [
            OffsetRange(lag.partition, lag.low, lag.last_stable)
            for lag in lags
            if lag.last_stable > lag.low > 0
        ]
        oldest = first_record_ms(log, topic, full, _LOG_SECONDS)
    now_ms = now.timestamp() * 1000
    return judge_retention(
        [
            measure_headroom(
                lag.partition,
                low=lag.low,
                checkpoint=lag.low if lag.checkpoint is None else lag.checkpoint,
                end=lag.last_stable,
                lag_seconds=lag.lag_seconds,
                log_seconds=(now_ms - oldest[lag.partition]) / 1000
                if lag.partition in oldest
                else None,
                retention_seconds=retention_ms / 1000 if retention_ms >= 0 else None,
            )
            for lag in lags
        ]
    )


def check_dead_letters(
    log: RecordLogReader,
    recent: Sequence[ChainLink],
    topic: str,
    dead_letter_topic: str,
    now: datetime,
    limit: float,
) -> CheckVerdict:
    """The share of the last hour's records that could not be readings, and why.

    Args:
        log: asked for letters when there were any.
        recent: the ledger's links of the last hour.
        topic: whose records.
        dead_letter_topic: where their letters are.
        now: aware.
        limit: the share, above which it is a warning.
    """
    since = now - RECENT
    rejected = sum(link.rejected for link in recent)
    records = sum(link.accounted - link.holes for link in recent)
    reasons: Counter[str] = Counter()
    if rejected:
        found = read_newest_letters(log, dead_letter_topic, _NEWEST_LETTERS)
        reasons.update(
            item.letter.reason
            for item in found.letters
            if item.letter.source.topic == topic
            and item.letter.delivered_ms >= since.timestamp() * 1000
        )
    return judge_dead_letters(rejected, records, reasons, limit)
