"""Commit a micro-batch: all partitions' conditional writes at once, each decided for certain."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from iot_pipeline.core.ledger import Applied, Commit, Fenced, Rebased, decide_commit
from iot_pipeline.errors import CassandraUnavailableError, PipelineError, TransientError
from iot_pipeline.stages.ports import LedgerStore, PendingCommit
from iot_pipeline.stages.retry import backoff_seconds, retry_transient

_log = logging.getLogger(__name__)

MAX_SENDS = 6  # the first, and five times again


def commit_all(
    ledger: LedgerStore, commits: Sequence[Commit], give_up_after_seconds: float
) -> Iterator[tuple[Commit, Applied | Fenced | Rebased]]:
    """Send every commit, and say what became of each: applied, fenced or rebased, never unknown.

    Each is said as soon as it is certain, and an error of one is raised only when the others are
    decided: what was applied is then known to the caller, whatever becomes of the rest.

    Raises:
        CheckpointWentBackError: the ledger is behind what was committed.
        CassandraUnavailableError: the outcome could not be read; the rows are written, the
            checkpoint is wherever Cassandra has it, and the next run starts there.
    """
    yield from settle_all(ledger, send_all(ledger, commits), give_up_after_seconds)


def send_all(ledger: LedgerStore, commits: Sequence[Commit]) -> list[tuple[Commit, PendingCommit]]:
    """Start every commit at once; `settle_all` says what became of them."""
    return [(commit, _send(ledger, commit)) for commit in commits]


def settle_all(
    ledger: LedgerStore,
    pending: Sequence[tuple[Commit, PendingCommit]],
    give_up_after_seconds: float,
) -> Iterator[tuple[Commit, Applied | Fenced | Rebased]]:
    """What became of commits that were sent; waits for each, as `commit_all` does."""
    failed: PipelineError | None = None
    for commit, sent in pending:
        try:
            # After one failure the others are asked once: an outage is waited out once, not
            # once per partition.
            patience = give_up_after_seconds if failed is None else 0.0
            outcome = _settle(ledger, commit, sent, patience)
        except PipelineError as exc:
            failed = failed or exc
        else:
            yield commit, outcome
    if failed is not None:
        raise failed


@dataclass(frozen=True, slots=True)
class _NotSent:
    """A commit that failed on its way out: its outcome is asked like any other."""

    error: PipelineError
    done: bool = True
    applied: bool = False


def _send(ledger: LedgerStore, commit: Commit) -> PendingCommit:
    try:
        return ledger.send_commit(commit)
    except PipelineError as exc:
        return _NotSent(exc)


def _settle(
    ledger: LedgerStore, commit: Commit, sent: PendingCommit, give_up_after_seconds: float
) -> Applied | Fenced | Rebased:
    for attempt in range(1, MAX_SENDS + 1):
        while not sent.done:
            ledger.wait(0.1)
        error = sent.error
        if error is not None and not isinstance(error, TransientError):
            raise error
        if error is None and sent.applied:
            return Applied.YES
        state = retry_transient(
            lambda: ledger.read_state(commit), give_up_after_seconds=give_up_after_seconds
        )
        decision = decide_commit(commit, state)
        if decision is not Applied.SEND_AGAIN:
            return decision
        if attempt == MAX_SENDS:
            break  # never send without deciding what became of it
        _log.warning(
            "committing %s[%d] at %d: the answer was %s, nothing happened; sending it again",
            commit.topic,
            commit.partition,
            commit.end,
            error or "not applied",
        )
        time.sleep(backoff_seconds(attempt, 0.5))
        sent = _send(ledger, commit)
    raise CassandraUnavailableError(
        f"committing {commit.topic}[{commit.partition}] at {commit.end}: sent {MAX_SENDS} times, "
        "and nothing happened each time; the rows are written, the next run drains them again"
    )
