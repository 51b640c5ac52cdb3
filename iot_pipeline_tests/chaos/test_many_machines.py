"""Lanes on workers of several machines: they die, freeze and wake up, and so does all beside them.

Dagster's runs go through a real Redis to real Celery workers, its storage is a real Postgres. `make
test` has one pass, in which each thing dies once; `make chaos` goes on at random.
"""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

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
IS_ROUND = CHAOS_MINUTES >= LEAST_CHAOS_MINUTES
# The round has both as shipped; where each thing dies once, a silence of 18 s is enough.
SIGN_SECONDS, MONITOR_SECONDS = (10, 10) if IS_ROUND else (3, 3)
# Of a machine: six signs that do not come, then the sensor, the queue and a worker.
RECOVERY_SECONDS = 90
# Between two looks at Dagster's storage; each opens the instance anew.
_ASK_SECONDS = 1.0
# Of Postgres: longer than a run without a sign of life is waited for.
AWAY_SECONDS = 75.0
GONE = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(MINUTES * 60 + 1200)]


@dataclass
class Ingesting:
    """A world under load whose lanes are on machines, and what was done to these."""

    world: World
    machines: Machines
    kills: Counter[str] = field(default_factory=Counter)
    recoveries: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    # How runs of frozen machines ended once these woke up.
    woke_up: Counter[str] = field(default_factory=Counter)

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

        return wait_for(all_commit, 150, self.complain, every_seconds=_ASK_SECONDS)

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
        wait_for(lambda: None if self._behind(ends) else True, seconds, self.complain)
        took = time.monotonic() - began
        self.recoveries[what].append(took)
        print(f"chaos: machines: {what}, recovered after {took:.1f} s", flush=True)

    def complain(self) -> str:
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
    ingesting.woke_up[ingesting.machines.why_ended(run_id)] += 1


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


@dataclass(frozen=True)
class Beside:
    """What runs at work can do without: what it is called, how it dies, how it is there again."""

    name: str
    kill: Callable[[Machines], object]
    start: Callable[[Machines], object]


BESIDE = (
    Beside("Redis", lambda there: there.redis.kill(), lambda there: there.redis.start()),
    Beside("Postgres", lambda there: there.postgres.kill(), lambda there: there.postgres.start()),
    Beside("daemon and code location", Machines.kill_daemon, Machines.start_daemon),
)


def kill_beside(what: Beside, ingesting: Ingesting, dice: random.Random) -> None:
    ingesting.at_work()
    what.kill(ingesting.machines)
    ingesting.count(what.name)
    goes_on_meanwhile(ingesting)
    what.start(ingesting.machines)
    ingesting.recover(f"{what.name} killed")


def postgres_is_away_for_long(ingesting: Ingesting, dice: random.Random) -> None:
    """Longer than a run may be silent: those that were at work are the same ones afterwards."""
    before, machines = ingesting.at_work(), ingesting.machines
    machines.postgres.kill()
    ingesting.count(f"Postgres, for {AWAY_SECONDS:.0f} s")
    until = time.monotonic() + AWAY_SECONDS
    while time.monotonic() < until:
        goes_on_meanwhile(ingesting)
    machines.postgres.start()
    back_at = time.time()
    ingesting.recover(f"Postgres away for {AWAY_SECONDS:.0f} s")
    for run_id, _, _ in before.values():
        tells = partial(machines.has_told_since, run_id, back_at)
        wait_for(tells, 60, ingesting.complain, every_seconds=_ASK_SECONDS)
    assert ingesting.at_work() == before


def goes_on_meanwhile(ingesting: Ingesting) -> None:
    """Lanes at work need Kafka and Cassandra, and nothing of Dagster."""
    before = ingesting.committed()

    def all_grow() -> bool | None:
        now = ingesting.committed()
        return all(now[place] > before[place] for place in range(LANES)) or None

    wait_for(all_grow, 30)


Fault = Callable[[Ingesting, random.Random], None]
# Each takes a minute or more, the others seconds.
LONG: tuple[Fault, ...] = (
    kill_a_worker,
    lose_a_machine,
    freeze_a_machine,
    postgres_is_away_for_long,
)
QUICK: tuple[Fault, ...] = (kill_a_run, *(partial(kill_beside, what) for what in BESIDE))
# After each of them once, so many quick ones come to a long one.
QUICK_TIMES = 6


@pytest.fixture
def ingesting(services: OwnServices, seed: int, tmp_path: Path) -> Iterator[Ingesting]:
    world = World.on(
        services,
        seed,
        IOT_INGEST_MODE="follow",
        # No run ends by itself while a test waits for what ends it.
        IOT_FOLLOW_SECONDS="7200",
        IOT_SIGN_SECONDS=str(SIGN_SECONDS),
        IOT_LANES=str(LANES),
        IOT_PARTITIONS="4",
        IOT_DATA_DIR=str(tmp_path / "data"),
    )
    world.load.per_second = PER_SECOND
    with running_machines(tmp_path, world.env, NAMES, LANES, MONITOR_SECONDS) as machines:
        yield Ingesting(world, machines)


def test_each_thing_dies_once_and_every_offset_is_accounted_for(
    ingesting: Ingesting, seed: int
) -> None:
    """Two machines at once, one dead and one asleep: each alone takes as long."""
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
    for what in BESIDE:
        what.kill(machines)
    goes_on_meanwhile(ingesting)
    for what in BESIDE:
        what.start(machines)
    kill_a_run(ingesting, random.Random(seed))
    _runs_end_when_they_are_told_to(ingesting)
    all_is_accounted_for(ingesting)


def _runs_end_when_they_are_told_to(ingesting: Ingesting) -> None:
    """By the button, and with their worker."""
    machines, at_work = ingesting.machines, ingesting.at_work()
    (terminated, _, _), (stopped, name, _) = at_work[0], at_work[1]
    machines.terminate(terminated)
    began = time.monotonic()
    ingesting.machine(name).stop()
    for run_id, status in ((terminated, "CANCELED"), (stopped, "FAILURE")):
        found = wait_for(partial(_end_of, machines, run_id), 30, every_seconds=_ASK_SECONDS)
        assert found.value == status
        took = time.monotonic() - began
        print(f"chaos: machines: told to end, {status} after {took:.1f} s", flush=True)


def _end_of(machines: Machines, run_id: str) -> dg.DagsterRunStatus | None:
    run = machines.run(run_id)
    return run.status if run.is_finished else None


def lanes_survive_what_machines_do(ingesting: Ingesting, seed: int) -> None:
    dice, began = random.Random(seed), time.monotonic()
    ingesting.world.load.start()
    each = [*LONG, *QUICK]
    for fault in dice.sample(each, len(each)):
        fault(ingesting, dice)
    while time.monotonic() - began < MINUTES * 60:
        dice.choice([*LONG, *QUICK * QUICK_TIMES])(ingesting, dice)
    killed = sum(ingesting.kills.values())
    longest = max(max(took) for took in ingesting.recoveries.values())
    tally(killed, 0, len(ingesting.world.load.acknowledged), longest)
    counts = ", ".join(f"{what} {number}" for what, number in sorted(ingesting.kills.items()))
    say(f"machines: {killed} kills: {counts}; woke up: {dict(ingesting.woke_up)}")
    for what, took in sorted(ingesting.recoveries.items()):
        say(f"machines: {what}: goes on after {median(took):.1f} s, {max(took):.1f} at most")
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


if IS_ROUND:
    test_lanes_survive_what_machines_do = lanes_survive_what_machines_do
