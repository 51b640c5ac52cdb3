"""Readings that a person had deleted on purpose, remembered for good.

A tombstone is forgotten after gc_grace; this is not. So a replay does not bring the readings back
and an audit does not call them lost.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from iot_pipeline.core.reading.write_times import RowsByTime


@dataclass(frozen=True, slots=True)
class Deletion:
    """Readings of one device with timestamps [since_ms, until_ms), written up to `deleted_us`.

    A record that arrived in Kafka later makes its row as ever. `is_forgotten`: `iot forget` removed
    all that there was of the device.
    """

    device_id: str
    since_ms: int
    until_ms: int
    deleted_us: int
    reason: str
    deleted_by: str = ""
    is_forgotten: bool = False


class Deletions:
    def __init__(self, deletions: Iterable[Deletion]) -> None:
        self._by_device: defaultdict[str, list[Deletion]] = defaultdict(list)
        for deletion in deletions:
            self._by_device[deletion.device_id].append(deletion)

    def covers(self, device_id: str, timestamp_ms: int, write_time_us: int) -> bool:
        return self.covering(device_id, timestamp_ms, write_time_us) is not None

    def covering(self, device_id: str, timestamp_ms: int, write_time_us: int) -> Deletion | None:
        """The first that covers a reading; None: it was not deleted."""
        for item in self._by_device.get(device_id, ()):
            if item.since_ms <= timestamp_ms < item.until_ms and write_time_us <= item.deleted_us:
                return item
        return None

    def covered(self, device_id: str, rows: RowsByTime) -> list[int]:
        if device_id not in self._by_device:
            return []
        return [ms for ms, row in rows.items() if self.covers(device_id, ms, row[0])]
