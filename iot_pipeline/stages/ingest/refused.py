"""Rows that Cassandra refused become dead letters of the records they were made of."""

from collections.abc import Callable, Iterable, Sequence

from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.reading.decoding import DeadLetter, ReadingDecoder, Reason, Record
from iot_pipeline.core.reading.write_times import Row, record_of, write_time_us
from iot_pipeline.core.words import counted
from iot_pipeline.errors import PermanentError


def refused_letters(
    batch: MicroBatch,
    rows_refused: Sequence[Row],
    read_offsets: Callable[[Iterable[tuple[int, int]]], list[Record]],
    check_identity: Callable[[], None],
    decoder: ReadingDecoder,
    topic: str,
) -> list[DeadLetter]:
    """Count refused rows, and what lost to them, as rejected; give back their letters.

    Args:
        batch: theirs; its counts are changed.
        read_offsets: the records at (partition, offset) that Kafka still has.
        check_identity: raises when the topic is another than the one that was read.

    Raises:
        PermanentError: a record is not in Kafka any more, so no letter can keep it.
    """
    # What lost to a refused row has no row either: without a letter it would be lost.
    losers = {
        record_of(row): (row, winner)
        for winner in rows_refused
        for row in batch.losers.get(record_of(winner), ())
    }
    refused = {record_of(row): row[0] for row in rows_refused}
    refused |= {place: row[0] for place, (row, _) in losers.items()}
    records = read_offsets(refused)
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
        raise PermanentError(
            f"writing {topic}: Cassandra refused {counted(len(refused), 'row')}, and "
            f"{len(missing)} of their records, the first at {missing[0]}, are not in Kafka any "
            "more, so no dead letter can keep them. Nothing moved; compare the table with "
            "`iot setup`, then run again"
        )
    letters = []
    for place in sorted(found):
        if place in losers:
            told = "Cassandra refused the row that won over this one"
            loser, winner = losers[place]
            batch.reject_loser(loser, is_repeat=loser[3:] == winner[3:])
        else:
            told = "Cassandra refused the row"
            batch.reject(found[place], decoder)
        letters.append(DeadLetter(found[place], Reason.REJECTED_BY_CASSANDRA, told))
    return letters
