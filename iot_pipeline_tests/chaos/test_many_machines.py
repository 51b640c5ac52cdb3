"""Lanes on workers of several machines: they die, freeze and wake up, and so does all beside them.

Dagster's runs go through a real Redis to real Celery workers, its storage is a real Postgres. `make
test` has one pass, in which each thing dies once; `make chaos` goes on at random.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import dagster as dg
import psutil
import pytest

from iot_pipeline_tests.chaos.conftest import CHAOS_MINUTES, LEAST_CHAOS_MINUTES, say, tally
from iot_pipeline_tests.chaos.world import World
from iot_pipeline_tests.defs.dev_server import wait_for
from iot_pipeline_tests.machines import Machine, Machines, running_machines
from iot_pipeline_tests.servers import OwnServices

MINUTES = CHAOS_MINUTES / 4
LANES = 2
NAMES = ("north", "east", "south", "west")
PER_SECOND = 100
# Of a machine: a minute without a sign, then the sensor, the queue and a worker.
RECOVERY_SECONDS = 90
# Between two looks at Dagster's storage; each opens the instance anew.
_ASK_SECONDS = 1.0
GONE = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(MINUTES * 60 + 1200)]


@dataclass
class Ingesting:
    """A world under load whose lanes are on machines, and what was done to these."""

    world: World
    machines: Machines
    kills: Counter[str] = field(default_factory=Counter)
    recoveries: list[tuple[float, str]] = field(default_factory=list)

    def at_work(self) -> dict[int, tuple[str, str, int]]:
        """Wait until every lane has a run that commits: its id, machine and process, by place."""
        before = self.committed()

        def all_commit() -> dict[int, tuple[str, str, int]] | None:
            now = self.committed()
            if any(now[place] <= before[place] for place in range(LANES)):
                return None
            found = {
                place: (run.run_id, process.host, process.pid)
                for place, (run, process) in self.machines.at_work().items()
                if psutil.pid_exists(process.pid)
            }
            return found if len(found) == LANES else None

        return wait_for(all_commit, 150, self._complain, every_seconds=_ASK_SECONDS)

    def committed(self) -> Counter[int]:
        """Offsets by lane."""
        found = Counter[int]()
        for partition, offset in self.world.committed().items():
            found[partition % LANES] += offset
        return found

    def _behind(self, ends: dict[int, int]) -> list[int]:
        done = self.world.committed()
        return [partition for partition, end in ends.items() if done.get(partition, 0) < end]

    def recover(self, what: str, seconds: float = RECOVERY_SECONDS) -> None:
        """Until what is acknowledged a second from now is committed in every lane."""
        began = time.monotonic()
        time.sleep(1)
        ends = dict(self.world.load.ends)
        wait_for(lambda: None if self._behind(ends) else True, seconds, self._complain)
        took = time.monotonic() - began
        self.recoveries.append((took, what))
        print(f"chaos: machines: {what}, recovered after {took:.1f} s", flush=True)

    def _complain(self) -> str:
        runs = [(run.run_id[:8], run.status.value) for run in self.machines.runs()[:9]]
        return f"{self.committed()} {runs} {self.machines.log.read_text()[-2000:]}"

    def machine(self, name: str) -> Machine:
        return self.machines.workers[name]

    def count(self, what: str, number: int = 1) -> None:
        self.kills[what] += number


def lose_a_machine(ingesting: Ingesting, dice: random.Random) -> None:
    """All its processes at once, with a run that writes; another machine takes the lane up."""
    run_id, name, _ = ingesting.at_work()[dice.randrange(LANES)]
    ingesting.machine(name).kill()
    ingesting.count("machines")
    ingesting.recover("a machine is lost")
    assert ingesting.machines.run(run_id).status in GONE
    ingesting.machine(name).start()


def freeze_a_machine(ingesting: Ingesting, dice: random.Random) -> None:
    """It sleeps until its lane is another's, and wakes up beside that."""
    run_id, name, pid = ingesting.at_work()[dice.randrange(LANES)]
    ingesting.machine(name).freeze()
    try:
        ingesting.recover("a machine is frozen")
        assert ingesting.machines.run(run_id).status in GONE
    finally:
        ingesting.machine(name).wake()
    ingesting.count("frozen machines")
    is_over(run_id, pid, ingesting)


def is_over(run_id: str, pid: int, ingesting: Ingesting) -> None:
    """The process that woke up ends by itself; the oracle judges what it did until then."""

    def ended() -> bool | None:
        return not psutil.pid_exists(pid) or None

    wait_for(ended, 60, lambda: f"{pid} of run {run_id} is at work beside its successor")
    if ingesting.machines.was_fenced(run_id):
        ingesting.count("fenced")


def kill_a_run(ingesting: Ingesting, dice: random.Random) -> None:
    """Its process alone: the worker says so to Redis, where Dagster's monitoring asks."""
    run_id, _, pid = ingesting.at_work()[dice.randrange(LANES)]
    psutil.Process(pid).kill()
    ingesting.count("runs")
    ingesting.recover("a run is killed")
    assert ingesting.machines.run(run_id).status in GONE


def kill_a_worker(ingesting: Ingesting, dice: random.Random) -> None:
    """Its run ends with it, and no one is there to say so: as with a whole machine."""
    _, name, _ = ingesting.at_work()[dice.randrange(LANES)]
    ingesting.machine(name).kill_worker()
    ingesting.count("workers")
    ingesting.recover("a worker is killed")
    ingesting.machine(name).start()


def kill_redis(ingesting: Ingesting, dice: random.Random) -> None:
    ingesting.at_work()
    ingesting.machines.redis.kill()
    ingesting.count("Redis")
    goes_on_meanwhile(ingesting)
    ingesting.machines.redis.start()
    ingesting.recover("Redis is killed")


