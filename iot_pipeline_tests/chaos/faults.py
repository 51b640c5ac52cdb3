"""What happens to drains and servers: each fault begins, lasts, and leaves everything running.

A fault takes the harness and a random generator of its own, so that the seed decides what it does
whatever the other one of a pair does meanwhile.
"""

import contextlib
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from confluent_kafka import Producer

from iot_pipeline_tests.chaos.drains import Drains
from iot_pipeline_tests.chaos.oracle import Verdict
from iot_pipeline_tests.chaos.world import EXPECTED_CODES, World
from iot_pipeline_tests.pipeline import IOT

FROZEN_SECONDS = (2.0, 8.0)


@dataclass
class Harness:
    """A world under load, its drains, and what was done to it."""

    world: World
    drains: Drains
    server_kills: int = 0
    deletions: int = 0
    cuts: int = 0
    _neighbour: World | None = None

    def __post_init__(self) -> None:
        # Two faults of a pair never handle one server at once: the second waits for its turn.
        self._busy = {name: threading.Lock() for name in ("kafka", "cassandra")}
        self._count_lock = threading.Lock()
        self._neighbour_lock = threading.Lock()
        self._bag: list[str] = []

    @contextlib.contextmanager
    def alone_with(self, *names: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for name in sorted(names):
                stack.enter_context(self._busy[name])
            yield

    @property
    def neighbour(self) -> World | None:
        """The second pipeline, if there is one by now."""
        return self._neighbour

    @contextlib.contextmanager
    def with_neighbour(self) -> Iterator[World]:
        """A pipeline of its own on the same servers, with a load that is sent when it is asked."""
        with self._neighbour_lock:
            if self._neighbour is None:
                with self.alone_with("kafka", "cassandra"):
                    self._neighbour = World.on(
                        self.world.services, self.world.load.seed + 1, "neighbour"
                    )
                    self._neighbour.load.send(100)
                    self._neighbour.drain_all()
            yield self._neighbour

    def next_fault(self, dice: random.Random) -> str:
        """One after the other in some order, so that each comes before one comes twice."""
        if not self._bag:
            self._bag = sorted(FAULTS)
            dice.shuffle(self._bag)
        return self._bag.pop()

    def count_server_kill(self) -> None:
        with self._count_lock:
            self.server_kills += 1


Fault = Callable[[Harness, random.Random], None]


def kill_drains(harness: Harness, dice: random.Random) -> None:
    """kill -9 of whatever drains, some times in a row, at any moment of its life."""
    for _ in range(dice.randint(3, 6)):
        time.sleep(dice.uniform(0.2, 3.0))
        for worker in list(harness.drains.pids()):
            harness.drains.kill(worker)


def freeze_drain(harness: Harness, dice: random.Random) -> None:
    """SIGSTOP of a drain while another takes over; then the zombie wakes."""
    pids = list(harness.drains.pids().values())
    extra = harness.drains.add()
    try:
        if pids:
            pid = dice.choice(pids)
            _signal(pid, signal.SIGSTOP)
            time.sleep(dice.uniform(*FROZEN_SECONDS))
            _signal(pid, signal.SIGCONT)
        time.sleep(1)
    finally:
        harness.drains.remove(extra)


def crowd_of_drains(harness: Harness, dice: random.Random) -> None:
    """Two more on the same ranges, for a while."""
    extra = [harness.drains.add() for _ in range(2)]
    time.sleep(dice.uniform(2, 6))
    for worker in extra:
        harness.drains.remove(worker)


def _kill(*names: str) -> Fault:
    def fault(harness: Harness, dice: random.Random) -> None:
        with harness.alone_with(*names):
            for name in names:
                harness.world.services.kill(name)
                harness.count_server_kill()
            time.sleep(dice.uniform(0, 3))
            harness.world.services.up(*names)

    return fault


def _freeze(*names: str) -> Fault:
    def fault(harness: Harness, dice: random.Random) -> None:
        with harness.alone_with(*names):
            for name in names:
                harness.world.services.sigstop(name)
            time.sleep(dice.uniform(*FROZEN_SECONDS))
            for name in names:
                harness.world.services.sigcont(name)

    return fault


def _restart(name: str) -> Fault:
    def fault(harness: Harness, dice: random.Random) -> None:
        with harness.alone_with(name):
            harness.world.services.down(name)
            harness.world.services.up(name)

    return fault


def retention_passes(harness: Harness, dice: random.Random) -> None:
    """Kafka deletes what it has, read or not, while drains sleep in the middle of their work."""
    with harness.alone_with("kafka", "cassandra"):
        pids = list(harness.drains.pids().values())
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        try:
            time.sleep(dice.uniform(0.5, 2))
            harness.world.delete_some(dice)
            harness.deletions += 1
        finally:
            for pid in pids:
                _signal(pid, signal.SIGCONT)


def open_transaction(harness: Harness, dice: random.Random) -> None:
    """Nothing behind a producer that hesitates may be given out, and nothing may be lost."""
    with harness.alone_with("kafka"), held_back(harness.world):
        time.sleep(dice.uniform(1, 4))


@contextlib.contextmanager
def held_back(world: World) -> Iterator[None]:
    """A transaction is open on one Kafka partition meanwhile, and is aborted."""
    brokers, topic = world.services.bootstrap_servers, world.env["IOT_TOPIC"]
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": f"idle of {topic}"})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(topic, b"of an aborted transaction", partition=0)
    assert producer.flush(60) == 0
    yield
    producer.abort_transaction(60)


def unreadable_batch(harness: Harness, dice: random.Random) -> None:
    """A batch that unpacks to more than a client takes, between good ones."""
    with harness.alone_with("kafka", "cassandra"):
        harness.world.send_unreadable(dice.choice(sorted(harness.world.ends())))


def foreign_header(harness: Harness, dice: random.Random) -> None:
    """Records with a header whose name is not UTF-8, good ones and bad ones."""
    with harness.alone_with("kafka"):
        harness.world.load.send_foreign(dice.randint(3, 10))


def log_cut_back(harness: Harness, dice: random.Random) -> None:
    """Kafka loses the end of a log that was read, and the log grows again past the checkpoint.

    Then a run stops that partition and names the command that reads what is there now.
    """
    world = harness.world
    with harness.alone_with("kafka", "cassandra"), harness.drains.held():
        world.load.pause()
        try:
            world.drain_all()
            lost = world.cut_log(dice)
        finally:
            world.load.go_on()
        if lost is None:
            return
        while world.ends()[lost.partition] <= lost.end:
            world.load.top_up(500)
        said = world.run([str(IOT), "drain"])
        command = re.search(r"`iot (rebase --at \d+:\d+)`", said.stderr)
        assert said.returncode == 1, said
        assert command, said
        at = int(command[1].rpartition(":")[2])
        assert at <= lost.start, f"{lost} was lost, and {command[0]} passes over what came since"
        world.iot(*command[1].split())
        harness.cuts += 1


def second_pipeline(harness: Harness, dice: random.Random) -> None:
    """Another topic and keyspace on the same servers, drained beside the first."""
    with harness.with_neighbour() as neighbour:
        for _ in range(dice.randint(1, 3)):
            with harness.alone_with("kafka"):
                neighbour.load.send(500)
            done = neighbour.run([str(IOT), "drain"])
            assert done.returncode in EXPECTED_CODES, done.stderr


def judge_neighbour(neighbour: World) -> Verdict:
    """The second pipeline has its own records, all of them, and none of the first."""
    neighbour.drain_all()
    verdict = neighbour.ask_oracle()
    assert verdict.is_clean, verdict
    return verdict


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


FAULTS: dict[str, Fault] = {
    "kill -9 of drains": kill_drains,
    "a drain that sleeps and wakes": freeze_drain,
    "three drains at once": crowd_of_drains,
    "kill -9 of Kafka": _kill("kafka"),
    "kill -9 of Cassandra": _kill("cassandra"),
    "kill -9 of both": _kill("kafka", "cassandra"),
    "Kafka frozen": _freeze("kafka"),
    "Cassandra frozen": _freeze("cassandra"),
    "retention passes": retention_passes,
    "both frozen": _freeze("kafka", "cassandra"),
    "an open transaction": open_transaction,
    "an unreadable batch": unreadable_batch,
    "a foreign header": foreign_header,
    "a log cut back": log_cut_back,
    "a second pipeline": second_pipeline,
    "restart of Kafka": _restart("kafka"),
    "restart of Cassandra": _restart("cassandra"),
}
