"""Files of the data folder that name a device: manifests, which are rewritten, and others."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from iot_pipeline.core.simulator.manifest import Manifest
from iot_pipeline.local.manifests import read_manifest, write_manifest

# Servers' own files are not looked into: Kafka's and Cassandra's retention is theirs.
_SERVERS = "services"
_CHUNK_BYTES = 1024 * 1024


class DeviceFiles:
    """Of one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def find_manifests(self, device_id: str) -> list[str]:
        return [str(path) for path, _ in self._manifests(device_id)]

    def strike_out(self, device_id: str) -> None:
        """Rewrite the manifests without it; their totals stay as they were."""
        for path, manifest in list(self._manifests(device_id)):
            left = msgspec.structs.replace(
                manifest,
                devices=[item for item in manifest.devices if item.device_id != device_id],
                faults=[item for item in manifest.faults if item.device_id != device_id],
            )
            write_manifest(self._data_dir, left, path)

    def find_others(self, device_id: str) -> Sequence[str]:
        names = device_id.encode(), msgspec.json.encode(device_id)[1:-1]
        manifests = self._data_dir / "manifests"
        return sorted(
            str(path)
            for path in self._files()
            if path.parent != manifests and any(_holds(path, name) for name in names)
        )

    def _manifests(self, device_id: str) -> Iterator[tuple[Path, Manifest]]:
        for path in sorted((self._data_dir / "manifests").glob("*.json")):
            if not _holds(path, msgspec.json.encode(device_id)):
                continue
            manifest = read_manifest(path)
            named = {item.device_id for item in manifest.devices}
            named |= {item.device_id for item in manifest.faults}
            if device_id in named:
                yield path, manifest

    def _files(self) -> Iterator[Path]:
        for folder in sorted(self._data_dir.glob("*")):
            if folder.name == _SERVERS:
                continue
            yield from (path for path in [folder, *folder.rglob("*")] if path.is_file())


def _holds(path: Path, name: bytes) -> bool:
    """Whether a file has these bytes, read in pieces that overlap."""
    before = b""
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            if name in before + piece:
                return True
            before = piece[-len(name) :]
    return False
