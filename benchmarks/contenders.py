"""Who is measured: our drain in both write paths, the hand-written consumer, and peers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil

from benchmarks.marks import Mark
from benchmarks.verify import is_complete
from iot_pipeline.clients.cassandra import CassandraClient
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
    is_peer: bool = False
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
    settings = _settings(env)
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


_HANDWRITTEN = Contender("handwritten", 20, _handwritten)


def _settings(env: dict[str, str]) -> Settings:
    return Settings.from_env({k: v for k, v in env.items() if k.startswith("IOT_")})


def _family(process: psutil.Process) -> tuple[float, float]:
    """CPU seconds and MB of a process and of those that it started, those that ended included."""
    cpu = rss = 0.0
    for member in [process, *process.children(recursive=True)]:
        # A shell's commands may end between one line and the next.
        with suppress(psutil.NoSuchProcess):
            used = member.cpu_times()
            cpu += used.user + used.system + used.children_user + used.children_system
            rss += member.memory_info().rss / 2**20
    return cpu, rss


def _peer(script: Path) -> Contender:
    def run(env: dict[str, str], count: int) -> Outcome:
        with CassandraClient(_settings(env), request_timeout_seconds=300) as client:
            return watch(client, env, count)

    def watch(client: CassandraClient, env: dict[str, str], count: int) -> Outcome:
        began = time.monotonic()
        process = subprocess.Popen(
            [str(script)], env={**env, "IOT_ROWS": str(count)}, start_new_session=True
        )
        cpu = rss = 0.0
        try:
            while not is_complete(client, count, int(env["BENCH_DEVICES"])):
                if process.poll() is not None or time.monotonic() - began > _PEER_SECONDS:
                    raise SystemExit(
                        f"{script.name}: ended, or gave up, before all rows were there"
                    )
                used, held = _family(psutil.Process(process.pid))
                cpu, rss = max(cpu, used), max(rss, held)
                time.sleep(0.2)
            return Outcome(count, time.monotonic() - began, cpu, rss)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    return Contender(script.stem, 2, run, is_peer=True)


PACKED = Contender("packed", 1, _drain("packed"))


def contenders(
    named: Sequence[str], before: Path | None = None, *, with_peers: bool
) -> list[Contender]:
    """Those that are named, or all that can run here; peers only where they are asked for.

    Args:
        named: these alone; empty: all.
        before: another checkout, whose packed drain is the contender `before`.
        with_peers: those of `benchmarks/peers/`, too.

    Raises:
        SystemExit: one that is named is none, or cannot run on this machine.
    """
    found = [PACKED, Contender("driver", 4, _drain("driver")), _HANDWRITTEN]
    if before is not None:
        before = before.resolve()
        found.insert(1, Contender("before", 1, _drain("packed", before), checkout=before))
    for script in sorted(PEERS.glob("*.sh")):
        if script.stem not in named if named else not with_peers:
            continue
        if subprocess.run([str(script), "--available"], check=False).returncode == 0:
            found.append(_peer(script))
        else:
            print(f"peer {script.stem}: not here, left out", file=sys.stderr)
    missing = set(named) - {one.name for one in found}
    if missing:
        raise SystemExit(f"no contender here: {', '.join(sorted(missing))}")
    return [one for one in found if one.name in named] if named else found
