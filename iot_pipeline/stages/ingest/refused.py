"""Rows that Cassandra refused become dead letters of the records they were made of.

Where no letter can keep them, or too many were refused, their Kafka partition stops.
"""

from collections.abc import Callable, Iterable, Mapping

from iot_pipeline.core.ingest.refusals import Refusals, find_bereft, leave_out, lost_to
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import DeadLetter, Reason, Record
from iot_pipeline.core.reading.write_times import record_of, write_time_us
from iot_pipeline.core.words import counted
from iot_pipeline.errors import PermanentError, PipelineError


def settle_refusals(
    refusals: Refusals,
    stopped_before: Mapping[int, PipelineError],
    read_offsets: Callable[[Iterable[tuple[int, int]]], list[Record]],
    check_identity: Callable[[], None],
    decoder: ReadingDecoder,
    topic: str,
) -> dict[int, PipelineError]:
    """Count refused rows, and what lost to them, as rejected, and add their letters.

    Args:
        refusals: of a micro-batch that is written otherwise; its counts and letters are changed,
            and what is of stopped partitions is taken out of it.
        stopped_before: partitions that a micro-batch before it stopped: a checkpoint must not pass
            over what was refused there.
        read_offsets: the records at (partition, offset) that Kafka still has.
        check_identity: raises when the topic is another than the one that was read.

    Returns:
        Why partitions are stopped, those of before among them.
    """
    batch = refusals.batch
    stopped: dict[int, PipelineError] = {**refusals.stopped, **stopped_before}
    rows_refused = [row for row in refusals.rows if row[2] not in stopped]
    # What lost to a refused row has no row either: without a letter it would be lost.
    all_losers = batch.losers() if rows_refused else {}
    losers = {
        record_of(lost.row): lost
        for winner in rows_refused
        for lost in all_losers.get(record_of(winner), ())
        if lost.row[2] not in stopped
    }
    refused = {record_of(row): row[0] for row in rows_refused}
    refused |= {place: lost.row[0] for place, lost in losers.items()}
    records = read_offsets(refused) if refused else []
    found = {
        (record.partition, record.offset): record
        for record in records
        # The topic may have been recreated since the row was made of its record.
        if write_time_us(record.produced_ms, record.offset, record.partition)
        == refused.get((record.partition, record.offset))
    }
    missing = sorted(refused.keys() - found.keys())
    if missing:
        check_identity()
    for place in missing:
        text = (
            f"writing {topic}[{place[0]}]: Cassandra refused {counted(len(refused), 'row')}, and "
            f"{len(missing)} of their records, the first at {missing[0]}, are not in Kafka any "
            "more, so no dead letter can keep them. Nothing of this partition moved; compare the "
            "table with `iot setup`, then run again"
        )
        stopped.setdefault(place[0], PermanentError(text))
    bereft = find_bereft(batch, stopped)
    stopped |= {partition: lost_to(topic, partition, by) for partition, by in bereft.items()}
    for place in sorted(found):
        if place[0] in stopped:
            continue
        if place in losers:
            told = "Cassandra refused the row that won over this one"
            batch.reject_loser(losers[place])
        else:
            told = "Cassandra refused the row"
            batch.reject(found[place], decoder)
        batch.dead_letters.append(DeadLetter(found[place], Reason.REJECTED_BY_CASSANDRA, told))
    if refused:
        batch.count_cells_again(refused)
    leave_out(batch, stopped)
    return stopped
