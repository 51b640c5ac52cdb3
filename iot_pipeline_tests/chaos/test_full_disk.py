"""The disk of Cassandra's commit log is full while rows are written.

A small disk of its own is a tmpfs, which takes the right to mount: root, on Linux. Where a machine
forbids that there is no such test; the summary says so, and docs/guarantees.md.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from iot_pipeline_tests.chaos.conftest import say
from iot_pipeline_tests.chaos.world import World
from iot_pipeline_tests.pipeline import IOT
from iot_pipeline_tests.servers import OwnServices, start_services

pytestmark = pytest.mark.chaos

_DISK = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs"]


def _may_mount() -> bool:
    with TemporaryDirectory() as place:
        try:
            mounted = subprocess.run([*_DISK, place], capture_output=True, check=False)
        except FileNotFoundError:
            return False
        if mounted.returncode == 0:
            subprocess.run(["umount", place], check=True)
        return mounted.returncode == 0


@dataclass
class SmallDisk:
    """Cassandra with a commit log disk that a test can fill."""

    services: OwnServices
    commit_log: Path

    @property
    def _filler(self) -> Path:
        return self.commit_log / "filler"

    def fill(self) -> None:
        with self._filler.open("wb", buffering=0) as filler:
            size = 1 << 20
            while size:
                try:
                    filler.write(bytes(size))
                except OSError:
                    size //= 2

    def clear(self) -> None:
        self._filler.unlink()


@pytest.fixture
def small_disk(chaos_services: OwnServices, tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "small"
    commit_log = folder / "services" / "volumes" / "cassandra-data" / "commitlog"
    commit_log.mkdir(parents=True)
    subprocess.run([*_DISK, str(commit_log)], check=True)
    try:
        services = start_services(
            folder, ["cassandra"], IOT_BOOTSTRAP_SERVERS=chaos_services.bootstrap_servers
        )
        try:
            yield SmallDisk(services, commit_log)
        finally:
            if services.local.server("cassandra").process() is not None:
                services.kill("cassandra")
            subprocess.run(["umount", str(commit_log)], check=True)
            services.stop()
    finally:
        subprocess.run(["umount", str(commit_log)], check=False, capture_output=True)


def a_full_commit_log_disk_stops_ingestion_and_loses_nothing(
    small_disk: SmallDisk, seed: int
) -> None:
    world = World.on(small_disk.services, seed, IOT_RETRY_SECONDS="5")
    world.load.send(4000)
    world.drain_all()
    small_disk.fill()
    world.load.send(40_000)
    done = world.run([str(IOT), "drain"])
    assert done.returncode == 75, f"{done.returncode}: {done.stdout}\n{done.stderr}"
    process = small_disk.services.local.server("cassandra").process()
    say(f"commit log disk full: Cassandra {'lives' if process else 'ended itself'}")
    if process is not None:
        small_disk.services.kill("cassandra")
    small_disk.clear()
    small_disk.services.up("cassandra")
    world.drain_all()
    verdict = world.ask_oracle()
    assert verdict.is_clean, verdict
    audit = world.audit()
    assert (audit["lost"], audit["torn"], audit["stray"]) == (0, 0, 0), audit


if _may_mount():
    test_a_full_commit_log_disk_stops_ingestion_and_loses_nothing = (
        a_full_commit_log_disk_stops_ingestion_and_loses_nothing
    )
else:
    say("commit log disk full: not tried, this machine forbids mounting a small disk")
