"""Commit a micro-batch: all partitions' conditional writes at once, each decided for certain."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from iot_pipeline.core.ledger.chain import (
    Applied,
    Commit,
    Counts,
    Fenced,
    Outcome,
    Rebased,
    decide_commit,
)
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange
from iot_pipeline.errors import (
    CassandraUnavailableError,
    CheckpointWentBackError,
    PipelineError,
    TransientError,
)
from iot_pipeline.stages.ports.answers import PendingCommit
from iot_pipeline.stages.ports.ledger import LedgerStore, Run
from iot_pipeline.stages.requests import RETRIED, NotSent, backoff_seconds, retry_transient

_log = logging.getLogger(__name__)

MAX_SENDS = 6  # the first, and five times again


Decision = Applied | Fenced | Rebased
Settled = Decision | CheckpointWentBackError


@dataclass(eq=False, slots=True)
class InFlight:
    """A commit that may be on its way: to be forgotten only when its outcome was noted.

    Made before anything is sent, so that whatever cuts a run off finds it here. `has_left` and no
    `sent`: cut off while it was being sent, so its outcome is unknown.
    """

    commit: Commit
    sent: PendingCommit | None = None
    has_left: bool = False

    @property
    def done(self) -> bool:
        return self.sent is not None and self.sent.done

    def send(self, ledger: LedgerStore) -> None:
        self.sent, self.has_left = None, True
        try:
            self.sent = ledger.send_commit(self.commit)
        except PipelineError as exc:
            self.sent = NotSent(exc)


def loss_commit(
    topic: str,
    checkpoint: Checkpoint,
    item: OffsetRange,
    outcome: Outcome,
    run: Run,
    *,
    cause: str = "",
    after_ms: int | None = None,
) -> Commit:
    """The checkpoint past a range that was left unread, with an entry of the ledger that says so.

    Args:
        after_ms: when the last record before it arrived in Kafka, if known.
    """
    return Commit(
        topic=topic,
        partition=item.partition,
        epoch=checkpoint.epoch,
        topic_id=checkpoint.topic_id,
        run_start=item.start,
        expected=item.start,
        end=item.end,
        run_id=run.run_id,
        writer_id=run.writer_id,
        counts=Counts(first_record_ms=after_ms),
        outcome=outcome,
        cause=cause,
    )


def commit_all(
    ledger: LedgerStore, commits: Sequence[Commit], give_up_after_seconds: float
) -> Iterator[tuple[Commit, Decision]]:
    """Send every commit, and say what became of each: applied, fenced or rebased, never unknown.

    Each is said as soon as it is certain, and an error of one is raised only when the others are
    decided: what was applied is then known to the caller, whatever becomes of the rest.

    Raises:
        CheckpointWentBackError: the ledger is behind what was committed.
        CassandraUnavailableError: the outcome could not be read; the rows are written, the
            checkpoint is wherever Cassandra has it, and the next run starts there.
    """
    pending = [InFlight(commit) for commit in commits]
    send_all(ledger, pending)
    failed: CheckpointWentBackError | None = None
    for item, outcome in settle_all(ledger, pending, give_up_after_seconds):
        if isinstance(outcome, CheckpointWentBackError):
            failed = failed or outcome
        else:
            yield item.commit, outcome
    if failed is not None:
        raise failed


def send_all(ledger: LedgerStore, pending: Sequence[InFlight]) -> None:
    """Start every commit at once; `settle_all` says what became of them."""
    for item in pending:
        item.send(ledger)


def settle_all(
    ledger: LedgerStore, pending: Sequence[InFlight], give_up_after_seconds: float
) -> Iterator[tuple[InFlight, Settled]]:
    """What became of commits that were sent; waits for each, as `commit_all` does.

    A checkpoint that went back is given out like an outcome: it is trouble of that partition.

    The caller may take each out of `pending` when it has noted what is said of it.
    """
    failed: PipelineError | None = None
    for item in list(pending):
        try:
            # After one failure the others are asked once: an outage is waited out once, not
            # once per partition.
            patience = give_up_after_seconds if failed is None else 0.0
            outcome: Settled = _settle(ledger, item, patience)
        except CheckpointWentBackError as exc:
            yield item, exc
        except PipelineError as exc:
            failed = failed or exc
        else:
            yield item, outcome
    if failed is not None:
        raise failed


def last_answers(
    ledger: LedgerStore, pending: Sequence[InFlight], answer_seconds: float, ask_seconds: float
) -> Iterator[tuple[InFlight, Decision | None]]:
    """What became of commits when a run is cut off: nothing is sent again, nothing raised.

    None where the outcome stays unknown: the answer did not come in time, and the ledger did not
    answer either, or has nothing of it, which it may still get. Commits that did nothing for
    certain are left out.

    Args:
        pending: in any state.
        answer_seconds: how long to wait for answers, all together.
        ask_seconds: how long to ask the ledger about those without, all together.
    """
    deadline = time.monotonic() + answer_seconds
    while time.monotonic() < deadline and any(
        item.sent is not None and not item.sent.done for item in pending
    ):
        ledger.wait(0.05)
    deadline = time.monotonic() + ask_seconds
    for item in pending:
        if not item.has_left:
            continue
        is_answered = item.sent is not None and item.sent.done
        error = item.sent.error if item.sent is not None and is_answered else None
        if item.sent is not None and is_answered and error is None and item.sent.applied:
            yield item, Applied.YES
            continue
        try:
            left = deadline - time.monotonic()
            if left <= 0:
                raise CassandraUnavailableError("no time is left to ask")
            # Three questions each (`LedgerStore.read_state`).
            outcome: Decision | None = decide_commit(
                item.commit, ledger.read_state(item.commit, timeout_seconds=left / 3)
            )
        except PipelineError:
            outcome = None
        if outcome is Applied.SEND_AGAIN:
            outcome = None
        is_certain = is_answered and not isinstance(error, TransientError)
        if outcome is not None or not is_certain:
            yield item, outcome


def _settle(ledger: LedgerStore, item: InFlight, give_up_after_seconds: float) -> Decision:
    commit = item.commit
    for attempt in range(1, MAX_SENDS + 1):
        sent = item.sent
        assert sent is not None, "settled before it was sent"
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
            extra={
                RETRIED: 1,
                "topic": commit.topic,
                "partition": commit.partition,
                "start_offset": commit.expected,
                "end_offset": commit.end,
            },
        )
        time.sleep(backoff_seconds(attempt, 0.5))
        item.send(ledger)
    raise CassandraUnavailableError(
        f"committing {commit.topic}[{commit.partition}] at {commit.end}: sent {MAX_SENDS} times, "
        "and nothing happened each time; the rows are written, the next run drains them again"
    )
