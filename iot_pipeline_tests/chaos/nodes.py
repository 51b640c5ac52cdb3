"""Three nodes of each: what happens to them, and how long ingestion then stands still.

A stop is how long acknowledged readings of a Kafka partition waited while none of it was committed.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cassandra import ConsistencyLevel, DriverException, OperationTimedOut
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import WhiteListRoundRobinPolicy
from cassandra.query import SimpleStatement
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from iot_pipeline_tests.chaos.world import World
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.servers import OwnServices

COUNT = 3
# What is promised of a quiet machine: with one node of each away ingestion goes on within it.
GOES_ON_SECONDS = 15.0
_LOOK_EVERY_SECONDS = 0.2
_ANSWERS = (DriverException, OperationTimedOut, NoHostAvailable)


def node(kind: str, number: int) -> str:
    return f"{kind}-{number}"


def plain_admin(services: OwnServices) -> AdminClient:
    """An admin client that says nothing of brokers that are away."""
    return AdminClient({"bootstrap.servers": services.bootstrap_servers, "log_level": 0})


class Through:
    """A session with one node of Cassandra and no other."""

    def __init__(self, services: OwnServices, number: int, seconds: float = 5.0) -> None:
        host = services.contact_points[number - 1]
        profile = ExecutionProfile(
            load_balancing_policy=WhiteListRoundRobinPolicy([host]), request_timeout=seconds
        )
        self._cluster = Cluster(
            [host],
            port=services.cassandra_port,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            connect_timeout=10,
        )
        try:
            self.session = self._cluster.connect()
        except BaseException:
            self._cluster.shutdown()
            raise

    def close(self) -> None:
        self._cluster.shutdown()


class Watch:
    """Looks at the checkpoints, through nodes that answer, and keeps the longest stop."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._through: Through | None = None
        self.away: set[int] = set()
        self.checkpoints: dict[int, int] = {}
        # Of each Kafka partition, in seconds.
        self.longest: dict[int, float] = {}
        self._moved_at: dict[int, float] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    @contextlib.contextmanager
    def without(self, number: int) -> Iterator[None]:
        """Ask other nodes of Cassandra than this one meanwhile."""
        self.away.add(number)
        try:
            yield
        finally:
            self.away.discard(number)

    def start_again(self) -> None:
        """Forget how long stops were."""
        with self._lock:
            self.longest = {}
            self._moved_at = dict.fromkeys(self._world.load.ends, time.monotonic())

    def wait_for(self, ends: dict[int, int], seconds: float) -> None:
        """Until all of this is committed."""
        deadline = until(seconds)
        while any(self.checkpoints.get(p, 0) < end for p, end in ends.items()):
            assert time.monotonic() < deadline, f"{self.checkpoints} of {ends}"
            time.sleep(_LOOK_EVERY_SECONDS)

    def _run(self) -> None:
        try:
            while not self._stop.wait(_LOOK_EVERY_SECONDS):
                found = self._look()
                if found is not None:
                    self._compare(found)
        finally:
            self._close()

    def _compare(self, found: dict[int, int]) -> None:
        now = time.monotonic()
        with self._lock:
            for partition, end in list(self._world.load.ends.items()):
                at = found.get(partition, 0)
                # With what passed since the last look, which may be long: an upper bound.
                stop = now - self._moved_at.get(partition, now)
                self.longest[partition] = max(self.longest.get(partition, 0.0), stop)
                if at >= end or at > self.checkpoints.get(partition, 0):
                    self._moved_at[partition] = now
            self.checkpoints = found

    def _look(self) -> dict[int, int] | None:
        env = self._world.env
        try:
            if self._through is None:
                number = min(set(range(1, COUNT + 1)) - self.away)
                self._through = Through(self._world.services, number)
                self._number = number
            elif self._number in self.away:
                self._close()
                return None
            # By partition: a question for all of them has no second try at another replica, and
            # would wait until the others are sure that a frozen one is away, about 20 s.
            statement = SimpleStatement(
                f"SELECT next_offset FROM {env['IOT_KEYSPACE']}.ingest_ledger "
                "WHERE topic = %s AND kafka_partition = %s LIMIT 1",
                consistency_level=ConsistencyLevel.QUORUM,
            )
            ask = self._through.session.execute_async
            asked = {p: ask(statement, (env["IOT_TOPIC"], p)) for p in list(self._world.load.ends)}
            found = {p: future.result().one() for p, future in asked.items()}
            return {
                partition: row.next_offset
                for partition, row in found.items()
                if row is not None and row.next_offset is not None
            }
        except _ANSWERS:
            self._close()
            return None

    def _close(self) -> None:
        if self._through is not None:
            self._through.close()
            self._through = None


