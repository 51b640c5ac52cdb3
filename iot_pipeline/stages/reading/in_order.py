"""Readings in the order of time, as a stream: some pages ahead of whoever takes them, no more.

What is held in memory is `in_flight` pages, however long the span and however slow the taker.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from iot_pipeline.core.reading.spans import Page, PlainRow, Span, day_span
from iot_pipeline.core.times import Window
from iot_pipeline.errors import TransientError
from iot_pipeline.stages.ports import MAX_ROWS_PER_READ, Answer, DeviceDays, SensorData
from iot_pipeline.stages.requests import backoff_seconds, wait_for

IN_FLIGHT = 16


@dataclass(slots=True)
class _Asked:
    span: Span
    first_ms: int
    pending: Answer[Sequence[PlainRow]]


def stream_pages(
    rows: SensorData,
    spans: Iterable[Span],
    *,
    retry_seconds: float,
    in_flight: int = IN_FLIGHT,
    page_rows: int = MAX_ROWS_PER_READ,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Page]:
    """All rows of the spans, in the order of the spans and of time, page by page.

    Args:
        rows: where they are.
        spans: taken as they are needed; a span may be empty.
        retry_seconds: how long a page is asked for again while errors are transient.
        in_flight: pages asked for ahead, at least 1.
        page_rows: rows of a page at most.
        sleep: waits.

    Raises:
        TransientError: the last one, when the time is over; other errors at once.
    """

    def ask(span: Span, first_ms: int) -> _Asked:
        pending = rows.start_page(
            span.device_id, span.day_number, first_ms, span.last_ms, page_rows
        )
        return _Asked(span, first_ms, pending)

    waiting = iter(spans)
    window: deque[_Asked] = deque()
    while True:
        while len(window) < in_flight and (span := next(waiting, None)) is not None:
            window.append(ask(span, span.first_ms))
        if not window:
            return
        head = window[0]
        found = _answer(rows, head, ask, retry_seconds, sleep)
        if len(found) < page_rows:
            window.popleft()
        else:
            # Asked before this page is given out: it travels while the taker works.
            window[0] = ask(head.span, found[-1][0] + 1)
        if found:
            yield Page(head.span.device_id, found)


def read_newest(
    rows: SensorData, known: DeviceDays, device_id: str, limit: int, window: Window | None = None
) -> list[PlainRow]:
    """At most `limit` rows, newest first: of the window, or of the newest day with any."""
    newest: list[PlainRow] = []
    for day in known.days_of(device_id, window):
        span = day_span(device_id, day, window)
        last_ms = span.last_ms
        while len(newest) < limit:
            page_rows = min(limit - len(newest), MAX_ROWS_PER_READ)
            pending = rows.start_page(
                device_id, span.day_number, span.first_ms, last_ms, page_rows, newest_first=True
            )
            found = wait_for(pending, rows.wait)
            newest += found
            if len(found) < page_rows:
                break
            last_ms = found[-1][0] - 1
        if len(newest) >= limit or (window is None and newest):
            break
    return newest


def _answer(
    rows: SensorData,
    asked: _Asked,
    ask: Callable[[Span, int], _Asked],
    retry_seconds: float,
    sleep: Callable[[float], None],
) -> Sequence[PlainRow]:
    give_up_at = time.monotonic() + retry_seconds
    failures = 0
    while True:
        while not asked.pending.done:
            rows.wait(0.1)
        error = asked.pending.error
        if error is None:
            return asked.pending.found
        if not isinstance(error, TransientError) or time.monotonic() > give_up_at:
            raise error
        failures += 1
        sleep(backoff_seconds(failures, random.random()))
        asked = ask(asked.span, asked.first_ms)
