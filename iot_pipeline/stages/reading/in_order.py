"""Readings in the order of time, as a stream: a few pages ahead of the caller.

What is held in memory is `in_flight` pages, however long the span and however slow the caller.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from iot_pipeline.core.reading.spans import Page, PlainRow, Span, day_span
from iot_pipeline.core.times import Window
from iot_pipeline.stages.ports.answers import Answer
from iot_pipeline.stages.ports.readings import MAX_ROWS_PER_READ, DeviceDays, SensorData
from iot_pipeline.stages.requests import Flight, wait_for

IN_FLIGHT = 16


def stream_pages(
    rows: SensorData,
    spans: Iterable[Span],
    *,
    retry_seconds: float,
    in_flight: int = IN_FLIGHT,
    page_rows: int = MAX_ROWS_PER_READ,
) -> Iterator[Page]:
    """All rows of the spans, in the order of the spans and of time, page by page.

    Args:
        spans: taken as they are needed; a span may be empty.
        retry_seconds: how long errors may be transient without one answer.
        in_flight: pages asked for ahead, at least 1.
        page_rows: rows of a page at most.

    Raises:
        TransientError: the last one, when the time is over; other errors at once.
    """

    def start(span: Span) -> Answer[Sequence[PlainRow]]:
        return rows.start_page(span, page_rows)

    def rest(span: Span, page: Answer[Sequence[PlainRow]]) -> list[Span]:
        if len(page.found) < page_rows:
            return []
        return [replace(span, first_ms=page.found[-1][0] + 1)]

    flight = Flight(rows.wait, retry_seconds)
    for span, page in flight.answers(spans, start, in_flight, again=rest):
        if page.found:
            yield Page(span.device_id, page.found)


def read_newest(
    rows: SensorData, known: DeviceDays, device_id: str, limit: int, window: Window | None = None
) -> list[PlainRow]:
    """At most `limit` rows, newest first: of the window, or of the newest day with any."""
    newest: list[PlainRow] = []
    for day in known.days_of(device_id, window):
        span = day_span(device_id, day, window)
        while len(newest) < limit:
            page_rows = min(limit - len(newest), MAX_ROWS_PER_READ)
            found = wait_for(rows.start_page(span, page_rows, newest_first=True), rows.wait)
            newest += found
            if len(found) < page_rows:
                break
            span = replace(span, last_ms=found[-1][0] - 1)
        if len(newest) >= limit or (window is None and newest):
            break
    return newest
