"""Are a run's rows, read from Cassandra again, those of its records?"""

import time
import zlib
from collections.abc import Callable, Sequence
from datetime import datetime

from iot_pipeline.core.checks.losses import READ_BACK, judge_read_back
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.proof.deletions import Deletions
from iot_pipeline.core.reading.decoding import MS_PER_DAY
from iot_pipeline.core.reading.offsets import OffsetRange, join_ranges, parse_range
from iot_pipeline.stages.checks.check import Check, Cost
from iot_pipeline.stages.checks.facts import Facts
from iot_pipeline.stages.proof.ports import AuditConfig, AuditPorts
from iot_pipeline.stages.proof.trace import MAX_KEYS, read_back_run

# What one core reads from Kafka and Cassandra and compares in a second, with room to spare.
_KEYS_PER_SECOND = 8_000
# A row that ages while we look is not missing.
_GRACE_MS = 60_000


def look(facts: Facts) -> CheckVerdict:
    """First those that were not equal the last time; then those of a run, or of the last hour."""
    run, suspects = facts.run, [parse_range(item) for item in facts.suspects.get(READ_BACK, ())]
    if suspects:
        # By themselves: in a sample of a large range they would be left out by chance.
        again = _read_back(facts, suspects, "suspects", 0)
        if not again.passed:
            return again
    if run is None:
        newest = facts.newest_ingested
        ranges = [OffsetRange(e.partition, e.start_offset, e.end_offset) for e in newest]
        stored, seed = sum(entry.counts.stored for entry in newest), str(facts.now)
    else:
        ranges = [*run.part.ranges, *run.replayed]
        stored, seed = run.part.total.stored, run.run_id
    return _read_back(facts, ranges, seed, stored)


def _read_back(facts: Facts, ranges: Sequence[OffsetRange], seed: str, stored: int) -> CheckVerdict:
    return read_back_ranges(
        facts.ports.audit_ports,
        facts.ports.audit_config,
        facts.settings.topic,
        ranges,
        seed,
        facts.now,
        stored=stored,
        budget_seconds=facts.seconds(READ_BACK, 0.4),
    )


def read_back_ranges(
    ports: AuditPorts,
    config: AuditConfig,
    topic: str,
    ranges: Sequence[OffsetRange],
    seed: str,
    now: datetime,
    *,
    stored: int,
    budget_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> CheckVerdict:
    """Read rows from Cassandra again and compare them with their records.

    Args:
        ports: an audit's: its reading of Kafka shares nothing with ingestion.
        config: rules and limits.
        topic: its name.
        ranges: what was ingested or replayed; parts that Kafka has deleted since are left out.
        seed: of the sample, so that looking again looks at the same.
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
        seed=zlib.crc32(seed.encode()),
        deletions=Deletions(ports.store.read_deletions()),
        aged_before_ms=aged_before_ms,
        # The other half is for Cassandra: records without rows beside them would say nothing.
        is_read=lambda: clock() > deadline - budget_seconds / 2,
        is_over=lambda: clock() > deadline,
    )
    return judge_read_back(found, sum(item.span for item in ranges), stored if here else 0)


CHECK = Check(
    READ_BACK,
    "A run's rows, read from Cassandra again, are those of its records in values and write time: "
    "all up to 10,000, else a sample. On its own: those of the last hour.",
    look,
    Severity.ERROR,
    Cost.BOUNDED,
    order=70,
    settings=("IOT_CHECK_SECONDS",),
)
