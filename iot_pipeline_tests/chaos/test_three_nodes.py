"""Three brokers and three nodes of Cassandra: one of each may be away, and nothing is lost.

`make test` has each kind of absence once; `make chaos` has rounds of all of them.
"""

import contextlib
import json
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    PartitionMetadata,
    ResourceType,
)

from iot_pipeline_tests.chaos.conftest import CHAOS_MINUTES, LEAST_CHAOS_MINUTES, say, tally
from iot_pipeline_tests.chaos.cut_off import CutOffServices, behind_doors
from iot_pipeline_tests.chaos.cuts import CLOCKS, CUTS
from iot_pipeline_tests.chaos.drains import Drains
from iot_pipeline_tests.chaos.nodes import AWAY, COUNT, SHORT, Nodes, Watch, node, plain_admin
from iot_pipeline_tests.chaos.world import DRAIN_SECONDS, TRY_AGAIN, World, sabotaged, wait_stopped
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.pipeline import IOT
from iot_pipeline_tests.servers import OwnServices, clean_environment

MINUTES = CHAOS_MINUTES / 3
PER_SECOND = 300
FAULTS = AWAY | CUTS | CLOCKS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(MINUTES * 60 + 1200)]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CutOffServices]:
    with behind_doors(tmp_path_factory.mktemp("three"), nodes=COUNT) as started:
        yield started


def iot(services: OwnServices, *arguments: str) -> "subprocess.CompletedProcess[str]":
    env = clean_environment(services.env)
    return subprocess.run([IOT, *arguments], env=env, capture_output=True, text=True, check=False)


def test_every_node_has_a_name_of_its_own(three: CutOffServices) -> None:
    found = json.loads(iot(three, "status", "--json").stdout)
    expected = [node(kind, n) for kind in ("kafka", "cassandra") for n in range(1, COUNT + 1)]
    assert [status["service"] for status in found] == expected
    assert {status["state"] for status in found} == {"up"}
    assert len({status["pid"] for status in found}) == 2 * COUNT
    said = iot(three, "kill", "kafka")
    assert said.returncode == 2, said
    assert "there are kafka-1, kafka-2, kafka-3; name one" in said.stderr


def choose_drain(dice: random.Random) -> list[str]:
    if dice.random() < 0.7:
        return [str(IOT), "drain", "--follow", "--seconds", str(dice.randint(20, 60)), "--json"]
    return [str(IOT), "drain", "--json"]


def judge(world: World) -> None:
    world.drain_all()
    verdict = world.ask_oracle()
    say(f"oracle of three nodes: {verdict}")
    assert verdict.is_clean, verdict
    audit = world.audit()
    assert (audit["lost"], audit["torn"], audit["stray"]) == (0, 0, 0), audit


def test_with_one_node_of_each_away_ingestion_goes_on_and_nothing_is_lost(
    three: CutOffServices, seed: int
) -> None:
    dice = random.Random(seed)
    world = World.on(three, seed)
    world.load.send(400)
    world.drain_all()
    world.load.per_second = PER_SECOND
    drain_dice = random.Random(seed + 1)
    drains = Drains(world, lambda: choose_drain(drain_dice))
    is_long = CHAOS_MINUTES >= LEAST_CHAOS_MINUTES
    ends_at = time.monotonic() + MINUTES * 60
    world.load.start()
    drains.add()
    try:
        with Watch(world) as watch:
            nodes = Nodes(world, watch)
            bag: list[str] = sorted(FAULTS) if is_long else list(SHORT)
            dice.shuffle(bag)
            while bag:
                FAULTS[name := bag.pop()](nodes, dice)
                watch.wait_for(dict(world.load.ends), 60)
                nodes.settle()
                print(f"chaos: {name}, stops {nodes.stops[-3:]}", flush=True)
                if not bag and is_long and time.monotonic() < ends_at:
                    bag = dice.sample(sorted(FAULTS), len(FAULTS))
            world.load.stop()
        drains.stop()
    finally:
        drains.kill_now()
    longest, worst = max(nodes.stops)
    tally(drains.kills, sum(nodes.kills.values()), len(world.load.acknowledged), longest)
    kinds = ", ".join(f"{count} times {kind}" for kind, count in sorted(nodes.kills.items()))
    say(
        f"three nodes of each: {kinds}; longest stop of ingestion {longest:.1f} s ({worst}); "
        f"{len(world.load.acknowledged)} of {len(world.load.attempted)} records acknowledged"
    )
    if not CLOCKS:
        say("clocks of nodes: not stepped, there is no C compiler (cc)")
    assert not drains.unexpected, "\n\n".join(drains.unexpected)
    refused = Counter(world.load.refused).most_common(3)
    assert len(world.load.acknowledged) > len(world.load.attempted) / 2, f"no load: {refused}"
    judge(world)


def test_with_two_nodes_of_a_kind_away_ingestion_stops_loudly_and_goes_on_afterwards(
    three: CutOffServices, seed: int
) -> None:
    world = World.on(three, seed, IOT_RETRY_SECONDS="2")
    world.load.send(400)
    for kind, name in (("cassandra", "Cassandra"), ("kafka", "Kafka")):
        away = [node(kind, number) for number in (1, 3)]
        for one in away:
            three.kill(one)
        try:
            said = world.run([str(IOT), "drain"])
        finally:
            three.up(*away)
        assert said.returncode == TRY_AGAIN, said
        assert name in said.stderr.splitlines()[-1], said.stderr
    judge(world)


