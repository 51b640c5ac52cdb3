"""What one micro-batch becomes on the wire: merged, split, bounded, slowed down."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.ingest.requests import (
    MAX_MERGED_KEY_BYTES,
    MAX_MERGED_PARTITIONS,
    MAX_MERGED_ROWS,
    MAX_ROWS_PER_BATCH,
    MIN_ROWS_ALONE,
)
from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.reading.row_groups import RowGroups, RowSlice
from iot_pipeline.core.reading.spans import Place, bucket_of
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.errors import PipelineError, RowsRefusedError
from iot_pipeline.stages.ingest.row_writer import (
    MAX_BYTES_IN_FLIGHT,
    SLOW_ANSWER_SECONDS,
    RowWriter,
)


@dataclass
class _Answer:
    error: PipelineError | None = None
    done: bool = False


@dataclass
class _Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class _WireStore:
    """Keeps requests as they leave; answers those of a turn when it is waited for."""

    clock: _Clock
    answer_seconds: float = 0.001
    refused: str = ""
    requests: list[list[tuple[Place, RowsByTime]]] = field(default_factory=list)
    device_requests: list[dict[str, int]] = field(default_factory=list)
    waiting: deque[_Answer] = field(default_factory=deque)
    most_waiting: int = 0
    most_bytes: int = 0

    def send_rows(self, rows: RowSlice) -> _Answer:
        parts = rows.items()
        self.requests.append(parts)
        if self.refused and any(self.refused == name for (name, _), _ in parts):
            return self._wait(_Answer(RowsRefusedError("refused")))
        return self._wait(_Answer())

    def send_devices(self, day_number: int, devices: Mapping[str, int]) -> _Answer:
        self.device_requests.append(dict(devices))
        return self._wait(_Answer())

    def _wait(self, answer: _Answer) -> _Answer:
        self.waiting.append(answer)
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        return answer

    def wait(self, timeout_seconds: float) -> None:
        self.clock.now += self.answer_seconds
        while self.waiting:
            self.waiting.popleft().done = True


def _batch(groups: dict[tuple[str, int], RowsByTime]) -> MicroBatch:
    return MicroBatch(RowGroups.of(groups), [], {0: 0}, {0: 1}, {0: Counts()}, [])


def _rows(count: int) -> RowsByTime:
    return {ms: (1_000_000 + ms, ms, 0, 1.0, 2.0) for ms in range(count)}


def _write(store: _WireStore, batch: MicroBatch, requests_in_flight: int = 64) -> RowWriter:
    writer = RowWriter(store, requests_in_flight, 30.0, store.clock)
    writer.begin(batch)
    while not writer.pump(0.1):
        pass
    return writer


_sizes = st.lists(st.tuples(st.integers(1, 700), st.integers(1, 256)), min_size=1, max_size=60)


@given(_sizes, st.integers(1, 64))
def test_every_row_leaves_once_within_the_guard_rails(
    sizes: list[tuple[int, int]], requests_in_flight: int
) -> None:
    store = _WireStore(_Clock())
    groups = {
        (f"{at:05d}".ljust(length, "x"), 20_000 + at % 3): _rows(count)
        for at, (count, length) in enumerate(sizes)
    }
    _write(store, _batch(groups), requests_in_flight)
    sent: dict[tuple[str, int, int], int] = {}
    for parts in store.requests:
        for (name, day), rows in parts:
            for ms in rows:
                sent[name, day, ms] = sent.get((name, day, ms), 0) + 1
        if len(parts) == 1:
            assert len(parts[0][1]) <= MAX_ROWS_PER_BATCH
            continue
        assert len(parts) <= MAX_MERGED_PARTITIONS
        assert sum(len(rows) for _, rows in parts) <= MAX_MERGED_ROWS
        assert sum(len(name.encode()) for (name, _), _ in parts) <= MAX_MERGED_KEY_BYTES
        assert all(len(rows) < MIN_ROWS_ALONE for _, rows in parts)
    assert sent == {(*place, ms): 1 for place, rows in groups.items() for ms in rows}


@pytest.mark.parametrize(
    ("requests_in_flight", "sizes"),
    [(8, [10] * 10), (16, [7] * 14 + [2]), (64, [2] * 50), (128, [1] * 100)],
)
def test_devices_with_one_row_each_are_merged_no_further_than_the_window_asks_for(
    requests_in_flight: int, sizes: list[int]
) -> None:
    store = _WireStore(_Clock())
    _write(store, _batch({(f"d{at}", 1): _rows(1) for at in range(100)}), requests_in_flight)
    assert [len(parts) for parts in store.requests] == sizes


def test_long_names_are_merged_by_their_bytes() -> None:
    store = _WireStore(_Clock())
    _write(store, _batch({(f"{at}".rjust(256, "d"), 1): _rows(1) for at in range(20)}), 2)
    assert [len(parts) for parts in store.requests] == [4] * 5


def test_of_a_refused_merged_batch_only_the_row_at_fault_is_refused() -> None:
    store = _WireStore(_Clock(), refused="d3")
    writer = _write(store, _batch({(f"d{at}", 1): _rows(2) for at in range(8)}), 1)
    assert len(store.requests[0]) == 8
    assert len(writer.refusals.rows) == 2
    acknowledged = {
        (name, ms)
        for parts in store.requests
        if all(name != "d3" for (name, _), _ in parts)
        for (name, _), rows in parts
        for ms in rows
    }
    assert acknowledged == {(f"d{at}", ms) for at in range(8) if at != 3 for ms in range(2)}


def test_bytes_on_their_way_are_bounded_whatever_the_window_allows() -> None:
    store = _WireStore(_Clock())
    wide = "x" * 256
    _write(store, _batch({(f"{at}{wide}"[:256], 1): _rows(300) for at in range(100)}), 1024)
    request = 300 * (256 + 96)
    assert store.most_waiting <= MAX_BYTES_IN_FLIGHT // request + 2
    assert store.most_waiting >= 10


@pytest.mark.parametrize(("answer_seconds", "shrinks"), [(0.01, False), (1.0, True)])
def test_the_window_shrinks_while_answers_are_slow(answer_seconds: float, shrinks: bool) -> None:
    assert (answer_seconds > SLOW_ANSWER_SECONDS) is shrinks
    store = _WireStore(_Clock(), answer_seconds)
    writer = _write(store, _batch({(f"d{at}", 1): _rows(10) for at in range(500)}), 32)
    assert (writer._window < 24) is shrinks
    store.answer_seconds = 0.001
    before = writer._window
    for day in range(2, 8):
        writer.begin(_batch({(f"d{at}", day): _rows(10) for at in range(500)}))
        while not writer.pump(0.1):
            pass
    assert writer._window == 32 or writer._window > before


def test_devices_of_a_day_travel_by_bucket_so_each_request_is_one_cassandra_partition() -> None:
    store = _WireStore(_Clock())
    names = [f"device_{number}" for number in range(100)]
    _write(store, _batch({(name, day): _rows(1) for name in names for day in (20_000, 20_001)}))
    for devices in store.device_requests:
        assert len({bucket_of(name) for name in devices}) == 1
    assert sorted(name for devices in store.device_requests for name in devices) == sorted(
        names * 2
    )
