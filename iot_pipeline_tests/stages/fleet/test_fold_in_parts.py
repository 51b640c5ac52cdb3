"""What a run sees of its devices is folded in parts, while Cassandra is waited for."""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.errors import (
    CassandraUnavailableError,
    ConfigurationError,
    PipelineError,
    RowsRefusedError,
)
from iot_pipeline.stages.fleet.keeper import FleetKeeper
from iot_pipeline.stages.fleet.rows import FleetPorts
from iot_pipeline_tests.stages.fakes_fleet import FakeDeviceStates
from iot_pipeline_tests.stages.fakes_quality import TimeLapse

T0 = 1_790_000_000_000
NOW = datetime.fromtimestamp(T0 / 1000, UTC)


def a_keeper(states: FakeDeviceStates | None = None) -> FleetKeeper:
    table = TimeLapse([])
    ports = FleetPorts(states or FakeDeviceStates(), table, table, table)
    return FleetKeeper(ports, QualityLimits(QUANTITIES))


def a_batch(devices: int, rows: int, at: int = T0) -> MicroBatch:
    groups: dict[tuple[str, int], RowsByTime] = {
        (f"d{device}", T0 // MS_PER_DAY): {
            at + 1000 * n: ((at + 1000 * n + 40) * 1000, 0, n, 20.0 + n % 3, 50.0)
            for n in range(rows)
        }
        for device in range(devices)
    }
    return MicroBatch(RowGroups.of(groups), [], {0: 0}, {0: 1}, {0: Counts()}, [])


def folded(keeper: FleetKeeper) -> int:
    return sum(state.rows for state in keeper._states.devices.values())


def test_a_large_micro_batch_is_folded_part_by_part_and_none_of_it_twice() -> None:
    keeper = a_keeper()
    keeper.observe(a_batch(1_200, 10), T0)
    assert folded(keeper) == 0, "not where rows wait for it"
    seen = []
    for _ in range(10):
        keeper.work()
        seen.append(folded(keeper))
    assert 0 < seen[0] <= 5_000
    assert seen == sorted(seen)
    assert seen[-1] == 12_000
    assert {state.rows for state in keeper._states.devices.values()} == {10}


def test_two_large_micro_batches_do_not_wait_at_once() -> None:
    keeper = a_keeper()
    keeper.observe(a_batch(1_200, 10), T0)
    keeper.work()
    keeper.observe(a_batch(600, 10, T0 + 10_000), T0)
    assert folded(keeper) == 12_000
    assert len(keeper._waiting) == 1


def test_a_look_in_another_thread_never_makes_ingestion_wait() -> None:
    keeper = a_keeper()
    is_held, is_over = threading.Event(), threading.Event()

    def look() -> None:
        with keeper._lock:
            is_held.set()
            is_over.wait(10)

    looking = threading.Thread(target=look)
    looking.start()
    assert is_held.wait(10)
    keeper.observe(a_batch(100, 10), T0)
    keeper.work()
    assert folded(keeper) == 0
    is_over.set()
    looking.join()
    keeper.observe(a_batch(600, 10, T0 + 10_000), T0)
    for _ in range(10):
        keeper.work()
    assert folded(keeper) == 7_000


@pytest.mark.parametrize("devices", [12_000, 15_000, 20_001])
def test_a_fleet_of_more_devices_than_are_all_looked_at_is_folded_and_kept(
    devices: int, caplog: pytest.LogCaptureFixture
) -> None:
    states = FakeDeviceStates()
    keeper = a_keeper(states)
    keeper.load()
    for step in range(2):
        keeper.observe(a_batch(devices, 1, T0 + 1000 * step), T0)
        for _ in range(2 * devices // 500):
            keeper.work()
    keeper.observe(MicroBatch(RowGroups.of({}), [], {0: 0}, {0: 1}, {0: Counts()}, []), T0)
    keeper.save(is_last=True)
    assert caplog.text == ""
    assert states.written > 0


@dataclass
class ReadTogether(FakeDeviceStates):
    """Gives two threads their answers at the same time."""

    both_read: threading.Barrier | None = None

    def read_some(self, most: int) -> tuple[dict[str, bytes], bool]:
        found = FakeDeviceStates.read_some(self, most)
        if self.both_read is not None:
            self.both_read.wait()
        return found


def test_what_is_kept_is_taken_in_once_though_two_threads_load_it() -> None:
    states = ReadTogether()
    first = a_keeper(states)
    first.load()
    first.observe(a_batch(1, 100), T0)
    first.save(is_last=True)
    second = a_keeper(states)
    states.both_read = threading.Barrier(2, timeout=10)
    threads = [threading.Thread(target=second.load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folded(second) == 100


@pytest.mark.parametrize(
    "failure",
    [CassandraUnavailableError("away"), ConfigurationError("no MODIFY"), RowsRefusedError("no")],
)
def test_whatever_is_wrong_with_the_table_of_states_keeping_does_not_fail_a_run(
    failure: PipelineError, caplog: pytest.LogCaptureFixture
) -> None:
    states = FakeDeviceStates()
    keeper = a_keeper(states)
    keeper.load()
    keeper.observe(a_batch(5, 2), T0)
    states.failure = failure
    keeper.save(is_last=True)
    assert states.written == 0
    assert str(failure) in caplog.text
