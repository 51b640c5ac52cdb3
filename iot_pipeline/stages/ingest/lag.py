"""How far behind are we? Offsets from watermarks and checkpoints, seconds from one record each.

Reads at most one fetch per lagging partition, changes nothing: cheap enough for every tick of a
sensor, and bounded in time.
"""

import time
from collections.abc import Collection
from datetime import datetime

from iot_pipeline.core.reading.lag import PartitionLag, measure_lag
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import (
    KafkaUnavailableError,
    PipelineError,
    TransientError,
    UnreadableError,
)
from iot_pipeline.stages.ingest.planning import read_states
from iot_pipeline.stages.ports.ledger import LedgerStore
from iot_pipeline.stages.ports.log import RecordLogReader

_POLL_SECONDS = 0.05


def read_lag(
    log: RecordLogReader,
    ledger: LedgerStore,
    topic: str,
    now: datetime,
    *,
    timeout_seconds: float = 3.0,
) -> list[PartitionLag]:
    """The lag of every Kafka partition, in order: offsets always, seconds where they are known.

    Args:
        now: what seconds are measured against, aware.
        timeout_seconds: how long the records at the checkpoints may take, all together.

    Raises:
        KafkaUnavailableError, CassandraUnavailableError: ends or checkpoints could not be asked.
        SchemaMismatchError: the topic does not exist.
        TopicChangedError: it is another topic than the ledger's.
    """
    strangers: dict[int, PipelineError] = {}
    _, _, states = read_states(log, ledger, topic, strangers)
    behind = [
        OffsetRange(state.partition, max(state.checkpoint or 0, state.low), state.last_stable)
        for state in states
        if state.lag and state.partition not in strangers
    ]
    oldest, unknown = _first_records(log, topic, behind, timeout_seconds)
    unknown |= {partition: str(why) for partition, why in strangers.items()}
    held = log.held_back(topic, {state.partition: state.last_stable for state in states})
    now_ms = int(now.timestamp() * 1000)
    return [
        measure_lag(
            state,
            oldest.get(state.partition),
            now_ms,
            unknown.get(state.partition, ""),
            held.get(state.partition),
        )
        for state in states
    ]


def first_record_ms(
    log: RecordLogReader, topic: str, ranges: Collection[OffsetRange], timeout_seconds: float
) -> dict[int, int]:
    """The Kafka timestamp of the first record of each range; ranges of holes alone have none.

    Args:
        ranges: at most one per Kafka partition.
        timeout_seconds: for all of them together.

    Raises:
        KafkaUnavailableError: of some range it could not be told.
    """
    found, unknown = _first_records(log, topic, ranges, timeout_seconds)
    if unknown:
        raise KafkaUnavailableError(unknown[min(unknown)])
    return found


def _first_records(
    log: RecordLogReader, topic: str, ranges: Collection[OffsetRange], timeout_seconds: float
) -> tuple[dict[int, int], dict[int, str]]:
    """By partition: when its first record arrived; or why that could not be told."""
    found: dict[int, int] = {}
    waiting = {item.partition for item in ranges}
    if not waiting:
        return found, {}
    source = log.open_ranges(topic, list(ranges))
    deadline = time.monotonic() + timeout_seconds
    trouble = ""
    try:
        while waiting and time.monotonic() < deadline:
            try:
                for record in source.poll(_POLL_SECONDS):
                    found.setdefault(record.partition, record.produced_ms)
            except TransientError as exc:
                trouble = f" ({exc})"
                time.sleep(_POLL_SECONDS)
            for partition, why in source.stopped.items():
                if isinstance(why, UnreadableError) and why.newest_ms is not None:
                    found.setdefault(partition, why.newest_ms)
            done = waiting & (found.keys() | source.finished | source.stopped.keys())
            for partition in done & found.keys():
                # A thousand backlogs would stand in each other's way, and in memory.
                source.leave(partition)
            waiting -= done
        unknown = {p: str(why) for p, why in source.stopped.items() if p not in found}
    finally:
        source.close()
    for partition in waiting:
        unknown[partition] = (
            f"reading the lag of {topic}[{partition}]: no record in {timeout_seconds:g} s"
            f"{trouble}; `iot status` says whether Kafka runs"
        )
    return found, unknown
