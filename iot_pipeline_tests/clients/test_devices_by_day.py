"""The buckets of a day."""

from collections import Counter

from iot_pipeline.core.reading.spans import BUCKETS, bucket_of


def test_a_device_has_the_same_bucket_in_every_process_and_version() -> None:
    assert [bucket_of(name) for name in ("device_0", "device_1", "device_2", "é")] == [3, 5, 7, 6]


def test_devices_are_spread_over_few_enough_buckets() -> None:
    share = Counter(bucket_of(f"device_{number}") for number in range(10_000))
    assert len(share) == BUCKETS
    assert max(share.values()) < 1.2 * 10_000 / BUCKETS
    # A batch of devices of one day goes to that many partitions; Cassandra warns from ten on.
    assert BUCKETS < 10