def partition_of(world: World) -> PartitionMetadata:
    """The only Kafka partition of the topic, as the brokers have it now."""
    topic = world.env["IOT_TOPIC"]
    admin = plain_admin(world.services)
    found: PartitionMetadata = admin.list_topics(topic, timeout=20).topics[topic].partitions[0]
    return found


def wait_for_partition(world: World, is_so: Callable[[PartitionMetadata], bool]) -> None:
    deadline = until(60)
    while True:
        with contextlib.suppress(KafkaException):
            if is_so(found := partition_of(world)):
                return
            assert time.monotonic() < deadline, f"{found.leader} of {found.isrs}"
        time.sleep(0.2)


def the_oracle_notices_a_producer_that_waits_for_the_leader_alone(
    three: CutOffServices, seed: int
) -> None:
    world = World.on(three, seed, IOT_PARTITIONS="1")
    world.load.send(400)
    world.drain_all()
    leader = partition_of(world).leader
    followers = [node("kafka", n) for n in range(1, COUNT + 1) if n != leader]
    world.load.acks = "1"
    world.load.go_on()
    for follower in followers:
        three.sigstop(follower)
    try:
        world.load.send(200)
        three.kill(node("kafka", leader))
    finally:
        for follower in followers:
            three.sigcont(follower)
    three.up(node("kafka", leader))
    wait_for_partition(world, lambda found: len(found.isrs) == COUNT)
    world.drain_all()
    verdict = world.ask_oracle()
    assert verdict.kinds == {"acknowledged and gone from the topic"}, verdict
    assert len(verdict.faults["acknowledged and gone from the topic"]) == 200, verdict


def an_unclean_election_is_noticed_by_the_oracle_and_by_the_next_run(
    three: CutOffServices, seed: int
) -> None:
    world = World.on(three, seed, IOT_PARTITIONS="1", IOT_TOPIC_REPLICATION="2")
    careless = {"unclean.leader.election.enable": "true", "min.insync.replicas": "1"}
    resource = ConfigResource(
        ResourceType.TOPIC,
        world.env["IOT_TOPIC"],
        incremental_configs=[
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in careless.items()
        ],
    )
    admin = plain_admin(three)
    admin.incremental_alter_configs([resource])[resource].result(30)
    world.load.send(400)
    world.drain_all()
    found = partition_of(world)
    leader = node("kafka", found.leader)
    (other,) = (node("kafka", number) for number in found.replicas if number != found.leader)
    three.kill(other)
    wait_for_partition(world, lambda found: len(found.isrs) == 1)
    world.load.send(300)
    world.drain_all()
    three.kill(leader)
    three.up(other)
    wait_for_partition(world, lambda found: other.endswith(f"-{found.leader}"))
    three.up(leader)
    wait_for_partition(world, lambda found: len(found.isrs) == 2)
    world.load.go_on()
    world.load.top_up(600)
    said = world.run([str(IOT), "drain"])
    assert said.returncode == 1, said
    assert "iot rebase --at 0:" in said.stderr, said.stderr
    assert "acknowledged and gone from the topic" in world.ask_oracle().kinds


def restore(services: CutOffServices, name: str, copy: Path) -> None:
    """Have a node that does not run begin again with an old copy of its disk."""
    mounts = services.local.server(name).service.mounts
    data = mounts["/var/lib/cassandra"]
    shutil.rmtree(data)
    shutil.copytree(copy, data)
    services.up(name)


def rows_of_a_node_that_is_alone_are_lost_with_its_disk_only_if_one_replica_is_enough(
    three: CutOffServices, seed: int, tmp_path: Path, kind: str
) -> None:
    world = World.on(three, seed, IOT_RETRY_SECONDS="60")
    alone = node("cassandra", COUNT)
    world.load.send(400)
    world.drain_all()
    three.down(alone)
    shutil.copytree(
        three.local.server(alone).service.mounts["/var/lib/cassandra"], tmp_path / "old"
    )
    three.up(alone)
    Nodes(world, Watch(world)).settle()
    world.load.send(400)
    drained = world.start(sabotaged(kind))
    wait_stopped(drained)
    # Those that it takes for others are dropped: heard later, nothing would be lost.
    with three.doors.cut(alone, "nodes", "refusing"):
        drained.send_signal(signal.SIGCONT)
        output, _ = drained.communicate(timeout=DRAIN_SECONDS)
        three.kill(alone)
    assert drained.returncode == 0, output
    restore(three, alone, tmp_path / "old")
    Nodes(world, Watch(world)).settle()
    if kind == "rows-at-quorum":
        judge(world)
        return
    world.drain_all()
    verdict = world.ask_oracle()
    assert "lost" in verdict.kinds, verdict
    assert world.audit()["lost"] > 0


# Each takes a minute: `make chaos` has them.
if CHAOS_MINUTES >= LEAST_CHAOS_MINUTES:
    test_the_oracle_notices_a_producer_that_waits_for_the_leader_alone = (
        the_oracle_notices_a_producer_that_waits_for_the_leader_alone
    )
    test_an_unclean_election_is_noticed_by_the_oracle_and_by_the_next_run = (
        an_unclean_election_is_noticed_by_the_oracle_and_by_the_next_run
    )
    test_rows_of_a_node_that_is_alone_are_lost_with_its_disk_only_if_one_replica_is_enough = (
        pytest.mark.parametrize("kind", ["rows-at-one", "rows-at-quorum"])(
            rows_of_a_node_that_is_alone_are_lost_with_its_disk_only_if_one_replica_is_enough
        )
    )
