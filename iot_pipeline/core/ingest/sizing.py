"""How many records a micro-batch takes: by the devices that are active and the memory there is.

What a write costs depends on the rows per Cassandra partition, so a micro-batch grows with the
number of partitions it writes to: 10,000 devices in micro-batches of 50,000 records are five rows
each.
"""

from collections.abc import Sequence

from iot_pipeline.core.reading.columns import bytes_per_row
from iot_pipeline.core.reading.quantities import Quantity

# Rows per Cassandra partition that are worth waiting for, and those past which a write gets no
# cheaper: a CQL batch takes no more. Between the two a micro-batch grows while the one before is
# still being written, for it has to wait anyway.
ROWS_PER_PARTITION = 50
MOST_ROWS_PER_PARTITION = 300
# Never more than this many times the records that the settings ask for.
MAX_GROWTH = 20
# A Cassandra partition that has rows: its group, and its group as it is sent.
GROUP_BYTES = 64
# What a row takes more where rows are kept as objects, too.
OBJECT_BYTES = 350
# What librdkafka keeps of records not yet asked for, and what its fetches add.
CONSUMER_BYTES = 64 * 1024 * 1024


def memory_of_micro_batch(budget_mb: int) -> int:
    """The bytes of one micro-batch when two of them at once are to stay in the budget.

    Args:
        budget_mb: for the data of the whole process, at least 128.
    """
    return (budget_mb * 1024 * 1024 - CONSUMER_BYTES) // 2


def row_bytes(quantities: Sequence[Quantity]) -> int:
    """A row in memory: its columns, with room for a quarter more, and what sorting it takes."""
    return bytes_per_row(quantities) * 5 // 4 + 32


def wanted_records(
    records: int,
    bytes_of_row: int,
    memory_bytes: int,
    device_bytes: int,
    partition_keys: int,
    *,
    is_waiting: bool,
    are_objects: bool = False,
) -> int:
    """How many records a micro-batch takes, by what is in it so far.

    Args:
        records: what it takes when few devices are active.
        bytes_of_row: `row_bytes` of the pipeline's quantities.
        memory_bytes: what it may take in memory; 0: it takes `records`, however many devices.
        device_bytes: what the known devices take.
        partition_keys: how many Cassandra partitions it writes to.
        is_waiting: the one before is still being written.
        are_objects: its rows are kept as objects, too.

    Returns:
        At least 1.
    """
    if not memory_bytes:
        return records
    per_partition = MOST_ROWS_PER_PARTITION if is_waiting else ROWS_PER_PARTITION
    wanted = min(max(records, partition_keys * per_partition), records * MAX_GROWTH)
    left = memory_bytes - device_bytes - partition_keys * GROUP_BYTES
    return max(1, min(wanted, left // (bytes_of_row + are_objects * OBJECT_BYTES)))
