"""Readings in the order of time, as a stream: some pages ahead of whoever takes them, no more.

What is held in memory is `in_flight` pages, however long the span and however slow the taker.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from iot_pipeline.core.reading.spans import Page, PlainRow, Span
from iot_pipeline.errors import TransientError
from iot_pipeline.stages.ports import MAX_ROWS_PER_READ, Pending
from iot_pipeline.stages.requests import backoff_seconds

IN_FLIGHT = 16


class PendingPage(Pending, Protocol):
    """A page on its way."""

    @property
    def found(self) -> Sequence[PlainRow]:
        """Asked when it is done without an error."""


class ReadingPages(Protocol):
    """Readings by partition of the table, and which partitions there are."""

    def days(self) -> list[date]:
        """The UTC days that have readings, oldest first."""

    def devices(self, day: date) -> list[str]:
        """The devices that have readings on that day, by name."""

    def start_page(
        self, device_id: str, day_number: int, first_ms: int, last_ms: int, limit: int
    ) -> PendingPage:
        """Start reading rows from first_ms to last_ms, both inclusive, the oldest first.

        At most `limit` of them; `limit` is at most MAX_ROWS_PER_READ.
        """

    def wait(self, timeout_seconds: float) -> None: ...


@dataclass(slots=True)
class _Asked:
    span: Span
    first_ms: int
    pending: PendingPage


def stream_pages(
    pages: ReadingPages,
    spans: Iterable[Span],
    *,
    retry_seconds: float,
    in_flight: int = IN_FLIGHT,
    page_rows: int = MAX_ROWS_PER_READ,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Page]:
    """All rows of the spans, in the order of the spans and of time, page by page.

    Args:
        pages: where rows are.
        spans: taken as they are needed; a span may be empty.
        retry_seconds: how long a page is asked for again while errors are transient.
        in_flight: pages asked for ahead, at least 1.
        page_rows: rows of a page at most.
        sleep: waits.

    Raises:
        TransientError: the last one, when the time is over; other errors at once.
    """

    def ask(span: Span, first_ms: int) -> _Asked:
        pending = pages.start_page(
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
        rows = _answer(pages, head, ask, retry_seconds, sleep)
        if len(rows) < page_rows:
            window.popleft()
        else:
            # Asked before this page is given out: it travels while the taker works.
            window[0] = ask(head.span, rows[-1][0] + 1)
        if rows:
            yield Page(head.span.device_id, rows)


def _answer(
    pages: ReadingPages,
    asked: _Asked,
    ask: Callable[[Span, int], _Asked],
    retry_seconds: float,
    sleep: Callable[[float], None],
) -> Sequence[PlainRow]:
    give_up_at = time.monotonic() + retry_seconds
    failures = 0
    while True:
        while not asked.pending.done:
            pages.wait(0.1)
        error = asked.pending.error
        if error is None:
            return asked.pending.found
        if not isinstance(error, TransientError) or time.monotonic() > give_up_at:
            raise error
        failures += 1
        sleep(backoff_seconds(failures, random.random()))
        asked = ask(asked.span, asked.first_ms)
