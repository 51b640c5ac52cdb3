"""What is said of several partitions that stopped."""

from iot_pipeline.core.ingest.stopped import sum_up
from iot_pipeline.errors import (
    KafkaUnavailableError,
    OffsetsExpiredError,
    PermanentError,
    TopicChangedError,
    TransientError,
)


def test_one_stopped_partition_is_its_own_error():
    error = OffsetsExpiredError("reading t[3]: gone")
    assert sum_up("t", {3: error}) is error


def test_reasons_of_one_kind_are_told_once_with_every_partition_named():
    stopped = {2: OffsetsExpiredError("t[2]: gone"), 0: OffsetsExpiredError("t[0]: gone")}
    error = sum_up("t", stopped)
    assert type(error) is OffsetsExpiredError
    assert str(error) == (
        "t: partitions 0, 2 stopped. t[0]: gone. The same kind of trouble in partition 2"
    )


def test_the_most_permanent_kind_decides():
    mixed = {1: TopicChangedError("t[1]: another"), 2: KafkaUnavailableError("t[2]: away")}
    error = sum_up("t", mixed)
    assert type(error) is PermanentError
    assert str(error) == "t: partitions 1, 2 stopped. t[1]: another. t[2]: away"
    away = {1: KafkaUnavailableError("a"), 2: TransientError("b")}
    assert type(sum_up("t", away)) is TransientError
