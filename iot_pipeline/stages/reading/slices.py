"""Ask the table of readings in slices of time, so that no statement is too large for Cassandra.

Cassandra gives up on a statement that meets 100,000 deleted or expired cells, two to a row, and on
one that takes ten seconds. So nothing is asked for that must be gone, what may have expired is
asked about an hour at first, a slice that is too large is cut, and how long the next one may be is
learned from that and from how dense the newest rows are. In bounded memory: a page, or one number.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.read_back import StoredRow, write_times_in
from iot_pipeline.core.reading.retention import FOR_EVER, Retention
from iot_pipeline.core.reading.spans import (
    Counted,
    PieceCount,
    PieceMean,
    Place,
    PlainRow,
    Span,
    Summed,
)
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR
from iot_pipeline.errors import CassandraSlowError, PipelineError, TooManyTombstonesError
from iot_pipeline.stages.ports.answers import Answer
from iot_pipeline.stages.ports.readings import SensorData

_T = TypeVar("_T")
_Row = TypeVar("_Row", bound=tuple[Any, ...])

# Rows that one statement counts or adds up: half a second on one core.
ROWS_AT_ONCE = 100_000
# Rows that are read to see how dense they are; a slice that has fewer is counted by that.
_LOOKED_AT = 500
# Fewer rows say nothing of how dense a day is.
_TELLING = 100
# Partitions; 200 bytes each.
_MOST_LEARNED = 10_000
# A slice that was too slow is cut once: a server that is slow again has another trouble.
_SLOW_CUT = 8

_Steps = Generator[Answer[Any], Answer[Any], _T]


class _Walk(Generic[_T]):
    """One answer made of several questions, one after the other: `done` asks the next."""

    def __init__(self, steps: _Steps[_T]) -> None:
        self._steps = steps
        self._asked: Answer[Any] | None = next(steps)
        self._found: _T | None = None
        self.error: PipelineError | None = None
        self.answered_at = 0.0

    @property
    def done(self) -> bool:
        while self._asked is not None and self._asked.done:
            answer = self._asked
            try:
                self._asked = self._steps.send(answer)
            except StopIteration as stop:
                self._found, self._asked = stop.value, None
                self.answered_at = answer.answered_at
            except PipelineError as exc:
                self.error, self._asked = exc, None
        return self._asked is None

    @property
    def found(self) -> _T:
        return self._found  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class _Reach:
    """How long a slice of one partition may be, and how long it must not grow again."""

    length_ms: int
    most_ms: int = MS_PER_DAY

    def after_too_large(self, length_ms: int) -> "_Reach":
        return _Reach(max(1, length_ms // 4), max(1, min(self.most_ms, length_ms // 2)))

    def after_success(self, length_ms: int) -> "_Reach":
        return replace(self, length_ms=min(self.most_ms, max(self.length_ms, 2 * length_ms)))


class SlicedRows:
    """A `SensorData` whose every question is answered, by as many statements as it takes.

    Args:
        rows: the table.
        cells: how many quantities a row has.
        in_parts: whether readings may be told in parts, and cells are counted instead of rows.
        retention: of the rows.
        rows_at_once: rows that one statement may count or add up, about.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        rows: SensorData,
        cells: int,
        retention: Retention = FOR_EVER,
        *,
        in_parts: bool = False,
        rows_at_once: int = ROWS_AT_ONCE,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows, self._rows_at_once, self._wall_clock = rows, rows_at_once, wall_clock
        self._cells, self._in_parts = cells, in_parts
        self._retention = retention
        # Of partitions in which a slice was too large, or may hold expired rows.
        self._learned: OrderedDict[Place, _Reach] = OrderedDict()
        # By the rows read last: milliseconds that hold about `rows_at_once` rows.
        self._dense: OrderedDict[Place, int] = OrderedDict()

    # The port.

    def start_range(self, span: Span, limit: int) -> Answer[Sequence[tuple[int, StoredRow]]]:
        return _Walk(self._page(span, limit, self._rows.start_range, newest_first=True))

    def start_page(
        self, span: Span, limit: int, *, newest_first: bool = False
    ) -> Answer[Sequence[PlainRow]]:
        def start(part: Span, most: int) -> Answer[Sequence[PlainRow]]:
            return self._rows.start_page(part, most, newest_first=newest_first)

        return _Walk(self._page(span, limit, start, newest_first=newest_first))

    def start_times(
        self, device_id: str, day_number: int, times_ms: Sequence[int]
    ) -> Answer[Sequence[tuple[int, StoredRow]]]:
        return self._rows.start_times(device_id, day_number, times_ms)

    def start_count(self, span: Span) -> Answer[Counted]:
        return _Walk(self._count(span))

    def start_sums(self, span: Span) -> Answer[Summed]:
        return _Walk(self._sum(span))

    def start_counts(self, span: Span, piece_ms: int) -> Answer[Sequence[PieceCount]]:
        return _Walk(self._count_pieces(span, piece_ms))

    def start_means(self, span: Span, piece_ms: int) -> Answer[Sequence[PieceMean]]:
        return _Walk(self._average_pieces(span, piece_ms))

    def all_places(self) -> Iterator[Place]:
        return self._rows.all_places()

    def delete_rows(self, deletion: Deletion, day_number: int) -> None:
        self._rows.delete_rows(deletion, day_number)

    def wait(self, timeout_seconds: float) -> None:
        self._rows.wait(timeout_seconds)

    # Walks.

    def _page(
        self,
        span: Span,
        limit: int,
        start: Callable[[Span, int], Answer[Sequence[_Row]]],
        *,
        newest_first: bool,
    ) -> _Steps[list[_Row]]:
        found: list[_Row] = []
        rest: Span | None = span
        while rest is not None and len(found) < limit:
            most = limit - len(found)
            part, answer = yield from self._ask(
                rest, partial(_limited, start, most), newest_first=newest_first
            )
            found += answer.found
            rest = _behind(rest, part, newest_first=newest_first)
        if len(found) < limit or limit >= _TELLING:  # a few rows say nothing of the rest
            self._note_density(span, found)
        return found

    def _count(self, span: Span) -> _Steps[Counted]:
        rows, part, rest = yield from self._look(span, self._start_newest)
        counted = len(rows)
        if self._in_parts:
            counted = sum(value is not None for _, *values in rows for value in values)
        if part is None:
            return Counted(counted, rest)
        part, answer = yield from self._ask(part, self._rows.start_count)
        return Counted(counted + answer.found.rows, _behind(span, part))

    def _sum(self, span: Span) -> _Steps[Summed]:
        rows, part, rest = yield from self._look(span, self._rows.start_range)
        times = [write_times_in(row) for _, row in rows] or [(0,) * self._cells]
        totals = [sum(us or 0 for us in of_cells) % 2**64 for of_cells in zip(*times, strict=True)]
        if part is None:
            return Summed(len(rows), totals, rest)
        part, answer = yield from self._ask(part, self._rows.start_sums)
        more = answer.found
        totals = [(a + b) % 2**64 for a, b in zip(totals, more.totals, strict=True)]
        return Summed(len(rows) + more.rows, totals, _behind(span, part))

    def _count_pieces(self, span: Span, piece_ms: int) -> _Steps[list[PieceCount]]:
        found: dict[int, PieceCount] = {}
        for begin, rows, first_ms in (yield from self._of_pieces(span, piece_ms, "start_counts")):
            _, known, first = found.get(begin, (begin, 0, first_ms))
            found[begin] = (begin, known + rows, min(first, first_ms))
        return [found[begin] for begin in sorted(found)]

    def _average_pieces(self, span: Span, piece_ms: int) -> _Steps[list[PieceMean]]:
        found: dict[int, PieceMean] = {}
        for begin, rows, mean in (yield from self._of_pieces(span, piece_ms, "start_means")):
            _, known, of_known = found.get(begin, (begin, 0, None))
            total = (mean or 0.0) * rows + (of_known or 0.0) * known
            found[begin] = (begin, known + rows, total / (known + rows) if known + rows else None)
        return [found[begin] for begin in sorted(found)]

    def _of_pieces(
        self, span: Span, piece_ms: int, method: Literal["start_counts", "start_means"]
    ) -> _Steps[list[Any]]:
        """What is found of pieces, in parts where a slice ends within one."""
        place = (span.device_id, span.day_number)
        found: list[Any] = []
        rest: Span | None = span
        while rest is not None:
            target = rest
            if self._dense.get(place, 0) <= rest.last_ms - rest.first_ms:
                # The newest rows say where the next ones lie, and how densely.
                part, looked = yield from self._ask(
                    rest, lambda part: self._start_newest(part, _LOOKED_AT)
                )
                rows = looked.found
                if not rows:
                    rest = _behind(rest, part)
                    continue
                self._note_density(part, rows)
                target = replace(part, last_ms=rows[0][0])
                if len(rows) == _LOOKED_AT:
                    target = _newest(target, self._dense[place])
            part, answer = yield from self._ask(
                target, lambda part: getattr(self._rows, method)(part, piece_ms)
            )
            found += answer.found
            rest = _behind(rest, part)
        return found

    # Slices.

    def _look(
        self, span: Span, start: Callable[[Span, int], Answer[Sequence[_Row]]]
    ) -> _Steps[tuple[Sequence[_Row], Span | None, Span | None]]:
        """The newest rows; the slice to be asked about next, if there is one; else the rest."""
        part, answer = yield from self._ask(span, lambda part: start(part, _LOOKED_AT))
        rows = answer.found
        self._note_density(part, rows)
        if len(rows) < _LOOKED_AT or rows[-1][0] == part.first_ms:
            return rows, None, _behind(span, part)
        older = replace(part, last_ms=rows[-1][0] - 1)
        return rows, _newest(older, self._dense[part.device_id, part.day_number]), None

    def _ask(
        self, span: Span, start: Callable[[Span], Answer[_T]], *, newest_first: bool = True
    ) -> _Steps[tuple[Span, Answer[_T]]]:
        """Ask about as much of the end of a span as Cassandra answers: that part, and the answer.

        Raises:
            PipelineError: the answer's error, where less would not help.
        """
        place = (span.device_id, span.day_number)
        most_ms, is_slow = MS_PER_DAY, False
        while True:
            part = _end_of(self._slice(span, newest_first), most_ms, newest_first)
            length_ms = part.last_ms - part.first_ms + 1
            answer = yield start(part)
            error = answer.error
            if error is None:
                if place in self._learned:
                    self._learn(place, self._learned[place].after_success(length_ms))
                return part, answer
            if isinstance(error, TooManyTombstonesError) and length_ms > 1:
                known = self._learned.get(place, _Reach(length_ms))
                self._learn(place, known.after_too_large(length_ms))
            elif isinstance(error, CassandraSlowError) and length_ms > 1 and not is_slow:
                most_ms, is_slow = max(1, length_ms // _SLOW_CUT), True
            else:
                raise error

    def _slice(self, span: Span, newest_first: bool) -> Span:
        """As much of a span as may be asked about at once, by its age and by what was learned."""
        place = (span.device_id, span.day_number)
        if place not in self._learned and self._retention.may_end:
            # A row expires by its arrival; few arrive long after they were measured.
            edge_ms = self._retention.aged_before_ms(span.device_id, self._wall_clock())
            if newest_first and span.first_ms < edge_ms <= span.last_ms:
                return replace(span, first_ms=edge_ms)
            if span.first_ms < edge_ms:
                self._learn(place, _Reach(MS_PER_HOUR))
        if place not in self._learned:
            return span
        return _end_of(span, self._learned[place].length_ms, newest_first)

    def _learn(self, place: Place, reach: _Reach) -> None:
        self._learned[place] = reach
        _forget_oldest(self._learned)

    def _note_density(self, span: Span, rows: Sequence[tuple[Any, ...]]) -> None:
        """How long a slice of about `rows_at_once` rows is, by rows that were read."""
        took_ms = span.last_ms - span.first_ms + 1
        if len(rows) >= _TELLING:
            took_ms = abs(rows[-1][0] - rows[0][0]) + 1
        elif took_ms < MS_PER_HOUR:
            return
        length_ms = took_ms * self._rows_at_once // max(1, len(rows))
        self._dense[span.device_id, span.day_number] = min(MS_PER_DAY, max(1, length_ms))
        _forget_oldest(self._dense)

    def _start_newest(self, span: Span, limit: int) -> Answer[Sequence[PlainRow]]:
        return self._rows.start_page(span, limit, newest_first=True)


def _limited(
    start: Callable[[Span, int], Answer[Sequence[_Row]]], limit: int, part: Span
) -> Answer[Sequence[_Row]]:
    return start(part, limit)


def _end_of(span: Span, length_ms: int, newest_first: bool) -> Span:
    if newest_first:
        return replace(span, first_ms=max(span.first_ms, span.last_ms - length_ms + 1))
    return replace(span, last_ms=min(span.last_ms, span.first_ms + length_ms - 1))


def _newest(span: Span, length_ms: int) -> Span:
    return _end_of(span, length_ms, newest_first=True)


def _behind(span: Span, part: Span, *, newest_first: bool = True) -> Span | None:
    """What is left of a span of which the end was asked about; None: nothing."""
    left = (
        replace(span, last_ms=part.first_ms - 1)
        if newest_first
        else replace(span, first_ms=part.last_ms + 1)
    )
    return left if left.first_ms <= left.last_ms else None


def _forget_oldest(known: OrderedDict[Place, Any]) -> None:
    while len(known) > _MOST_LEARNED:
        known.popitem(last=False)
