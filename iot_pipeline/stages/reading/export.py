"""A day of readings into a file, streamed: what is in memory is some pages and one row group.

Idempotent: the same day again makes the same file in the place of the old one. The file has its
name only when it is whole: whoever reads the folder meanwhile sees the old one or none.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from iot_pipeline.core.reading.spans import Page, day_spans
from iot_pipeline.stages.ports import DeviceDays, SensorData
from iot_pipeline.stages.reading.in_order import stream_pages


class ReadingFile(Protocol):
    """A file being written; it appears under its name when the block ends well."""

    def write(self, page: Page) -> None: ...


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How far the export of one day is."""

    day: date
    devices_done: int
    devices: int
    rows: int
    seconds: float

    @property
    def eta_seconds(self) -> float | None:
        """About how long the rest takes; None before anything can be said."""
        if not self.devices_done:
            return None
        return self.seconds / self.devices_done * (self.devices - self.devices_done)


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
    on_progress: Callable[[ExportProgress], None] | None = None,
) -> ExportedDay:
    """Write every reading of a UTC day, device by device in the order of names, then of time.

    Args:
        rows: where readings are.
        known: which devices have any.
        day: by the devices' clocks.
        path: where the file is to be.
        open_file: makes the file's writer.
        retry_seconds: how long transient errors are retried.
        on_progress: told with every page.

    Raises:
        TransientError: Cassandra did not answer for so long; no file is left half written.
    """
    began = time.monotonic()
    devices = known.devices(day)
    written = done = 0
    if devices:
        position = {device_id: number for number, device_id in enumerate(devices)}
        with open_file(path) as file:
            spans = day_spans(devices, day)
            for page in stream_pages(rows, spans, retry_seconds=retry_seconds):
                file.write(page)
                written += len(page.rows)
                done = position[page.device_id]
                if on_progress is not None:
                    seconds = time.monotonic() - began
                    on_progress(ExportProgress(day, done, len(devices), written, seconds))
    if not written:
        # Rows may be gone that an earlier export still had.
        path.unlink(missing_ok=True)
    where = path if written else None
    return ExportedDay(day, len(devices), written, where, time.monotonic() - began)
