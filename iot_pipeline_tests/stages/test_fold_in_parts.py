"""What a run sees of its devices is folded in parts, while Cassandra is waited for."""

import threading

from iot_pipeline.core.ingest import MicroBatch
from iot_pipeline.core.ledger import Counts
from iot_pipeline.core.quality_limits import QualityLimits
from iot_pipeline.core.readings import MS_PER_DAY
from iot_pipeline.stages.fleet_keeper import FleetKeeper
from iot_pipeline.stages.fleet_ports import FleetPorts
from iot_pipeline_tests.stages.fakes_fleet import FakeDeviceStates
from iot_pipeline_tests.stages.fakes_quality import TimeLapse

T0 = 1_790_000_000_000


def a_keeper() -> FleetKeeper:
    table = TimeLapse([])
    return FleetKeeper(FleetPorts(FakeDeviceStates(), table, table, table), QualityLimits())


def a_batch(devices: int, rows: int, at: int = T0) -> MicroBatch:
    groups = {
        (f"d{device}", T0 // MS_PER_DAY): {
            at + 1000 * n: ((at + 1000 * n + 40) * 1000, 0, n, 20.0 + n % 3, 50.0)
            for n in range(rows)
        }
        for device in range(devices)
    }
    return MicroBatch(groups, [], {0: 0}, {0: 1}, {0: Counts()}, [])


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
