"""Slices on their way together: each row waits for its own answer, and they finish in order."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.ingest.requests import MIN_ROWS_ALONE
from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.reading.row_groups import RowGroups, RowSlice
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.stages.ingest.writers import MAX_SLICE_ROWS, Writers


@dataclass
class _Answer:
    done: bool = False
    error: None = None


@dataclass
class _Store:
    """Answers only when told; keeps which devices were sent."""

    sent: dict[str, _Answer] = field(default_factory=dict)

    def send_rows(self, rows: RowSlice) -> _Answer:
        return self.sent.setdefault(rows.device_id, _Answer())

    def send_devices(self, day_number: int, devices: Mapping[str, int]) -> _Answer:
        return _Answer(done=True)

    def wait(self, timeout_seconds: float) -> None:
        return


def _slice(name: str, rows: int = 1) -> MicroBatch:
    made: RowsByTime = {ms: (1000 + ms, ms, 0, 1.0, 2.0) for ms in range(rows)}
    return MicroBatch(RowGroups.of({(name, 1): made}), [], {0: 0}, {0: 1}, {0: Counts()}, [])


def _pump(writers: Writers) -> list[str]:
    """Names of the slices that were finished."""
    finished = []
    for refusals in writers.pump():
        assert not refusals.rows
        finished += [name for (name, _), _ in refusals.batch.groups.items()]
    return finished


def test_a_later_slice_leaves_at_once_and_finishes_after_the_earlier_one() -> None:
    store = _Store()
    writers = Writers(store, 4, 64, 30.0)
    for name in ("a", "b"):
        assert writers.has_room(_slice(name))
        writers.begin(_slice(name))
        _pump(writers)
    assert set(store.sent) == {"a", "b"}
    store.sent["b"].done = True
    assert _pump(writers) == []
    store.sent["a"].done = True
    assert _pump(writers) == ["a", "b"]
    assert not writers.is_busy


def test_no_more_slices_than_allowed_and_each_place_is_used_again() -> None:
    store = _Store()
    writers = Writers(store, 2, 64, 30.0)
    for name in ("a", "b"):
        writers.begin(_slice(name))
    _pump(writers)
    assert writers.is_full
    assert not writers.has_room(_slice("c"))
    store.sent["a"].done = True
    _pump(writers)
    assert writers.has_room(_slice("c"))
    writers.begin(_slice("c"))
    _pump(writers)
    assert "c" in store.sent


def test_a_large_slice_goes_alone() -> None:
    store = _Store()
    writers = Writers(store, 4, 64, 30.0)
    large = _slice("large", MAX_SLICE_ROWS + 1)
    writers.begin(_slice("small"))
    assert not writers.has_room(large)
    _pump(writers)
    store.sent["small"].done = True
    _pump(writers)
    assert writers.has_room(large)
    writers.begin(large)
    assert writers.is_full
    assert not writers.has_room(_slice("next"))


def test_small_slices_share_the_window_and_a_large_one_has_all_of_it() -> None:
    def many(rows: int, devices: int = 80) -> MicroBatch:
        groups: dict[tuple[str, int], RowsByTime] = {
            (f"{name}", 1): {ms: (1000 + ms, ms, 0, 1.0, 2.0) for ms in range(rows)}
            for name in range(devices)
        }
        return MicroBatch(RowGroups.of(groups), [], {0: 0}, {0: 1}, {0: Counts()}, [])

    store = _Store()
    writers = Writers(store, 4, 64, 30.0)
    writers.begin(many(MIN_ROWS_ALONE))
    _pump(writers)
    assert len(store.sent) == 16
    store = _Store()
    writers = Writers(store, 4, 64, 30.0)
    writers.begin(many(MIN_ROWS_ALONE, 100))
    _pump(writers)
    assert len(store.sent) == 64
