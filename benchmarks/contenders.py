"""Who is measured: our drain in both write paths, the hand-written consumer, and peers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil

from benchmarks.marks import Mark
from iot_pipeline.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).resolve().parent / "peers"
_PEER_SECONDS = 900
_DRAINER = [sys.executable, "-m", "benchmarks.drainer"]


@dataclass(frozen=True)
class Outcome:
    """What one run achieved, as itself says, and what it cost this machine."""

    rows: int
    seconds: float
    client_cpu_seconds: float
    peak_rss_mb: float
    marks: Sequence[Mark] = ()


@dataclass(frozen=True)
class Contender:
    """One way to move a topic into the table.

    `slowness` divides the rows it gets: ten times slower on ten times fewer rows takes as long.
    `checkout` is the code that makes its tables.
    """

    name: str
    slowness: int
    run: Callable[[dict[str, str], int], Outcome]
    checkout: Path = ROOT


def run_iot(env: dict[str, str], *command: str, checkout: Path = ROOT) -> None:
    """A command of the `iot` of a checkout, to its end."""
    code = "from iot_pipeline.cli.main import main; main()"
    subprocess.run(
        [sys.executable, "-c", code, *command],
        env={**env, "PYTHONPATH": str(checkout)},
        cwd=checkout,
        check=True,
        capture_output=True,
    )


def _watch(command: list[str], env: dict[str, str], checkout: Path = ROOT) -> dict[str, Any]:
    """Run a command; the JSON it printed."""
    env = {**env, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, env=env, cwd=checkout, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command[:4])}: exit code {done.returncode}")
    return cast(dict[str, Any], json.loads(done.stdout))


def _drain(path: str, checkout: Path = ROOT) -> Callable[[dict[str, str], int], Outcome]:
    def run(env: dict[str, str], count: int) -> Outcome:
        return _outcome(_watch(_DRAINER, {**env, "IOT_WRITE_PATH": path}, checkout))

    return run


def _outcome(said: dict[str, Any]) -> Outcome:
    names = ("stored", "seconds", "cpu_seconds", "peak_rss_mb", "marks")
    return Outcome(*(said[name] for name in names))


def profile_drain(env: dict[str, str]) -> list[tuple[str, float, float]]:
    """Where a drain's main thread spends its time; the run itself is not counted."""
    said = _watch([*_DRAINER, "--profile"], env)
    return [tuple(line) for line in said["profile"]]


def drain_in_processes(env: dict[str, str], groups: Sequence[Sequence[int]]) -> Outcome:
    """Several drains at once on disjoint Kafka partitions; CPU and memory are their sums."""
    commands = [[*_DRAINER, "--partitions", ",".join(map(str, group))] for group in groups]
    with ThreadPoolExecutor(len(commands)) as pool:
        ended = list(pool.map(lambda command: _watch(command, env), commands))
    return Outcome(
        sum(said["stored"] for said in ended),
        max(said["seconds"] for said in ended),
        sum(said["cpu_seconds"] for said in ended),
        sum(said["peak_rss_mb"] for said in ended),
    )


def _handwritten(env: dict[str, str], count: int) -> Outcome:
    settings = Settings.from_env({k: v for k, v in env.items() if k.startswith("IOT_")})
    command = [sys.executable, "-m", "benchmarks.handwritten"]
    for name, value in (
        ("bootstrap", settings.bootstrap_servers),
        ("host", settings.contact_points[0]),
        ("port", settings.cassandra_port),
        ("topic", settings.topic),
        ("keyspace", settings.keyspace),
        ("count", count),
    ):
        command += [f"--{name}", str(value)]
    return _outcome(_watch(command, env))


def _peer(script: Path, is_complete: Callable[[dict[str, str], int], bool]) -> Contender:
    def run(env: dict[str, str], count: int) -> Outcome:
        began = time.monotonic()
        process = subprocess.Popen(
            [str(script)], env={**env, "IOT_ROWS": str(count)}, start_new_session=True
        )
        cpu = rss = 0.0
        try:
            while not is_complete(env, count):
                if process.poll() is not None or time.monotonic() - began > _PEER_SECONDS:
                    raise SystemExit(
                        f"{script.name}: ended, or gave up, before all rows were there"
                    )
                family = [psutil.Process(process.pid)]
                family += family[0].children(recursive=True)
                times = [member.cpu_times() for member in family]
                cpu = max(cpu, sum(used.user + used.system for used in times))
                rss = max(rss, sum(member.memory_info().rss for member in family) / 2**20)
                time.sleep(0.2)
            return Outcome(count, time.monotonic() - began, cpu, rss)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    return Contender(script.stem, 2, run)


def contenders(
    is_complete: Callable[[dict[str, str], int], bool], with_peers: bool, before: Path | None
) -> list[Contender]:
    """All that can run here; peers only in a full run, and those that say they can.

    Args:
        is_complete: all rows of a peer are there.
        with_peers: those of `benchmarks/peers/`, too.
        before: another checkout, whose packed drain is the contender `before`.
    """
    found = [Contender("packed", 1, _drain("packed"))]
    if before is not None:
        before = before.resolve()
        found.append(Contender("before", 1, _drain("packed", before), before))
    found += [Contender("driver", 4, _drain("driver")), Contender("handwritten", 20, _handwritten)]
    for script in sorted(PEERS.glob("*.sh")) if with_peers else []:
        if subprocess.run([str(script), "--available"], check=False).returncode == 0:
            found.append(_peer(script, is_complete))
        else:
            print(f"peer {script.stem}: not here, left out", file=sys.stderr)
    return found
