"""Trouble of one Kafka partition stops that one: nothing behind it is given out, others go on.

What the client says is scripted here, message by message: a real broker says such things seldom.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    KafkaError,
    Message,
    TopicPartition,
)

from iot_pipeline.clients.kafka_raw import Batch
from iot_pipeline.clients.kafka_source import KafkaRangeSource
from iot_pipeline.clients.unreadable import Explainer
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import (
    KafkaUnavailableError,
    OffsetsExpiredError,
    PermanentError,
    SchemaMismatchError,
    UnreadableError,
)

TOPIC = "t"


def records(
    partition: int, first: int, end: int, kind: int = TIMESTAMP_LOG_APPEND_TIME
) -> list[Message]:
    return [
        Message(
            topic=TOPIC,
            partition=partition,
            offset=offset,
            value=b"%d" % offset,
            timestamp=(kind, 1_800_000_000_000 + offset),
        )
        for offset in range(first, end)
    ]


def failure(partition: int, offset: int, code: int) -> Message:
    return Message(topic=TOPIC, partition=partition, offset=offset, error=KafkaError(code))


class Scripted:
    """A consumer that says what it is told to say."""

    def __init__(self, script: Sequence[Sequence[Message]], low: int, high: int) -> None:
        self._script, self._ends = list(script), (low, high)
        self.left: list[int] = []

    def consume(self, count: int, timeout_seconds: float) -> Sequence[Message]:
        return self._script.pop(0) if self._script else []

    def incremental_unassign(self, places: Sequence[TopicPartition]) -> None:
        self.left += [place.partition for place in places]

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        return self._ends

    def close(self) -> None:
        pass


class Raw:
    """Kafka's batches, as the raw client sees them; away for the first few questions."""

    def __init__(self, *batches: Batch, away: int = 0) -> None:
        self._batches, self._away = batches, away

    def batches(self, topic: str, partition: int, offset: int, max_bytes: int) -> list[Batch]:
        if self._away:
            self._away -= 1
            raise KafkaUnavailableError("looking at the batches: away")
        return [batch for batch in self._batches if batch.end > offset][:2]


def batch(start: int, end: int, *, by_producer: bool = False, is_whole: bool = True) -> Batch:
    return Batch(start, end, 100, end - start, "zstd", by_producer, is_whole)


def a_source(
    *script: Sequence[Message],
    raw: Raw | None = None,
    stamped_by: str = "LogAppendTime",
    ends: Sequence[int] = (20, 20),
    log: tuple[int, int] = (0, 20),
) -> KafkaRangeSource:
    asked: Any = raw
    explainer = Explainer(lambda: asked, lambda _: stamped_by) if raw else None
    ranges = [OffsetRange(partition, 0, end) for partition, end in enumerate(ends)]
    config = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    source = KafkaRangeSource(config, TOPIC, ranges, explainer=explainer)
    source.close()
    source._consumer = Scripted(script, *log)
    return source


def given(source: KafkaRangeSource, polls: int = 4) -> dict[int, list[int]]:
    """Offsets by partition."""
    found: dict[int, list[int]] = {}
    for _ in range(polls):
        for chunk in source.poll_chunks(0.0):
            found.setdefault(chunk.partition, []).extend(chunk.offsets)
    return found


def test_behind_a_bad_batch_nothing_is_taken_though_the_client_gives_it_out() -> None:
    source = a_source(
        [*records(0, 0, 5), failure(0, 5, KafkaError._BAD_MSG), *records(0, 10, 20)],
        [*records(0, 15, 20), *records(1, 0, 20)],
        raw=Raw(batch(5, 10, is_whole=False), batch(10, 20)),
    )
    assert given(source) == {0: list(range(5)), 1: list(range(20))}
    assert (set(source.finished), set(source.stopped)) == ({1}, {0})
    why = source.stopped[0]
    assert isinstance(why, UnreadableError)
    assert (why.partition, why.start, why.end) == (0, 5, 10)
    assert "its checksum is wrong" in str(why)
    assert source._consumer.left == [0, 1]


