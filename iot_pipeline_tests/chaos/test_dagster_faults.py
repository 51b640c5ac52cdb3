"""Dagster dies, in parts and as a whole, while its sensor ingests; then the oracle.

`dagster dev` with a home of its own and the sensor on, driven as a person would, over GraphQL.
Faults come in turn, each in a run that is writing, round and round until the time is over. A round
takes minutes, so `make test` has none: `make chaos` does, and the summary of the others says so.
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from iot_pipeline.defs.instance import prepare_instance
from iot_pipeline.defs.names import PROCESS, RunProcess
from iot_pipeline_tests.chaos.conftest import CHAOS_MINUTES, LEAST_CHAOS_MINUTES, say, tally
from iot_pipeline_tests.chaos.world import TRY_AGAIN, World
from iot_pipeline_tests.defs.dev_server import DevServer, dagster_dev, wait_for
from iot_pipeline_tests.pipeline import IOT
from iot_pipeline_tests.servers import OwnServices, free_ports

MINUTES = CHAOS_MINUTES / 3
PER_SECOND = 200
BACKLOG = 6000
RECOVERY_SECONDS = 240

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(MINUTES * 60 + 1200)]


@dataclass
class Ingesting:
    """`dagster dev` with the sensor on, over a world under load."""

    world: World
    home: Path
    log_path: Path
    process_kills: int = 0
    zombies: int = 0
    recoveries: list[tuple[float, str]] = field(default_factory=list)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self) -> None:
        """Start it, or start it again where the last one died."""
        self._stack.close()
        manager = dagster_dev(self.home, free_ports(1)[0], self.world.env, self.log_path)
        self.server: DevServer = self._stack.enter_context(manager)
        self.server.start_sensor("iot_data_lag")

    def stop(self) -> None:
        self._stack.close()

    def run_that_writes(self) -> tuple[str, int]:
        """Make a backlog, and wait for a run that has committed some of it: (run id, pid)."""
        seen: dict[str, int] = {}

        def writing() -> tuple[str, int] | None:
            done = sum(self.world.committed().values())
            if len(self.world.load.attempted) - done < BACKLOG // 2:
                self.world.load.backlog(BACKLOG)
            for run in self.server.runs(statuses=["STARTED"], pipelineName="ingest"):
                tags = {tag["key"]: tag["value"] for tag in run["tags"]}
                process = RunProcess.parse(tags.get(PROCESS, ""))
                if process is None or process.run_id != run["runId"] or process.is_gone:
                    continue
                if done > seen.setdefault(run["runId"], done):
                    return run["runId"], process.pid
            return None

        return wait_for(writing, 120, lambda: self.log_path.read_text()[-2000:])

    def recover(self, name: str) -> None:
        """Until what was acknowledged by now is committed."""
        began, wanted = time.monotonic(), len(self.world.load.acknowledged)

        def is_done() -> bool | None:
            return True if sum(self.world.committed().values()) >= wanted else None

        wait_for(is_done, RECOVERY_SECONDS, lambda: self.log_path.read_text()[-2000:])
        seconds = time.monotonic() - began
        self.recoveries.append((seconds, name))
        print(f"chaos: dagster: {name}, recovered after {seconds:.1f} s", flush=True)


def kill_the_run(ingesting: Ingesting, dice: random.Random) -> None:
    """kill -9 of the process that writes; the sensor notices, and buries the run."""
    run_id, pid = ingesting.run_that_writes()
    time.sleep(dice.uniform(0, 0.3))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        ingesting.process_kills += 1
    ingesting.server.finish(run_id, 90)


def kill_all_of_dagster(ingesting: Ingesting, dice: random.Random) -> None:
    """kill -9 of `dagster dev` with its daemon, code server and runs; started again."""
    ingesting.run_that_writes()
    time.sleep(dice.uniform(0, 0.3))
    root = psutil.Process(ingesting.server.process.pid)
    ingesting.process_kills += 1 + len(root.children(recursive=True))
    ingesting.server.kill()
    ingesting.start()


def terminate(ingesting: Ingesting, dice: random.Random) -> None:
    """The button: the run ends within seconds, whatever it was writing."""
    run_id, pid = ingesting.run_that_writes()
    time.sleep(dice.uniform(0, 0.3))
    with contextlib.suppress(AssertionError):  # it has ended between the look and the click
        ingesting.server.terminate(run_id)
    status = ingesting.server.finish(run_id, 60)["status"]
    assert status in ("CANCELED", "SUCCESS"), ingesting.server.messages(run_id)[-5:]
    wait_for(lambda: None if _is_alive(pid) else True, 30, lambda: f"{pid} lives on")


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def terminate_by_force(ingesting: Ingesting, dice: random.Random) -> None:
    """Dagster gives the run up while its process sleeps; it wakes beside its successor.

    The successor is a drain from a shell: to tell a frozen process to end, Dagster's code server
    waits for it, and starts no run meanwhile (docs/runbook.md).
    """
    run_id, pid = ingesting.run_that_writes()
    server, world = ingesting.server, ingesting.world
    asking = threading.Thread(target=server.terminate, args=(run_id,), kwargs={"force": True})
    os.kill(pid, signal.SIGSTOP)
    try:
        asking.start()
        wait_for(
            lambda: True if server.run(run_id)["status"] in ("CANCELING", "CANCELED") else None,
            30,
            lambda: "Dagster did not give the run up",
        )
        before = sum(world.committed().values())
        drain = world.start([str(IOT), "drain"])
        output, _ = drain.communicate(timeout=120)
        assert drain.returncode in (0, TRY_AGAIN), output
        assert sum(world.committed().values()) > before, output
        ingesting.zombies += 1
        time.sleep(dice.uniform(0, 0.5))
    finally:
        os.kill(pid, signal.SIGCONT)
    asking.join(90)
    assert server.finish(run_id, 60)["status"] == "CANCELED"


def crowd(ingesting: Ingesting, dice: random.Random) -> None:
    """Two drains from a shell, and a second run from the launchpad, on the run's own ranges."""
    ingesting.run_that_writes()
    drains = [ingesting.world.start([str(IOT), "drain"]) for _ in range(2)]
    launched = ingesting.server.launch("ingest")
    try:
        for drain in drains:
            output, _ = drain.communicate(timeout=120)
            assert drain.returncode in (0, 3, TRY_AGAIN), output
    finally:
        for drain in drains:
            drain.kill()
    ingesting.server.succeed(launched, 120)


