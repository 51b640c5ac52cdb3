"""Faults at random, alone and in pairs, while readings are sent and drained; then the oracle.

`IOT_CHAOS_MINUTES` says how long things die (1.5, `make chaos`: 18): two thirds of it here, the
rest in `test_dagster_faults`. `IOT_CHAOS_SEED` repeats the choice of faults and what is sent; when
exactly a signal meets a process no seed can say. `IOT_CHAOS_READING`: `seed`, or `parts` for five
quantities, two of them optional; without it every other seed has the one or the other.
"""

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from iot_pipeline_tests.chaos.conftest import CHAOS_MINUTES, say, tally
from iot_pipeline_tests.chaos.drains import Drains
from iot_pipeline_tests.chaos.faults import FAULTS, Harness, judge_neighbour
from iot_pipeline_tests.chaos.world import IN_PARTS, World, crashing
from iot_pipeline_tests.pipeline import IOT
from iot_pipeline_tests.servers import OwnServices

MINUTES = CHAOS_MINUTES * 2 / 3
PER_SECOND = 1000
# From the end of a fault until everything sent by then is in Cassandra, checkpoint and all.
RECOVERY_SECONDS = 120

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(MINUTES * 60 + 900)]

# Named windows of a micro-batch in which a drain kills itself: (method, call, before or after).
WINDOWS = [
    ("open_ranges", 1, "after"),
    ("topic_id", 2, "after"),
    ("send_rows", 1, "before"),
    ("send_rows", 7, "after"),
    ("send_devices", 1, "before"),
    ("deliver", 1, "before"),
    ("deliver", 1, "after"),
    ("send_commit", 1, "before"),
    ("send_commit", 1, "after"),
    ("send_commit", 3, "after"),
    ("mirror", 1, "before"),
    ("mirror", 1, "after"),
]


def choose_drain(dice: random.Random) -> list[str]:
    """The next drain: plain, following, or one that kills itself at a named window."""
    chance = dice.random()
    if chance < 0.4:
        return crashing(*dice.choice(WINDOWS))
    if chance < 0.7:
        return [str(IOT), "drain", "--follow", "--seconds", str(dice.randint(3, 10)), "--json"]
    return [str(IOT), "drain", "--json"]


def strike(harness: Harness, dice: random.Random) -> str:
    """One fault, or two at once; returns when both are over."""
    # Servers take ten seconds to come back, so drains are what dies most often; a server's death
    # comes with a drain's as often as alone.
    names = [harness.next_fault(dice)]
    if dice.random() < 0.6:
        second = "kill -9 of drains" if dice.random() < 0.6 else dice.choice(sorted(FAULTS))
        names += [second] if second != names[0] else []
    failures: list[BaseException] = []

    def run(name: str, own: random.Random) -> None:
        try:
            FAULTS[name](harness, own)
        except BaseException as exc:  # noqa: BLE001 - raised again below
            failures.append(exc)

    threads = [
        threading.Thread(target=run, args=(name, random.Random(dice.random()))) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return " + ".join(names)


def recover(world: World) -> float:
    """Wait until what was acknowledged by now is committed; returns seconds."""
    began = time.monotonic()
    wanted = world.ends()
    done: dict[int, int] = {}
    while any(done.get(partition, 0) < end for partition, end in wanted.items()):
        done = world.committed()
        waited = time.monotonic() - began
        assert waited < RECOVERY_SECONDS, f"{done} of {wanted} after {waited:.0f} s"
        time.sleep(0.5)
    return time.monotonic() - began


def test_nothing_acknowledged_is_lost_whatever_dies(
    chaos_services: OwnServices, seed: int, tmp_path: Path
) -> None:
    dice = random.Random(seed)
    # Every other seed tells its readings in parts.
    reading = os.environ.get("IOT_CHAOS_READING") or ("seed" if seed % 2 == 0 else "parts")
    say(f"readings: {reading} (IOT_CHAOS_READING)")
    overrides = {}
    if reading == "parts":
        (tmp_path / "parts.yaml").write_text(IN_PARTS)
        overrides["IOT_READING"] = str(tmp_path / "parts.yaml")
    world = World.on(chaos_services, seed, **overrides)
    # First contact comes before any fault: what Kafka deletes before it is nobody's loss.
    world.load.send(400)
    world.drain_all()
    world.load.per_second = PER_SECOND
    # The drains have dice of their own: how many there are must not change which faults come.
    drain_dice = random.Random(seed + 1)
    drains = Drains(world, lambda: choose_drain(drain_dice))
    harness = Harness(world, drains)
    recoveries: list[tuple[float, str]] = []
    world.load.start()
    drains.add()
    until = time.monotonic() + MINUTES * 60
    try:
        while time.monotonic() < until:
            time.sleep(dice.uniform(0, 2))
            name = strike(harness, dice)
            seconds = recover(world)
            recoveries.append((seconds, name))
            print(f"chaos: {name}, recovered after {seconds:.1f} s", flush=True)
        world.load.stop()
        drains.stop()
    finally:
        drains.kill_now()
    longest, worst = max(recoveries)
    tally(drains.kills, harness.server_kills, len(world.load.acknowledged), longest)
    say(
        f"{len(recoveries)} faults; kills: {drains.kills} processes, {harness.server_kills} "
        f"servers; Kafka deleted records {harness.deletions} times and lost the end of a log "
        f"{harness.cuts} times; unreadable batches: {len(world.unreadable)}; records acknowledged: "
        f"{len(world.load.acknowledged)} of {len(world.load.attempted)}; "
        f"producers that never recovered: {world.load.renewed}; "
        f"longest recovery {longest:.1f} s ({worst})"
    )
    say(f"drains ended with {dict(sorted(drains.ended.items()))}")
    assert not drains.unexpected, "\n\n".join(drains.unexpected)
    refused = Counter(world.load.refused).most_common(3)
    assert len(world.load.acknowledged) > len(world.load.attempted) / 2, f"no load: {refused}"
    world.drain_all()
    verdict = world.ask_oracle()
    say(f"oracle: {verdict}")
    assert verdict.is_clean, verdict
    audit = world.audit()
    assert (audit["lost"], audit["torn"], audit["stray"]) == (0, 0, 0), audit
    if harness.neighbour is not None:
        say(f"oracle of the second pipeline: {judge_neighbour(harness.neighbour)}")
