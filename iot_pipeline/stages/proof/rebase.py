"""Go on where a person says: past unread records, or in a log that is not the one that was read.

Every offset that is passed over is in the ledger by the same conditional write that moves the
checkpoint, so it is a loss that stays in sight, and no two runs can differ about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from iot_pipeline.core.ledger.chain import Counts, Fenced, LedgerEntry, Outcome, Rebased
from iot_pipeline.core.ledger.rebase import Move, Target, check_said_id, decide_move, find_start
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, Watermarks
from iot_pipeline.core.words import counted
from iot_pipeline.errors import PlanError, TopicChangedError
from iot_pipeline.stages.ledger.commits import commit_all, loss_commit
from iot_pipeline.stages.ports.ledger import LedgerStore, Run
from iot_pipeline.stages.ports.log import RecordLogReader
from iot_pipeline.stages.proof.cut_logs import LogComparison
from iot_pipeline.stages.proof.ports import AuditPorts


def rebase(
    log: RecordLogReader,
    ledger: LedgerStore,
    topic: str,
    target: Target,
    run: Run,
    *,
    topic_id: str | None = None,
    skip_reason: str | None = None,
    proof: AuditPorts | None = None,
    retry_seconds: float = 30.0,
) -> list[Move]:
    """Move checkpoints to where the person wants them; all is decided before anything is written.

    Where the topic is another one, or the checkpoint lies above the end of the log, a new epoch
    begins; the old chain ends in a seam. Given again after a failure it does what is left to do.

    Args:
        log: Kafka, as it is now.
        target: where to go on.
        topic_id: the UUID that the person read in the error: a topic that appeared since is
            refused. None: only what the ledger knows will do.
        skip_reason: why unread records of an intact log are passed over; None: they are not.
        proof: where the rows are, to tell a log that was cut from an intact one; None: by its ends
            alone.

    Returns:
        What was done, by partition, at least one.

    Raises:
        TopicChangedError: Kafka has yet another topic, or a run moved a checkpoint meanwhile.
        PlanError: nothing needs it; it would go back in an intact log; there is no such offset.
    """
    comparison = LogComparison(log, proof) if proof is not None else None
    moves = plan_rebase(
        log, ledger, topic, target, topic_id, skip_reason is not None, comparison, retry_seconds
    )
    cause = f"passed over by `iot rebase {target.said}`"
    if skip_reason:
        cause += f": {skip_reason}"
    for move in moves:
        _carry_out(ledger, topic, move, run, cause, retry_seconds)
    return moves


def plan_rebase(
    log: RecordLogReader,
    ledger: LedgerStore,
    topic: str,
    target: Target,
    topic_id: str | None,
    is_skip: bool,
    comparison: LogComparison | None,
    retry_seconds: float,
) -> list[Move]:
    """What `rebase` would do; changes nothing, raises as it does."""
    info = log.describe(topic)
    old = ledger.read_checkpoints(topic, range(info.partitions))
    check_said_id(topic, info.topic_id, topic_id, old)
    at_times = {moment: log.offsets_at(topic, moment) for moment in target.times}
    marks = {mark.partition: mark for mark in log.watermarks(topic)}
    unknown = target.by_partition.keys() - marks.keys()
    if unknown:
        raise PlanError(
            f"rebasing {topic}: no partition {min(unknown)}; it has 0 to {info.partitions - 1}"
        )
    doubted = _find_doubted(topic, info.topic_id, old, marks, comparison, retry_seconds)
    epochs = [c.epoch + (c.topic_id != info.topic_id) for c in old.values()]
    moves = []
    for partition, mark in sorted(marks.items()):
        where, before = target.of(partition), old.get(partition)
        if where is None:
            continue
        at_time = at_times[where][partition] if isinstance(where, datetime) else None
        start = find_start(topic, mark, where, at_time)
        if isinstance(where, datetime) and before and before.topic_id == info.topic_id:
            # A partition that is past this moment already has nothing to pass over.
            reached = min(before.next_offset, mark.last_stable)
            start = max(start, min(reached, doubted.get(partition, reached)))
        move = decide_move(
            topic,
            mark,
            before,
            start,
            topic_id=info.topic_id,
            new_partition_epoch=max(epochs, default=0),
            is_skip=is_skip,
            doubted_from=doubted.get(partition),
        )
        if move is not None:
            moves.append(move)
    if not moves:
        raise PlanError(
            f"rebasing {topic}: nothing needs a rebase: the topic is the one that the ledger "
            "knows, and the checkpoints lie inside its log"
            + (
                " and where you want them"
                if is_skip
                else ". To pass over unread records on purpose, say why with --skip REASON"
            )
        )
    return moves


def _find_doubted(
    topic: str,
    topic_id: str,
    checkpoints: Mapping[int, Checkpoint],
    marks: Mapping[int, Watermarks],
    comparison: LogComparison | None,
    retry_seconds: float,
) -> dict[int, int]:
    """The first offset in doubt of each log that was cut, of the topic that the ledger knows."""
    if comparison is None:
        return {}
    same = [c for c in checkpoints.values() if c.topic_id == topic_id and c.partition in marks]
    doubts = comparison.find_doubts(topic, same, marks.values(), retry_seconds)
    first = {partition: doubt.offsets.start for partition, doubt in doubts.items()}
    for checkpoint in same:
        mark = marks[checkpoint.partition]
        if checkpoint.next_offset > mark.last_stable:
            reach = OffsetRange(mark.partition, mark.low, mark.last_stable)
            first[mark.partition] = comparison.first_in_doubt(topic, reach, retry_seconds)
    return first


def _carry_out(
    ledger: LedgerStore, topic: str, move: Move, run: Run, cause: str, retry_seconds: float
) -> None:
    before = move.before
    if move.is_new_epoch and before is not None:
        _begin_epoch(ledger, topic, before, move, run, cause)
        return
    if before is None:
        # Left to the next plan it would start at 0, whatever was asked for here.
        first = move.passed[0][0].start if move.passed else move.after.next_offset
        before = replace(move.after, next_offset=first)
        ledger.first_contact(topic, [before])
    for item, outcome in move.passed:
        why = cause if outcome is Outcome.SKIPPED else ""
        commit = loss_commit(topic, before, item, outcome, run, cause=why)
        for _, decided in commit_all(ledger, [commit], retry_seconds):
            if isinstance(decided, (Fenced, Rebased)):
                raise _moved_meanwhile(topic, item.partition, item.start)


def _begin_epoch(
    ledger: LedgerStore, topic: str, before: Checkpoint, move: Move, run: Run, cause: str
) -> None:
    partition, skipped = before.partition, move.skipped
    # At the end of the old chain, where no run will ever write again.
    end = OffsetRange(partition, before.next_offset, before.next_offset)
    entries = [_entry(topic, before.epoch, end, Outcome.REBASED, run, "")]
    if skipped is not None:
        entries.append(_entry(topic, move.after.epoch, skipped, Outcome.SKIPPED, run, cause))
    pending = ledger.send_rebase(before, move.after, entries)
    while not pending.done:
        ledger.wait(0.1)
    if pending.error is not None or not pending.applied:
        found = ledger.read_checkpoints(topic, [partition]).get(partition)
        if found != move.after:
            raise _moved_meanwhile(topic, partition, before.next_offset) from pending.error


def _entry(
    topic: str, epoch: int, item: OffsetRange, outcome: Outcome, run: Run, cause: str
) -> LedgerEntry:
    return LedgerEntry(
        topic,
        item.partition,
        epoch,
        item.start,
        item.end,
        outcome,
        run.run_id,
        run.writer_id,
        Counts(),
        datetime.now(UTC),
        cause,
    )


def _moved_meanwhile(topic: str, partition: int, at: int) -> TopicChangedError:
    return TopicChangedError(
        f"rebasing {topic}[{partition}]: a run moved its checkpoint from {at} meanwhile, or "
        "Cassandra did not answer. Stop what ingests, then say it again"
    )


def say_moves(moves: Sequence[Move]) -> list[str]:
    """What a rebase did, for a person: a sentence per partition."""
    said = []
    for move in moves:
        after, before = move.after, move.before
        where = f"partition {after.partition}: "
        if before is None:
            where += f"is new, epoch {after.epoch} begins at {after.next_offset}"
        elif move.is_new_epoch:
            where += f"epoch {before.epoch} ended at {before.next_offset}, epoch {after.epoch} "
            where += f"begins at {after.next_offset}"
        else:
            where += f"the checkpoint moved from {before.next_offset} to {after.next_offset}"
        losses = [
            f"{counted(item.span, 'offset')} ({item}) {'is' if item.span == 1 else 'are'} in the "
            f"ledger as {why}"
            for item, why in move.passed
        ]
        said.append("; ".join([where, *losses]))
    if any(m.before is not None and m.before.topic_id != m.after.topic_id for m in moves):
        said.append(
            "what was ingested before and is in this log too (a mirror) makes the same rows, and "
            "is counted again in the new epoch"
        )
    if any(move.passed for move in moves):
        said.append(
            "`iot losses` lists what was left unread; `iot replay --offsets P:START-END` ingests "
            "it while Kafka has it"
        )
    return said
