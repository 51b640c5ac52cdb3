"""A day of readings into a file, streamed: what is in memory is some pages and one row group.

Idempotent: the same day again makes the same file in the place of the old one. The file has its
name only when it is whole: until then readers of the folder see the old one or none.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from iot_pipeline.core.reading.spans import Page, day_span
from iot_pipeline.stages.ports.readings import DeviceDays, SensorData
from iot_pipeline.stages.reading.in_order import stream_pages


class ReadingFile(Protocol):
    """A file being written; it appears under its name when the block ends well."""

    def write(self, page: Page) -> None: ...


@dataclass(frozen=True, slots=True)
class ExportedDay:
    """What became of one day; `path` is None when it has no readings, and then none is there."""

    day: date
    devices: int
    rows: int
    path: Path | None
    seconds: float


def export_day(
    rows: SensorData,
    known: DeviceDays,
    day: date,
    path: Path,
    open_file: Callable[[Path], AbstractContextManager[ReadingFile]],
    *,
    retry_seconds: float,
    on_progress: Callable[[int, int, int], None] = lambda *_: None,
) -> ExportedDay:
    """Write every reading of a UTC day, device by device in the order of names, then of time.

    Args:
        day: by the devices' clocks.
        retry_seconds: how long transient errors are retried.
        on_progress: called with every page: devices done, devices, rows.

    Raises:
        TransientError: Cassandra did not answer for that long; no file is left half written.
    """
    began = time.monotonic()
    devices = known.devices(day)
    written = done = 0
    if devices:
        position = {device_id: number for number, device_id in enumerate(devices)}
        with open_file(path) as file:
            spans = (day_span(device_id, day) for device_id in devices)
            for page in stream_pages(rows, spans, retry_seconds=retry_seconds):
                file.write(page)
                written += len(page.rows)
                done = position[page.device_id]
                on_progress(done, len(devices), written)
    if not written:
        # Rows may be gone that an earlier export still had.
        path.unlink(missing_ok=True)
    where = path if written else None
    return ExportedDay(day, len(devices), written, where, time.monotonic() - began)
