"""Delete readings on purpose: remembered first, deleted second, so that none goes unexplained."""

import time
from collections.abc import Callable
from datetime import UTC, date, datetime

from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.read_back import newest_us
from iot_pipeline.core.times import MS_PER_DAY, Window, day_number, day_of
from iot_pipeline.stages.ports.proof import DeletionLog
from iot_pipeline.stages.ports.readings import DeviceDays, SensorData
from iot_pipeline.stages.proof.read_back import scan_rows
from iot_pipeline.stages.requests import retry_transient


def delete_readings(
    rows: SensorData,
    known: DeviceDays,
    remembered: DeletionLog,
    device_id: str,
    window: Window,
    reason: str,
    deleted_by: str,
    retry_seconds: float,
    wall_clock: Callable[[], float] = time.time,
) -> dict[date, int]:
    """Delete a device's stored readings with timestamps inside `window`.

    Idempotent: a crash between remembering and deleting leaves readings that are called deleted
    and are there; the same command again removes them.

    Returns:
        How many rows were there, per UTC day.
    """
    now = wall_clock()
    # A person's DELETE wins over every record that has arrived in Kafka until now.
    deletion = Deletion(
        device_id,
        round(window.since.timestamp() * 1000),
        round(window.until.timestamp() * 1000),
        int(now * 1_000_000),
        reason,
        deleted_by,
    )
    places = [
        (device_id, number)
        for number in map(day_number, known.days_of(device_id))
        if deletion.since_ms < (number + 1) * MS_PER_DAY and deletion.until_ms > number * MS_PER_DAY
    ]
    rows_by_day: dict[date, int] = {}
    for place, found in scan_rows(rows, places, retry_seconds):
        covered = sum(
            deletion.since_ms <= ms < deletion.until_ms and newest_us(stored) <= deletion.deleted_us
            for ms, stored in found
        )
        if covered:
            day = day_of(place[1])
            rows_by_day[day] = rows_by_day.get(day, 0) + covered
    retry_transient(
        lambda: remembered.record_deletion(deletion, datetime.fromtimestamp(now, UTC), rows_by_day),
        give_up_after_seconds=retry_seconds,
    )
    for _, number in places:
        retry_transient(
            lambda number=number: rows.delete_rows(deletion, number),  # type: ignore[misc]
            give_up_after_seconds=retry_seconds,
        )
    return rows_by_day
