"""What the audit's reading of the log makes of a poll, without a broker."""

from confluent_kafka import KafkaError, Message, TopicPartition

from iot_pipeline.clients.audit_log import _are_all_inside


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