def kill_postgres(ingesting: Ingesting, dice: random.Random) -> None:
    ingesting.at_work()
    ingesting.machines.postgres.kill()
    ingesting.count("Postgres")
    goes_on_meanwhile(ingesting)
    ingesting.machines.postgres.start()
    ingesting.recover("Postgres is killed")


def kill_the_daemon(ingesting: Ingesting, dice: random.Random) -> None:
    ingesting.at_work()
    ingesting.machines.kill_daemon()
    ingesting.count("daemon and code location")
    goes_on_meanwhile(ingesting)
    ingesting.machines.start_daemon()
    ingesting.recover("the daemon is killed")


def goes_on_meanwhile(ingesting: Ingesting) -> None:
    """Lanes at work need Kafka and Cassandra, and nothing of Dagster."""
    before = ingesting.committed()

    def all_grow() -> bool | None:
        now = ingesting.committed()
        return all(now[place] > before[place] for place in range(LANES)) or None

    wait_for(all_grow, 30)


FAULTS: dict[str, Callable[[Ingesting, random.Random], None]] = {
    fault.__name__: fault
    for fault in (
        kill_a_run,
        kill_redis,
        kill_a_worker,
        kill_postgres,
        kill_the_daemon,
        lose_a_machine,
        freeze_a_machine,
    )
}


@pytest.fixture
def ingesting(services: OwnServices, seed: int, tmp_path: Path) -> Iterator[Ingesting]:
    world = World.on(
        services,
        seed,
        IOT_INGEST_MODE="follow",
        # No run ends by itself while a test waits for what ends it.
        IOT_FOLLOW_SECONDS="600",
        IOT_LANES=str(LANES),
        IOT_PARTITIONS="4",
        IOT_DATA_DIR=str(tmp_path / "data"),
    )
    world.load.per_second = PER_SECOND
    with running_machines(tmp_path, world.env, NAMES, LANES) as machines:
        yield Ingesting(world, machines)


def test_each_thing_dies_once_and_every_offset_is_accounted_for(
    ingesting: Ingesting, seed: int
) -> None:
    """Two machines at once, one dead and one asleep: that is a minute, and so is each alone."""
    world, machines = ingesting.world, ingesting.machines
    (lacked,) = machines.lacked
    assert "max_concurrent_runs is 8 and the workers have 4 slots" in lacked
    assert machines.mend(LANES) == [], "the lines that are printed have what lacked"
    world.load.start()
    at_work = ingesting.at_work()
    (dead, its_machine, _), (asleep, other_machine, pid) = at_work[0], at_work[1]
    assert its_machine != other_machine
    ingesting.machine(its_machine).kill()
    ingesting.machine(other_machine).freeze()
    ingesting.recover("one machine is lost, and one is frozen")
    assert {machines.run(run_id).status for run_id in (dead, asleep)} == {GONE[0]}
    taken_up = {name for _, name, _ in ingesting.at_work().values()}
    assert not taken_up & {its_machine, other_machine}
    ingesting.machine(other_machine).wake()
    is_over(asleep, pid, ingesting)
    machines.redis.kill()
    machines.postgres.kill()
    machines.kill_daemon()
    goes_on_meanwhile(ingesting)
    machines.redis.start()
    machines.postgres.start()
    machines.start_daemon()
    kill_a_run(ingesting, random.Random(seed))
    _runs_end_when_they_are_told_to(ingesting)
    all_is_accounted_for(ingesting)


def _runs_end_when_they_are_told_to(ingesting: Ingesting) -> None:
    """By the button, and with their worker."""
    machines, at_work = ingesting.machines, ingesting.at_work()
    (terminated, _, _), (stopped, name, _) = at_work[0], at_work[1]
    machines.terminate(terminated)
    ingesting.machine(name).stop()
    ended = partial(_end_of, machines, terminated)
    assert wait_for(ended, 30, every_seconds=_ASK_SECONDS) == dg.DagsterRunStatus.CANCELED
    ended = partial(_end_of, machines, stopped)
    assert wait_for(ended, 30, every_seconds=_ASK_SECONDS) == dg.DagsterRunStatus.FAILURE


def _end_of(machines: Machines, run_id: str) -> dg.DagsterRunStatus | None:
    run = machines.run(run_id)
    return run.status if run.is_finished else None


def lanes_survive_what_machines_do(ingesting: Ingesting, seed: int) -> None:
    dice, began = random.Random(seed), time.monotonic()
    ingesting.world.load.start()
    names = list(FAULTS)
    while True:
        for name in names:
            FAULTS[name](ingesting, dice)
        if time.monotonic() - began > MINUTES * 60:
            break
        dice.shuffle(names)
    longest, worst = max(ingesting.recoveries)
    killed = sum(ingesting.kills.values()) - ingesting.kills["fenced"]
    tally(killed, 0, len(ingesting.world.load.acknowledged), longest)
    counts = ", ".join(f"{what} {number}" for what, number in sorted(ingesting.kills.items()))
    say(f"machines: {counts}; longest recovery {longest:.1f} s ({worst})")
    all_is_accounted_for(ingesting)


def all_is_accounted_for(ingesting: Ingesting) -> None:
    world = ingesting.world
    world.load.stop()
    ingesting.machines.end()
    world.drain_all()
    verdict = world.ask_oracle()
    assert verdict.is_clean, verdict
    audit = world.audit()
    assert (audit["lost"], audit["torn"], audit["stray"]) == (0, 0, 0), audit


if CHAOS_MINUTES >= LEAST_CHAOS_MINUTES:
    test_lanes_survive_what_machines_do = lanes_survive_what_machines_do
