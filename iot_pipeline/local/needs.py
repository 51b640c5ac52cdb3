"""What starting servers takes: said before anything is fetched, checked against what is free."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from iot_pipeline.errors import ServiceError

# Cassandra's commit log alone may grow to 1 GiB (commitlog_total_space); Kafka starts with 100 MB.
STATE_BYTES = {"kafka": 200 * 2**20, "cassandra": 1200 * 2**20}


@dataclass(frozen=True, slots=True)
class Needs:
    """What a start takes, in bytes and jars; folders are where the bytes go."""

    services: Sequence[str]
    jars: int
    download_bytes: int
    cache: Path
    state_bytes: int
    state_folder: Path
    memory_bytes: int

    def sentence(self) -> str:
        fetch = (
            f"fetches {self.jars} jars, {in_megabytes(self.download_bytes)}, into {self.cache}; "
            if self.jars
            else "needs no download; "
        )
        return (
            f"starting {' and '.join(self.services)}: {fetch}takes up to "
            f"{in_megabytes(self.memory_bytes)} of memory, and "
            f"{in_megabytes(self.state_bytes)} of disk in {self.state_folder} before any readings"
        )

    def check(self) -> None:
        """Compare with what this machine has free.

        Raises:
            ServiceError: too little disk or memory; says how much is there and how much is needed.
        """
        for folder, size in self._by_disk().items():
            free = shutil.disk_usage(folder).free
            if free < size:
                raise ServiceError(
                    f"{folder} has {in_megabytes(free)} free, {in_megabytes(size)} are needed: "
                    "free some, or choose other folders (IOT_DATA_DIR, IOT_JAR_CACHE)"
                )
        available = psutil.virtual_memory().available
        if available < self.memory_bytes:
            raise ServiceError(
                f"{in_megabytes(available)} of memory are available, "
                f"{in_megabytes(self.memory_bytes)} are needed: end something large, or run the "
                "servers elsewhere (IOT_BOOTSTRAP_SERVERS, IOT_CONTACT_POINTS)"
            )

    def _by_disk(self) -> dict[Path, int]:
        # Both on one disk must fit together.
        needed: dict[int, tuple[Path, int]] = {}
        for folder, size in (
            (self.cache, self.download_bytes),
            (self.state_folder, self.state_bytes),
        ):
            there = next(path for path in (folder, *folder.parents) if path.exists())
            device = there.stat().st_dev
            needed[device] = (there, size + needed.get(device, (there, 0))[1])
        return dict(needed.values())


def in_megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