@dataclass
class Nodes:
    """The nodes of a world, what was done to them, and how long it stopped ingestion."""

    world: World
    watch: Watch
    kills: dict[str, int] = field(default_factory=dict)
    stops: list[tuple[float, str]] = field(default_factory=list)

    def count(self, kind: str, times: int = 1) -> None:
        self.kills[kind] = self.kills.get(kind, 0) + times

    def leaders(self, topic: str = "") -> dict[int, int]:
        """The broker that leads each Kafka partition, by default of the readings' topic."""
        topic = topic or self.world.env["IOT_TOPIC"]
        admin = plain_admin(self.world.services)
        partitions = admin.list_topics(topic, timeout=20).topics[topic].partitions.values()
        return {p.id: p.leader for p in partitions if p.leader > 0}

    def leader(self, dice: random.Random) -> int:
        """A broker that leads one of the topic's partitions."""
        return dice.choice(sorted({*self.leaders().values()}))

    def goes_on(self, name: str) -> None:
        """Return when what is acknowledged from now on is committed; note how long it stopped."""
        load = self.world.load
        begun = dict(load.ends)
        deadline = until(4 * GOES_ON_SECONDS)
        while any(load.ends[p] <= end for p, end in begun.items()):
            assert time.monotonic() < deadline, f"{name}: the brokers take nothing: {load.ends}"
            time.sleep(_LOOK_EVERY_SECONDS)
        self.watch.wait_for(dict(load.ends), 2 * GOES_ON_SECONDS)
        self.stops.append((max(self.watch.longest.values()), name))

    def settle(self) -> None:
        """Until every replica is in sync and every node of Cassandra sees the others."""
        services, env = self.world.services, self.world.env
        deadline = until(60)
        while not (self._all_in_sync() and all(map(self._sees_all, range(1, COUNT + 1)))):
            assert time.monotonic() < deadline, f"{env['IOT_TOPIC']} of {services.folder}"
            time.sleep(0.5)

    def _all_in_sync(self) -> bool:
        services, topic = self.world.services, self.world.env["IOT_TOPIC"]
        admin = plain_admin(services)
        try:
            found = admin.list_topics(topic, timeout=10).topics[topic].partitions.values()
        except KafkaException:
            return False
        return all(len(partition.isrs) == COUNT for partition in found)

    def _sees_all(self, number: int) -> bool:
        statement = SimpleStatement(
            f"SELECT version FROM {self.world.env['IOT_KEYSPACE']}.schema_migrations",
            consistency_level=ConsistencyLevel.ALL,
        )
        try:
            through = Through(self.world.services, number)
        except _ANSWERS:
            return False
        try:
            through.session.execute(statement)
        except _ANSWERS:
            return False
        finally:
            through.close()
        return True


Fault = Callable[[Nodes, random.Random], None]


@contextlib.contextmanager
def killed(nodes: Nodes, name: str) -> Iterator[None]:
    """kill -9; it is started again afterwards."""
    nodes.world.services.kill(name)
    nodes.count(f"kill -9 of {name.partition('-')[0]}")
    try:
        yield
    finally:
        nodes.world.services.up(name)


@contextlib.contextmanager
def frozen(nodes: Nodes, name: str) -> Iterator[None]:
    """SIGSTOP; its ports accept connections, and nothing is answered."""
    nodes.world.services.sigstop(name)
    nodes.count(f"SIGSTOP of {name.partition('-')[0]}")
    try:
        yield
    finally:
        nodes.world.services.sigcont(name)


def one_away(how: Callable[[Nodes, str], contextlib.AbstractContextManager[None]]) -> Fault:
    """A leader of Kafka and a node of Cassandra are away together; ingestion goes on meanwhile."""

    def fault(nodes: Nodes, dice: random.Random) -> None:
        broker, other = nodes.leader(dice), dice.randint(1, COUNT)
        name = f"{how.__name__} {node('kafka', broker)} and {node('cassandra', other)}"
        nodes.watch.start_again()
        with (
            nodes.watch.without(other),
            how(nodes, node("kafka", broker)),
            how(nodes, node("cassandra", other)),
        ):
            nodes.goes_on(name)

    return fault


def rolling_restart(nodes: Nodes, dice: random.Random) -> None:
    """Every node is stopped as a person would, one after the other, and started again."""
    services = nodes.world.services
    for number in dice.sample(range(1, COUNT + 1), COUNT):
        nodes.watch.start_again()
        with nodes.watch.without(number):
            for kind in ("kafka", "cassandra"):
                services.down(node(kind, number))
            nodes.goes_on(f"restart of {node('kafka', number)} and {node('cassandra', number)}")
            services.up(node("kafka", number), node("cassandra", number))
        nodes.count("restart", 2)
        nodes.settle()


def killed_one_by_one(kind: str) -> Fault:
    """kill -9 of each node of a kind in turn, while the others serve."""

    def fault(nodes: Nodes, dice: random.Random) -> None:
        for number in dice.sample(range(1, COUNT + 1), COUNT):
            nodes.watch.start_again()
            away = nodes.watch.without(number) if kind == "cassandra" else contextlib.nullcontext()
            with away, killed(nodes, node(kind, number)):
                nodes.goes_on(f"kill -9 of {node(kind, number)}")
            nodes.settle()

    return fault


AWAY: dict[str, Fault] = {
    "one of each frozen": one_away(frozen),
    "one of each killed": one_away(killed),
    "each broker killed in turn": killed_one_by_one("kafka"),
    "each node of Cassandra killed in turn": killed_one_by_one("cassandra"),
    "rolling restart": rolling_restart,
}
# What `make test` has time for.
SHORT = ("one of each frozen", "one of each killed")
