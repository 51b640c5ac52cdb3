"""How far behind are we? Offsets from watermarks and checkpoints, seconds from one record each.

Reads at most one fetch per lagging partition, changes nothing: cheap enough for every tick of a
sensor, and bounded in time.
"""

import time
from collections.abc import Collection
from datetime import datetime

from iot_pipeline.core.reading.lag import PartitionLag, measure_lag
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import KafkaUnavailableError
from iot_pipeline.stages.ingest.planning import read_states
from iot_pipeline.stages.ports import LedgerStore, RecordLogReader

_POLL_SECONDS = 0.05


def read_lag(
    log: RecordLogReader,
    ledger: LedgerStore,
    topic: str,
    now: datetime,
    *,
    timeout_seconds: float = 3.0,
) -> list[PartitionLag]:
    """The lag of every Kafka partition, in order.

    Args:
        now: what seconds are measured against, aware.
        timeout_seconds: how long the records at the checkpoints may take, all together.

    Raises:
        KafkaUnavailableError: no record came in that time.
        SchemaMismatchError: the topic does not exist.
        TopicChangedError: it is another topic than the ledger's.
    """
    _, _, states = read_states(log, ledger, topic)
    behind = [
        OffsetRange(state.partition, max(state.checkpoint or 0, state.low), state.last_stable)
        for state in states
        if state.lag
    ]
    oldest = first_record_ms(log, topic, behind, timeout_seconds)
    now_ms = int(now.timestamp() * 1000)
    return [measure_lag(state, oldest.get(state.partition), now_ms) for state in states]


def first_record_ms(
    log: RecordLogReader, topic: str, ranges: Collection[OffsetRange], timeout_seconds: float
) -> dict[int, int]:
    """The Kafka timestamp of the first record of each range; ranges of holes alone have none.

    Args:
        ranges: at most one per Kafka partition.
        timeout_seconds: for all of them together.

    Raises:
        KafkaUnavailableError: some range gave neither a record nor its end in time.
    """
    found: dict[int, int] = {}
    waiting = {item.partition for item in ranges}
    if not waiting:
        return found
    source = log.open_ranges(topic, list(ranges))
    deadline = time.monotonic() + timeout_seconds
    try:
        while waiting:
            for record in source.poll(_POLL_SECONDS):
                found.setdefault(record.partition, record.produced_ms)
            waiting -= found.keys() | source.finished
            if waiting and time.monotonic() > deadline:
                raise KafkaUnavailableError(
                    f"reading the lag of {topic}: no record of partitions {sorted(waiting)} in "
                    f"{timeout_seconds:g} s; `iot status` says whether Kafka runs"
                )
    finally:
        source.close()
    return found
