"""Manifests on disk: `data/manifests/<id>.json`, written whole or not at all."""

import re
import secrets
from datetime import datetime
from pathlib import Path

import msgspec

from iot_pipeline.core.simulator.manifest import Manifest
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.files import whole_file, why_unwritable


def new_manifest_id(data_dir: Path, scenario: str, now: datetime) -> str:
    """An id that sorts by time: 20261122T230102Z-rough_day-3f2a.

    Raises:
        ConfigurationError: no manifest could be kept in the data folder; asked now, because what is
            sent without one cannot be verified.
    """
    folder = manifest_path(data_dir, "").parent
    if why := why_unwritable(folder):
        raise ConfigurationError(
            f"IOT_DATA_DIR={data_dir}: the manifest of what is sent cannot be kept in {folder}: "
            f"{why}; expected a folder that can be written to, or a simulation without a scenario"
        )
    name = re.sub(r"[^A-Za-z0-9_-]", "_", scenario)[:40]
    return f"{now:%Y%m%dT%H%M%SZ}-{name}-{secrets.token_hex(2)}"


def manifest_path(data_dir: Path, manifest_id: str) -> Path:
    return data_dir / "manifests" / f"{manifest_id}.json"


def read_manifest(path: Path) -> Manifest:
    """What a simulation sent.

    Raises:
        ConfigurationError: there is no such file, or it is no manifest.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: there is no such file; `iot simulate` says where its manifest is"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path}: it is no manifest of a simulation: {exc}") from exc


def write_manifest(data_dir: Path, manifest: Manifest, path: Path | None = None) -> Path:
    """Keep a manifest, in its own place if none is given; a reader sees the one before, or this."""
    path = path or manifest_path(data_dir, manifest.manifest_id)
    with whole_file(path) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return path
