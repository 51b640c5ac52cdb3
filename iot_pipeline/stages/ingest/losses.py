"""What was not read, for Kafka deleted it before or cannot give it out: written into the ledger.

The ledger row of a loss moves the checkpoint by the same conditional write as any other: no two
runs record it, and the chain has no gap.
"""

from collections.abc import Iterable, Sequence

from iot_pipeline.core.ledger.chain import Fenced, Outcome, Rebased
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange
from iot_pipeline.core.times import in_utc, moment_of
from iot_pipeline.errors import TransientError, UnreadableError
from iot_pipeline.stages.ingest.planning import read_states
from iot_pipeline.stages.ledger.commits import commit_all, loss_commit
from iot_pipeline.stages.ports.ledger import LedgerStore, Run
from iot_pipeline.stages.ports.log import RecordLog

HALT = "halt"


def find_expired(log: RecordLog, ledger: LedgerStore, topic: str) -> list[OffsetRange]:
    """Offsets between a checkpoint and the low watermark: deleted unread; changes nothing."""
    _, _, states = read_states(log, ledger, topic)
    return [
        OffsetRange(state.partition, state.checkpoint, state.low)
        for state in states
        if state.checkpoint is not None and state.checkpoint < state.low
    ]


def record_losses(
    log: RecordLog, ledger: LedgerStore, topic: str, run: Run, retry_seconds: float
) -> list[OffsetRange]:
    """Write what expired into the ledger, outcome `expired`, and move the checkpoints past it.

    Returns:
        What this run recorded; empty when nothing is lost, or another run was faster.
    """
    expired = find_expired(log, ledger, topic)
    if not expired:
        return []
    return _commit_losses(
        ledger, topic, run, [(item, Outcome.EXPIRED, "") for item in expired], retry_seconds
    )


def record_unreadable(
    ledger: LedgerStore,
    topic: str,
    run: Run,
    found: Iterable[UnreadableError],
    retry_seconds: float,
) -> list[OffsetRange]:
    """Write what cannot be read into the ledger, and move the checkpoints past it.

    Args:
        found: those that say where they end.

    Returns:
        As `record_losses`.
    """
    losses = [
        (OffsetRange(item.partition, item.start, item.end), Outcome.UNREADABLE, item.cause)
        for item in found
    ]
    return _commit_losses(ledger, topic, run, losses, retry_seconds)


def _commit_losses(
    ledger: LedgerStore,
    topic: str,
    run: Run,
    losses: Sequence[tuple[OffsetRange, Outcome, str]],
    retry_seconds: float,
) -> list[OffsetRange]:
    checkpoints = ledger.read_checkpoints(topic, [item.partition for item, _, _ in losses])
    commits = []
    for item, outcome, cause in losses:
        checkpoint = checkpoints[item.partition]
        if checkpoint.next_offset != item.start:
            continue
        # They arrived after the last record that was ingested.
        after_ms = last_ingested_ms(ledger, topic, checkpoint)
        commits.append(
            loss_commit(topic, checkpoint, item, outcome, run, cause=cause, after_ms=after_ms)
        )
    return [
        OffsetRange(commit.partition, commit.run_start, commit.end)
        for commit, outcome in commit_all(ledger, commits, retry_seconds)
        if not isinstance(outcome, (Fenced, Rebased))
    ]


def last_ingested_ms(ledger: LedgerStore, topic: str, checkpoint: Checkpoint) -> int | None:
    """When the newest ingested record below the checkpoint arrived in Kafka, if known."""
    for entry in ledger.read_entries(topic, [checkpoint.partition]):
        if entry.epoch == checkpoint.epoch and entry.counts.last_record_ms is not None:
            return entry.counts.last_record_ms
    return None


def when_lost(log: RecordLog, ledger: LedgerStore, topic: str) -> str:
    """When what has expired had arrived in Kafka, to be added to a sentence; empty: not known."""
    try:
        expired = find_expired(log, ledger, topic)
        checkpoints = ledger.read_checkpoints(topic, [item.partition for item in expired])
        known = [
            last_ingested_ms(ledger, topic, checkpoints[item.partition])
            for item in expired
            if item.partition in checkpoints
        ]
    except TransientError:
        return ""  # the loss is what matters: a server that went away since must not hide it
    since = [ms for ms in known if ms is not None]
    if not since:
        return ""
    return f". They arrived in Kafka after {in_utc(moment_of(min(since)))}"
