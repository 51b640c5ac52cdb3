"""What is known of each device: its newest reading, its rhythm, whether it has fallen silent.

Belongs here: facts about one device in, its state out. Does not belong here: asking for the
facts (`stages.devices`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from iot_pipeline.core.device_tally import QualityLimits
from iot_pipeline.core.moments import moment_of
from iot_pipeline.core.reporting import report_of


@dataclass(frozen=True, slots=True)
class NewestRow:
    """A stored reading and when it arrived: `arrived_ms` is Kafka's clock, by the write time."""

    timestamp_ms: int
    temperature: float | None
    humidity: float | None
    arrived_ms: int | None


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device as of one moment.

    `count_today` is of the UTC day, by the device's clock; None when nobody asked for it.
    `cadence_seconds` is None while it has too few readings. `silent_since` is when its last
    reading arrived, when that is too long ago for its rhythm, else None.
    """

    device_id: str
    newest: NewestRow
    cadence_seconds: float | None
    silent_since: datetime | None
    count_today: int | None

    @property
    def newest_at(self) -> datetime:
        return moment_of(self.newest.timestamp_ms)

    @property
    def is_silent(self) -> bool:
        return self.silent_since is not None


def describe_device(
    device_id: str,
    rows: Sequence[NewestRow],
    count_today: int | None,
    as_of: datetime,
    limits: QualityLimits,
) -> DeviceState:
    """Put together what its newest rows say; silence is that of `devices_are_reporting`.

    Args:
        device_id: its name.
        rows: at least one, the newest first.
        count_today: None when not counted.
        as_of: until when all that arrived is known, aware: now, less the lag of ingestion.
        limits: how much silence is fine.
    """
    # Of a cell that somebody deleted with plain CQL nobody knows when it arrived.
    times = ((row.timestamp_ms, row.arrived_ms or row.timestamp_ms) for row in rows)
    report = report_of(device_id, times, limits)
    if report is None:
        return DeviceState(device_id, rows[0], None, None, count_today)
    is_silent = report.is_silent(as_of.timestamp() * 1000, limits)
    return DeviceState(
        device_id,
        rows[0],
        None if report.cadence_ms is None else report.cadence_ms / 1000,
        moment_of(report.arrived_ms) if is_silent else None,
        count_today,
    )


def silent_first(devices: Iterable[DeviceState]) -> list[DeviceState]:
    """The silent ones, longest first, then the others by name."""
    return sorted(
        devices,
        key=lambda device: (
            not device.is_silent,
            device.silent_since.timestamp() if device.silent_since else 0,
            device.device_id,
        ),
    )
