"""A topic that is made again, or loses records, in the middle of a run; and poison everywhere."""

import json
import random
import time
from collections.abc import Callable
from subprocess import Popen

import pytest

from iot_pipeline_tests.chaos.drains import Drains
from iot_pipeline_tests.chaos.faults import (
    Harness,
    foreign_header,
    held_back,
    log_cut_back,
    unreadable_batch,
)
from iot_pipeline_tests.chaos.load import BAD, ORIGIN_MS
from iot_pipeline_tests.chaos.oracle import judge
from iot_pipeline_tests.chaos.world import World
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.pipeline import IOT
from iot_pipeline_tests.servers import OwnServices

pytestmark = pytest.mark.chaos

FOLLOW = [str(IOT), "drain", "--follow", "--seconds", "120"]


def wait_until(world: World, is_true: Callable[[], bool], follower: "Popen[str]") -> None:
    deadline = until(90)
    while not is_true():
        assert follower.poll() is None, follower.communicate()[0]
        assert time.monotonic() < deadline, "the run commits nothing"
        time.sleep(0.1)


def test_a_topic_made_again_in_the_middle_of_a_run_waits_for_a_person(
    services: OwnServices, seed: int
) -> None:
    world = World.on(services, seed, IOT_PARTITIONS="2")
    follower = world.start(FOLLOW)
    try:
        world.load.send(1000)
        wait_until(world, lambda: sum(world.committed().values()) > 0, follower)
        # Some of these are written when the topic goes, some are not.
        world.load.send(3000)
        time.sleep(random.Random(seed).uniform(0, 0.3))
        world.remember()
        new_id = world.make_topic_again()
        world.load.go_on()
        world.load.send(3000)
        output, _ = follower.communicate(timeout=120)
    finally:
        follower.kill()
    assert follower.returncode == 1, output
    newest_ms = max(record.produced_ms for record in world.known)
    written = world.collect().rows.values()
    assert all(max(us or 0 for us in row.times_us) // 1000 <= newest_ms for row in written), (
        "rows of the new topic were written before anybody accepted it"
    )
    said = world.run([str(IOT), "drain"])
    assert said.returncode == 1
    assert f"iot rebase --topic-id {new_id} --at earliest" in said.stderr
    world.iot("rebase", "--topic-id", new_id, "--at", "earliest")
    world.drain_all()
    verdict = world.ask_oracle()
    assert verdict.is_clean, verdict
    audit = world.audit()
    assert (audit["lost"], audit["torn"], audit["stray"]) == (0, 0, 0), audit


def test_records_that_kafka_deletes_in_the_middle_of_a_run_are_recorded_and_the_rest_is_stored(
    services: OwnServices, seed: int
) -> None:
    world = World.on(services, seed, IOT_PARTITIONS="2")
    dice = random.Random(seed)
    # First contact comes before any fault: what Kafka deletes before it is nobody's loss.
    world.load.send(400)
    world.drain_all()
    for _ in range(3):
        world.load.send(3000)
        follower = world.start([str(IOT), "drain"])
        try:
            time.sleep(dice.uniform(0, 1.5))
            world.delete_some(dice)
            output, _ = follower.communicate(timeout=120)
        finally:
            follower.kill()
        assert follower.returncode == 0, output
    # For certain, whenever the deletions above came: records that nobody had read.
    world.load.send(1000)
    world.delete_some(dice)
    world.drain_all()
    facts = world.collect()
    assert any(entry.outcome == "expired" for entry in facts.entries)
    verdict = world.ask_oracle()
    assert verdict.is_clean, verdict
    audit = world.audit()
    assert (audit["lost"], audit["torn"], audit["stray"]) == (0, 0, 0), audit
    assert audit["expired"] == sum(
        entry.end - entry.start for entry in facts.entries if entry.outcome == "expired"
    )


def test_poison_in_every_position_of_a_micro_batch_stops_nothing(
    services: OwnServices, seed: int
) -> None:
    world = World.on(services, seed, IOT_PARTITIONS="1", IOT_MICRO_BATCH_RECORDS="50")
    # Stretches of 51, the first bad at position 0, the next at 1, ...: against micro-batches of
    # about 50 every position meets both of their ends.
    for stretch in range(51):
        for position in range(51):
            if position == stretch:
                world.load.send_bad(BAD[stretch % len(BAD)])
            else:
                world.load.send_reading("one", ORIGIN_MS + stretch * 100 + position, 1.0, 2.0)
        world.load.flush()
    world.drain_all()
    verdict = world.ask_oracle()
    assert verdict.is_clean, verdict
    assert len(world.collect().letters) == 51


def test_a_log_cut_back_and_batches_and_headers_that_cannot_be_read_lose_nothing(
    chaos_services: OwnServices, seed: int
) -> None:
    world = World.on(chaos_services, seed, IOT_PARTITIONS="2")
    dice = random.Random(seed)
    world.load.send(500)
    harness = Harness(world, Drains(world, lambda: [str(IOT), "drain", "--json"]))
    harness.drains.add()
    try:
        for fault in (foreign_header, unreadable_batch, log_cut_back):
            fault(harness, dice)
            world.load.top_up(300)
        harness.drains.stop()
    finally:
        harness.drains.kill_now()
    assert not harness.drains.unexpected, harness.drains.unexpected
    assert harness.cuts == 1
    world.drain_all()
    facts = world.collect()
    verdict = judge(facts)
    assert verdict.is_clean, verdict
    assert any(entry.outcome == "unreadable" for entry in facts.entries)
    audit = world.audit()
    assert (audit["lost"], audit["torn"], audit["stray"]) == (0, 0, 0), audit


def test_what_an_open_transaction_holds_back_is_told_and_stored_when_it_ends(
    services: OwnServices, seed: int
) -> None:
    world = World.on(services, seed, IOT_PARTITIONS="2")
    world.load.send(500)
    with held_back(world):
        world.load.send(2000)
        world.iot("drain")
        told = json.loads(world.iot("lag", "--json"))
        assert told["held_back"] > 500
        assert (told["partitions"][0]["lag"], told["partitions"][1]["held_back"]) == (0, 0)
    world.drain_all()
    verdict = world.ask_oracle()
    assert verdict.is_clean, verdict
    audit = world.audit()
    assert (audit["lost"], audit["torn"], audit["stray"]) == (0, 0, 0), audit
