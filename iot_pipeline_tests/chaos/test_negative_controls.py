"""Broken variants of the pipeline, each of which the oracle must notice; and their honest twins.

An oracle that has never been red proves nothing. Each control breaks one promise, in a process of
its own; the same steps without the sabotage leave the oracle content.
"""

import signal
import time

import psutil
import pytest

from iot_pipeline_tests.chaos.load import ORIGIN_MS
from iot_pipeline_tests.chaos.sabotaged_drain import SERVER_PID
from iot_pipeline_tests.chaos.world import World, sabotaged, wait_stopped
from iot_pipeline_tests.servers import OwnServices

pytestmark = pytest.mark.chaos

MESSAGES = 4000


def crash_committed(world: World) -> None:
    """A drain that dies with the checkpoint moved, then an honest one that takes the rest."""
    world.load.send(MESSAGES)
    done = world.run(sabotaged("checkpoint-first"))
    assert done.returncode == -signal.SIGKILL, done.stderr
    world.drain_all()


def test_the_oracle_notices_a_checkpoint_that_moves_before_its_rows(
    services: OwnServices, seed: int
) -> None:
    world = World.on(services, seed)
    crash_committed(world)
    verdict = world.ask_oracle()
    assert "lost" in verdict.kinds, verdict
    assert world.audit()["lost"] > 0


def test_the_oracle_notices_a_row_that_was_silently_dropped(
    services: OwnServices, seed: int
) -> None:
    # One micro-batch: in a later one a resent reading would put the row back.
    world = World.on(services, seed, IOT_MICRO_BATCH_RECORDS="50000")
    world.load.send(MESSAGES)
    done = world.run(sabotaged("dropped-insert"))
    assert done.returncode == 0, done.stderr
    verdict = world.ask_oracle()
    assert verdict.kinds == {"lost"}, verdict
    assert len(verdict.faults["lost"]) == 1, verdict
    assert world.audit()["lost"] >= 1


def overtake(world: World, kind: str) -> None:
    """A drain that sleeps before a conditional write, and wakes when all is done."""
    for _ in range(3):  # three broker milliseconds at least, so three micro-batches
        world.load.send(MESSAGES // 3)
        time.sleep(0.01)
    zombie = world.start(sabotaged(kind))
    try:
        wait_stopped(zombie)
        world.drain_all()
    finally:
        zombie.send_signal(signal.SIGCONT)
        output, _ = zombie.communicate(timeout=60)
    assert zombie.returncode == 0, output


@pytest.mark.parametrize("kind", ["unfenced", "pause"])
def test_a_zombie_that_wakes_is_fenced_and_without_the_condition_the_oracle_notices(
    services: OwnServices, seed: int, kind: str
) -> None:
    world = World.on(services, seed, IOT_PARTITIONS="1")
    overtake(world, kind)
    verdict = world.ask_oracle()
    if kind == "pause":
        assert verdict.is_clean, verdict
    else:
        assert verdict.kinds & {"checkpoint off the chain", "ledger overlap", "not drained"}, (
            verdict
        )


# Offsets of two records of one millisecond and one write time.
_APART = 17 * 62


def send_conflicts(world: World) -> None:
    """Readings of one key in one broker millisecond, 1054 offsets and a micro-batch apart.

    So their write times are equal: 1054 is a multiple of 62. Each first one is hotter, each second
    one more humid: cell by cell Cassandra keeps what nobody sent.
    """
    world.load.linger_for(250_000)  # one batch, which `flush` sends: the broker stamps it once
    for number in range(2 * _APART):
        device_id = "conflict" if number % _APART < 20 else f"alone_{number % 10}"
        high = float(number // _APART)
        ms = ORIGIN_MS + (number % _APART if device_id == "conflict" else number)
        world.load.send_reading(device_id, ms, 50 - high, 10 + high)
    world.load.flush()
    stamps = {record.produced_ms for record in world.collect().records}
    assert len(stamps) == 1, "the broker took them as several batches: nothing would be tied"


def test_conflicting_readings_of_one_millisecond_make_whole_rows(
    services: OwnServices, seed: int
) -> None:
    world = World.on(services, seed, IOT_PARTITIONS="1")
    send_conflicts(world)
    world.drain_all()
    verdict = world.ask_oracle()
    assert verdict.is_clean, verdict


@pytest.mark.parametrize("kind", ["open-milliseconds", "write-time-without-offset"])
def test_the_oracle_notices_equal_write_times_that_are_left_to_cassandra(
    services: OwnServices, seed: int, kind: str
) -> None:
    world = World.on(services, seed, IOT_PARTITIONS="1")
    send_conflicts(world)
    done = world.run(sabotaged(kind))
    assert done.returncode == 0, done.stderr
    verdict = world.ask_oracle()
    assert verdict.kinds == {"not its winner"}, verdict
    if kind == "open-milliseconds":
        assert len(verdict.faults["not its winner"]) == 20, verdict
        assert world.audit()["torn"] == 40, "both records of each of the 20 keys"


def kill_behind_acknowledgements(world: World) -> int:
    """kill -9 of Cassandra between the rows' acknowledgement and the commit; the drain survives.

    The drain itself strikes, at once: later the commit log may have been synced after all.

    Returns:
        The drain's exit code.
    """
    victim = world.services.pid("cassandra")
    drained = world.start(sabotaged("kill-server"), **{SERVER_PID: str(victim)})
    try:
        wait_stopped(drained)
        psutil.wait_procs([psutil.Process(victim)] if psutil.pid_exists(victim) else [], 60)
        world.services.up("cassandra")
    finally:
        drained.send_signal(signal.SIGCONT)
        output, _ = drained.communicate(timeout=120)
    print(output)
    return drained.returncode


def test_a_killed_cassandra_keeps_what_it_acknowledged(
    chaos_services: OwnServices, seed: int
) -> None:
    world = World.on(chaos_services, seed)
    world.load.send(MESSAGES)
    assert kill_behind_acknowledgements(world) == 0
    world.drain_all()
    verdict = world.ask_oracle()
    assert verdict.is_clean, verdict
