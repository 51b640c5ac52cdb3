"""What the audit's reading of the log makes of a poll, without a broker."""

from collections.abc import Sequence

from confluent_kafka import KafkaError, Message, TopicPartition

from iot_pipeline.clients.audit_log import KafkaAuditLog, _are_all_inside
from iot_pipeline.settings import Settings


def record(offset: int, partition: int = 0) -> Message:
    return Message(topic="t", partition=partition, offset=offset)


def test_a_poll_is_taken_whole_when_no_partition_ends_in_it() -> None:
    ends = {0: 10, 1: 10}
    assert _are_all_inside([record(5), record(8), record(3, 1)], ends, {0, 1})
    assert not _are_all_inside([record(9)], ends, {0, 1}), "the last one wanted"
    assert not _are_all_inside([record(12)], ends, {0, 1}), "beyond it"
    assert not _are_all_inside([record(5, 1)], ends, {0}), "of a partition that is done"


def test_an_error_among_the_records_leaves_no_exception_behind() -> None:
    end = Message(topic="t", partition=0, offset=6, error=KafkaError(KafkaError._PARTITION_EOF))
    assert not _are_all_inside([record(5), end], {0: 10}, {0})
    # Compared with None by ==, the error would leave a TypeError that this call raises.
    assert TopicPartition("t", 0).partition == 0


class Scripted:
    """A consumer that says what it is told to say."""

    def __init__(self, *script: Sequence[Message]) -> None:
        self._script = list(script)

    def consume(self, count: int, timeout_seconds: float) -> Sequence[Message]:
        return self._script.pop(0)

    def incremental_unassign(self, places: Sequence[TopicPartition]) -> None:
        pass


def test_a_bad_batch_behind_a_range_is_no_trouble_of_the_range() -> None:
    bad = Message(topic="t", partition=0, offset=2, error=KafkaError(KafkaError._BAD_COMPRESSION))
    # Fetched ahead: it may come with the last record wanted, or while another partition is read.
    consumer = Scripted([record(0), record(1), bad], [bad, record(0, 1)])
    log = KafkaAuditLog(Settings(topic="t"))
    found = list(log._until_finished(consumer, "t", {0: 0, 1: 0}, {0: 2, 1: 1}))
    places = [(m.partition(), m.offset()) for part in found for m in part]
    assert places == [(0, 0), (0, 1), (1, 0)]
