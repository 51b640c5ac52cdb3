"""What is known of each device: its newest reading, its rhythm, whether it has fallen silent.

Belongs here: facts about one device in, its state out. Does not belong here: asking for the
facts (`stages.devices`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from iot_pipeline.core.cadence import learn_cadence, silence_limit


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
    `cadence_seconds` is None while it has too few readings. `silent_since` is the time of its
    newest reading when that is too long ago for its rhythm, else None.
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
    device_id: str, rows: Sequence[NewestRow], count_today: int | None, now: datetime
) -> DeviceState:
    """Put together what its newest rows say.

    Args:
        device_id: its name.
        rows: at least one, the newest first.
        count_today: None when not counted.
        now: aware.
    """
    newest_at = moment_of(rows[0].timestamp_ms)
    cadence = learn_cadence([row.timestamp_ms for row in rows])
    is_silent = now - newest_at > silence_limit(cadence)
    return DeviceState(device_id, rows[0], cadence, newest_at if is_silent else None, count_today)


def silent_first(devices: Iterable[DeviceState]) -> list[DeviceState]:
    """The silent ones, longest first, then the others by name."""
    return sorted(
        devices,
        key=lambda device: (
            not device.is_silent,
            device.newest.timestamp_ms if device.is_silent else 0,
            device.device_id,
        ),
    )


def moment_of(ms: int) -> datetime:
    """Aware UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)