FAULTS = {
    "Force terminate while it writes": terminate_by_force,
    "kill -9 of the run": kill_the_run,
    "Terminate while it writes": terminate,
    "three on the same ranges": crowd,
    "kill -9 of dagster dev": kill_all_of_dagster,
}


@pytest.fixture
def ingesting(chaos_services: OwnServices, seed: int, tmp_path: Path) -> Iterator[Ingesting]:
    # One request at a time and small micro-batches: a run has a middle that a fault can hit.
    world = World.on(
        chaos_services,
        seed,
        IOT_MICRO_BATCH_RECORDS="50",
        IOT_REQUESTS_IN_FLIGHT="1",
        IOT_DATA_DIR=str(tmp_path / "data"),
    )
    world.load.per_second = PER_SECOND
    home = prepare_instance(tmp_path / "home")
    found = Ingesting(world, home, tmp_path / "dagster.log")
    try:
        found.start()
        yield found
    finally:
        found.stop()


def nothing_is_lost_whatever_becomes_of_dagster(ingesting: Ingesting, seed: int) -> None:
    dice, world = random.Random(seed), ingesting.world
    began = time.monotonic()
    world.load.start()
    names = list(FAULTS)
    while True:
        for name in names:
            FAULTS[name](ingesting, dice)
            ingesting.recover(name)
        if time.monotonic() - began > MINUTES * 60:
            break
        dice.shuffle(names)
    world.load.stop()
    ingesting.stop()
    world.drain_all()
    longest, worst = max(ingesting.recoveries)
    tally(ingesting.process_kills, 0, len(world.load.acknowledged), longest)
    say(
        f"dagster: {len(ingesting.recoveries)} faults; kills: {ingesting.process_kills} processes; "
        f"zombies: {ingesting.zombies}; records acknowledged: {len(world.load.acknowledged)}; "
        f"longest recovery {longest:.1f} s ({worst})"
    )
    verdict = world.ask_oracle()
    say(f"oracle: {verdict}")
    assert verdict.is_clean, verdict
    audit = world.audit()
    assert (audit["lost"], audit["torn"], audit["stray"]) == (0, 0, 0), audit


if CHAOS_MINUTES >= LEAST_CHAOS_MINUTES:
    test_nothing_is_lost_whatever_becomes_of_dagster = nothing_is_lost_whatever_becomes_of_dagster
