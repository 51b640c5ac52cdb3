"""How many records a micro-batch takes: by the devices that are active and the memory there is.

What a write costs depends on the rows per Cassandra partition, so a micro-batch grows with the
number of partitions it writes to: 10,000 devices in micro-batches of 50,000 records are five rows
each.
"""

# Rows per Cassandra partition that are worth waiting for, and those past which a write gets no
# cheaper: a CQL batch takes no more. Between the two a micro-batch grows while the one before is
# still being written, for it has to wait anyway.
ROWS_PER_PARTITION = 50
MOST_ROWS_PER_PARTITION = 300
# Never more than this many times the records that the settings ask for.
MAX_GROWTH = 8
# A row in memory: its tuple, its numbers and its place in two dicts.
ROW_BYTES = 350
# What librdkafka keeps of records not yet asked for, and what its fetches add.
CONSUMER_BYTES = 64 * 1024 * 1024


def largest_micro_batch(records: int, budget_mb: int) -> int:
    """The most records of one micro-batch when two of them at once are to stay in the budget.

    Args:
        records: what a micro-batch takes when few devices are active; never less than that
            unless the budget does not hold it.
        budget_mb: for the data of the whole process, at least 128.
    """
    fits = (budget_mb * 1024 * 1024 - CONSUMER_BYTES) // (2 * ROW_BYTES)
    return max(1, min(records * MAX_GROWTH, fits))


def wanted_records(records: int, largest: int, partition_keys: int, is_waiting: bool) -> int:
    """How many records a micro-batch takes: from `records`, for few devices, to `largest`.

    It writes to `partition_keys` Cassandra partitions so far, and `is_waiting` while the one before
    is still being written.
    """
    per_partition = MOST_ROWS_PER_PARTITION if is_waiting else ROWS_PER_PARTITION
    return min(max(records, partition_keys * per_partition), largest)