def test_a_range_whose_end_was_fetched_already_is_not_finished_when_a_record_in_it_is_bad() -> None:
    mixed: list[Any] = [*records(0, 0, 5), *records(0, 5, 7, TIMESTAMP_CREATE_TIME)]
    source = a_source(
        [*mixed, *records(0, 7, 20), *records(1, 0, 20)],
        raw=Raw(batch(5, 6, by_producer=True), batch(6, 7, by_producer=True), batch(7, 20)),
    )
    assert given(source, 1) == {0: list(range(5)), 1: list(range(20))}
    # Why is not known yet, but never was it read to its end.
    assert source.finished == frozenset({1})
    given(source)
    assert (set(source.finished), set(source.stopped)) == ({1}, {0})
    why = source.stopped[0]
    assert isinstance(why, UnreadableError)
    assert (why.start, why.end) == (5, 7)
    assert "IOT_ACCEPT_PRODUCER_TIMESTAMPS=true stores them" in str(why)


@pytest.mark.parametrize("raw", [None, Raw(batch(0, 20, by_producer=True))])
def test_records_of_a_topic_that_producers_stamp_are_refused_for_that(raw: Raw | None) -> None:
    source = a_source(
        [*records(0, 0, 5, TIMESTAMP_CREATE_TIME), *records(1, 0, 20)],
        raw=raw,
        stamped_by="CreateTime",
    )
    assert given(source) == {1: list(range(20))}
    assert isinstance(source.stopped[0], SchemaMismatchError)
    assert "stamped by its producer" in str(source.stopped[0])


def test_an_error_of_one_partition_that_no_retry_helps_stops_that_one() -> None:
    source = a_source(
        [*records(0, 0, 5), failure(0, 5, KafkaError.INVALID_RECORD), *records(0, 5, 9)],
        records(1, 0, 20),
    )
    assert given(source) == {0: list(range(5)), 1: list(range(20))}
    assert isinstance(source.stopped[0], PermanentError)
    assert "reading t[0] at 5" in str(source.stopped[0])


def test_without_an_explainer_a_bad_batch_is_what_the_client_says() -> None:
    source = a_source(
        [failure(0, 0, KafkaError._BAD_COMPRESSION), *records(0, 9, 20), *records(1, 0, 20)]
    )
    assert given(source) == {1: list(range(20))}
    assert isinstance(source.stopped[0], PermanentError)


def test_why_a_partition_stopped_is_asked_until_kafka_answers_and_never_guessed() -> None:
    source = a_source(
        [failure(0, 0, KafkaError._BAD_COMPRESSION)],
        records(1, 0, 20),
        raw=Raw(batch(0, 10), batch(10, 20), away=2),
    )
    assert source.poll_chunks(0.0) == []
    for _ in range(2):
        with pytest.raises(KafkaUnavailableError):
            source.poll_chunks(0.0)
        assert not source.stopped
    assert given(source) == {1: list(range(20))}
    why = source.stopped[0]
    assert isinstance(why, UnreadableError)
    assert (why.start, why.end) == (0, 10)


def test_a_bad_batch_that_is_not_there_any_more_has_no_end_that_could_be_recorded() -> None:
    source = a_source([failure(0, 0, KafkaError._BAD_MSG)], raw=Raw())
    given(source)
    why = source.stopped[0]
    assert isinstance(why, UnreadableError)
    assert (why.start, why.end) == (0, 0)
    assert "Where the unreadable part ends cannot be told" in str(why)


def test_records_that_expire_while_they_are_read_stop_their_partition_alone() -> None:
    source = a_source(
        [*records(0, 0, 5), failure(0, 5, KafkaError._AUTO_OFFSET_RESET)],
        [*records(1, 0, 20)],
        log=(12, 20),
    )
    assert given(source) == {0: list(range(5)), 1: list(range(20))}
    assert isinstance(source.stopped[0], OffsetsExpiredError)
    assert "up to 7 records were deleted" in str(source.stopped[0])
    assert source.finished == {1}


def test_a_topic_that_is_gone_is_no_trouble_of_one_partition() -> None:
    source = a_source([failure(0, 0, KafkaError.UNKNOWN_TOPIC_OR_PART)])
    with pytest.raises(SchemaMismatchError):
        source.poll_chunks(0.0)


def test_what_was_fetched_of_a_partition_that_was_left_is_not_given_out() -> None:
    source = a_source(records(0, 0, 5), [*records(0, 5, 9), *records(1, 0, 20)])
    first = given(source, 1)
    source.leave(0)
    assert (first, given(source)) == ({0: list(range(5))}, {1: list(range(20))})
