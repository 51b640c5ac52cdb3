"""A manifest of a simulation that tests make by themselves."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from iot_pipeline.core.simulator.manifest import DeviceTruth, FaultTruth, Manifest
from iot_pipeline.local.manifests import write_manifest

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def device(device_id: str, readings: int = 0) -> DeviceTruth:
    return DeviceTruth(
        device_id=device_id,
        group="g",
        place="p",
        interval_seconds=1.0,
        messages=readings,
        readings=readings,
        first_at=MOMENT if readings else None,
        last_at=MOMENT + timedelta(hours=1) if readings else None,
    )


def make_manifest(
    devices: Sequence[DeviceTruth],
    faults: Sequence[FaultTruth] = (),
    *,
    topic: str = "iot_data",
    unconfirmed: int = 0,
) -> Manifest:
    sent = sum(item.messages for item in devices)
    return Manifest(
        manifest_id="small",
        topic=topic,
        scenario="s",
        seed=1,
        speed=None,
        start_at=MOMENT,
        end_at=MOMENT + timedelta(days=1),
        began_at=MOMENT,
        written_at=MOMENT + timedelta(days=1),
        is_complete=True,
        is_stopped=False,
        produced=sent + unconfirmed,
        acknowledged=sent,
        failed=0,
        unconfirmed=unconfirmed,
        withheld=0,
        devices=list(devices),
        faults=list(faults),
    )


def keep_small_manifest(data_dir: Path, topic: str) -> Path:
    """Of a device that sent nothing."""
    return write_manifest(data_dir, make_manifest([device("nobody")], topic=topic))
