"""Read a part of the topic and the table again, and say what became of every offset.

Independent of ingestion: its own consumer, its own reading of the table. Takes the checkpoints
first; what lies above is in flight. Changes nothing; what it proved is kept. In bounded memory: a
stretch of records at a time; rows without a record are `stages.proof.strays`'s.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial

from iot_pipeline.core.ledger.chain import LOSSES, LedgerEntry
from iot_pipeline.core.proof.audit import Judge
from iot_pipeline.core.proof.audit_result import UNREAD, AuditResult, Fate
from iot_pipeline.core.proof.former_rows import FormerRows
from iot_pipeline.core.proof.log_reader import LogReader
from iot_pipeline.core.proof.read_times import ReadTimes, WriteTimes
from iot_pipeline.core.proof.row_sums import RowSums
from iot_pipeline.core.proof.seen import Seen
from iot_pipeline.core.proof.stretches import LetterIndex, Stretch, Tie
from iot_pipeline.core.reading.offsets import (
    OffsetRange,
    Watermarks,
    in_rounds,
    join_ranges,
    subtract_ranges,
)
from iot_pipeline.errors import MissingRightError, PlanError, SchemaMismatchError, TopicChangedError
from iot_pipeline.stages.ingest.memory import rare_collections
from iot_pipeline.stages.ingest.planning import read_states
from iot_pipeline.stages.ledger.chain import first_present, read_present
from iot_pipeline.stages.proof.as_ingested import as_ingested, read_ingested, say_ranges
from iot_pipeline.stages.proof.cut_logs import LogComparison
from iot_pipeline.stages.proof.days import covered_days, look_before
from iot_pipeline.stages.proof.ports import AuditPorts
from iot_pipeline.stages.proof.read_back import fetch_rows
from iot_pipeline.stages.proof.strays import StraySearch
from iot_pipeline.stages.proof.trace import find_records

# Settled together: their records are looked for in one reading, and these are held until then.
MAX_TIES = 1_000
_PROGRESS_SECONDS = 0.5


@dataclass(slots=True)
class AuditProgress:
    """How far an audit is; `eta_seconds` is None until there is something to estimate from."""

    done: int = 0
    total: int = 0
    seconds: float = 0.0
    step: str = "records"

    @property
    def rate(self) -> float:
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def eta_seconds(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate else None


def audit(
    ranges: Sequence[OffsetRange],
    ports: AuditPorts,
    audit_id: str | None,
    *,
    every_place: bool = False,
    day: date | None = None,
    on_progress: Callable[[AuditProgress], None] = lambda _: None,
    wall_clock: Callable[[], float] = time.time,
) -> AuditResult:
    """Say what became of every offset of `ranges`, and keep the answer.

    Args:
        ranges: offsets of the topic; above the last stable offset is refused.
        audit_id: names the audit where it is kept; None: it is not, for it is a part of a look.
        every_place: look for rows without a record in every partition of the table, not only on
            the days that the records are of.
        day: the UTC day that the ranges were chosen for; None: for none.
        on_progress: called a few times a second.
        wall_clock: seconds since 1970.

    Raises:
        PlanError: a partition or an offset that does not exist.
        TopicChangedError: the topic was recreated, before or meanwhile: nothing is proved.
        KafkaUnavailableError, CassandraUnavailableError: no answer for long.
    """
    with rare_collections():
        work = _Audit(ranges, ports, every_place, on_progress, wall_clock, audit_id)
        return work.run(day)


class _Audit:
    def __init__(
        self,
        ranges: Sequence[OffsetRange],
        ports: AuditPorts,
        every_place: bool,
        on_progress: Callable[[AuditProgress], None],
        wall_clock: Callable[[], float],
        audit_id: str | None,
    ) -> None:
        self._topic, self._settings = ports.settings.topic, ports.settings
        self._plain_ports = ports
        self._every_place, self._on_progress = every_place, on_progress
        self._audit_id = audit_id
        self._mended = ports.read_mended()
        self._began, self._told = time.monotonic(), 0.0
        self._started_at = datetime.fromtimestamp(wall_clock(), UTC)
        # Before all else: what the ledgers say of a day from now on is another text.
        self._before = (
            None if audit_id is None else look_before(ports.ledger, ports.deletions, self._topic)
        )
        # The checkpoints next: what a run stores from now on is in flight.
        self._info, self._checkpoints, states = read_states(ports.log, ports.ledger, self._topic)
        self._states = {state.partition: state for state in states}
        self._ports = as_ingested(ports)
        self._result = AuditResult(join_ranges(ranges))
        self._check_ranges()
        self._progress = AuditProgress(total=self._result.offsets)
        self._unread_letters: list[OffsetRange] = []
        self._days: set[int] = set()
        self._cut: set[int] = set()
        self._unread: list[tuple[int, int, int]] = []
        self._times = ReadTimes()

    def _check_ranges(self) -> None:
        for item in self._result.ranges:
            state = self._states.get(item.partition)
            if state is None or item.end > state.last_stable:
                end = (
                    "no such partition" if state is None else f"the log ends at {state.last_stable}"
                )
                raise PlanError(f"auditing {self._topic} {item}: {end}")

    def run(self, day: date | None) -> AuditResult:
        result = self._result
        result.asked_day = day
        judge = Judge(
            self._ports.quantities,
            self._read_letters(),
            self._ports.read_deletions(),
            self._mended,
            # A row ages while we look: a minute's grace, in favour of aged_out.
            partial(
                self._settings.retention.aged_before_ms,
                now_seconds=self._started_at.timestamp() + 60,
            ),
            self._losses(),
            result,
            # Who compares them with the rows of a day counts those of the present declaration.
            counted=[quantity.name for quantity in self._ports.rules.quantities],
        )
        self._compare_logs()
        judge.has_all_letters = not self._unread_letters
        readable = self._split(judge)
        ties: list[Tie] = []
        for reader, mine in self._ports.by_reader(readable):
            for ranges in in_rounds(mine):
                for stretch in self._stretches(reader, list(ranges.values()), judge):
                    self._judge(judge, stretch, ties)
        self._settle(judge, ties)
        if self._may_judge_strays():
            self._find_strays(judge.sums, readable)
        if self._ports.log.topic_id(self._topic) != self._info.topic_id:
            raise TopicChangedError(
                f"auditing {self._topic}: it was deleted and made again meanwhile: nothing proved"
            )
        self._tell_declarations(readable)
        if result.fates[Fate.LOST]:
            result.live_seconds = self._ports.live_seconds()
        result.seconds = time.monotonic() - self._began
        if self._audit_id is not None and self._before is not None:
            result.days = covered_days(
                self._before,
                self._ports.ledger,
                self._topic,
                self._checkpoints,
                {partition: state.low for partition, state in self._states.items()},
                result,
                self._audit_id,
                self._started_at,
            )
            self._ports.audits.record_audit(
                self._topic, self._info.topic_id, self._audit_id, self._started_at, result
            )
            self._keep_days()
        return result

    def _keep_days(self) -> None:
        """What was found is told even where the table of the days cannot be written."""
        days = self._result.days.values()
        try:
            self._ports.audits.record_days(self._topic, self._started_at, days)
        except (MissingRightError, SchemaMismatchError) as error:
            self._result.notes.append(f"which days are proven could not be kept: {error}")

    def _tell_declarations(self, readable: Sequence[OffsetRange]) -> None:
        """Say what could not be judged by the declaration of then, where that was looked at."""
        ingested = self._ports.ingested
        if ingested is None:
            if self._result.is_clean or self._ports.history is None:
                return
            # What is lost, torn or stray may be so because it was read otherwise when ingested.
            ingested = read_ingested(self._ports)
        for fingerprint, ranges in sorted(ingested.unknown(readable).items()):
            self._result.uncompared += ranges
            self._result.doubts.append(
                f"{say_ranges(ranges)} were ingested by the declaration {fingerprint}, which was "
                f"not kept, and are judged by the present one, {ingested.present}: what is lost, "
                "torn or stray there may be what the two read otherwise. `iot setup` with "
                "IOT_READING set to the file of then keeps it"
            )
        if ingested.dropped:
            names = ", ".join(ingested.dropped)
            self._result.uncompared += ingested.lacking(readable)
            self._result.doubts.append(f"not compared: {names}, whose column was dropped")

    # What the records are compared with.

    def _read_letters(self) -> LetterIndex:
        dlq = self._settings.dead_letter_topic
        marks = self._ports.log.watermarks(dlq)
        ranges = [OffsetRange(m.partition, m.low, m.last_stable) for m in marks]
        wanted = defaultdict(list)
        for item in self._result.ranges:
            wanted[item.partition].append(item)
        return LetterIndex(
            (partition, offset)
            for partition, offset in self._ports.records.letter_places(
                dlq, ranges, self._topic, self._info.topic_id, self._unread_letters.append
            )
            if any(item.start <= offset < item.end for item in wanted.get(partition, ()))
        )

    def _losses(self) -> list[LedgerEntry]:
        entries = read_present(
            self._ports.ledger,
            self._topic,
            {p: self._checkpoints[p] for p in self._partitions if p in self._checkpoints},
            {partition: state.low for partition, state in self._states.items()},
            outcomes=LOSSES,
        )
        return [entry for entry in entries if entry.outcome.is_loss]

    @property
    def _partitions(self) -> list[int]:
        return sorted({item.partition for item in self._result.ranges})

    def _compare_logs(self) -> None:
        """Is each log the one that was read? Rows of what Kafka lost are not stray then."""
        asked = {item.partition for item in self._result.ranges}
        doubts = LogComparison(self._ports.log, self._plain_ports).find_doubts(
            self._topic,
            [c for p, c in self._checkpoints.items() if p in asked],
            [Watermarks(s.partition, s.low, s.last_stable) for s in self._states.values()],
            self._settings.retry_seconds,
        )
        self._cut = set(doubts)
        self._result.doubts = [
            str(doubt.error(self._topic, "auditing")) for doubt in doubts.values()
        ]

    # Records.

    def _split(self, judge: Judge) -> list[OffsetRange]:
        """Take out what is in flight and what is gone; give back what can be read."""
        readable = []
        for item in self._result.ranges:
            state = self._states[item.partition]
            checkpoint = self._checkpoints.get(item.partition)
            next_offset = item.start if checkpoint is None else checkpoint.next_offset
            ingested_end = max(item.start, min(item.end, next_offset))
            self._count(Fate.IN_FLIGHT, item.end - ingested_end)
            if item.end > ingested_end:
                in_flight = OffsetRange(item.partition, ingested_end, item.end)
                self._result.uncompared.append(in_flight)
            first = item.start
            if checkpoint is not None:
                first = first_present(self._ports.ledger, self._topic, checkpoint, state.low)
            start = min(ingested_end, max(item.start, state.low, first))
            if start > item.start:
                judge.count_unread(OffsetRange(item.partition, item.start, start))
                self._progress.done += start - item.start
            if ingested_end > start:
                readable.append(OffsetRange(item.partition, start, ingested_end))
        return readable

    def _count(self, fate: Fate, offsets: int) -> None:
        self._result.fates[fate] += offsets
        self._progress.done += offsets

    def _stretches(
        self, reader: LogReader, ranges: Sequence[OffsetRange], judge: Judge
    ) -> Iterator[Stretch]:
        stretch = Stretch(reader)
        seen = Seen({item.partition: item.start for item in ranges})
        for records in self._ports.records.read(self._topic, ranges):
            seen.pass_over(records.unreadable)
            if not len(records):
                continue
            seen.take(records)
            self._ports.learn_schemas(reader, records.values)
            stretch.add(records)
            if stretch.records >= self._ports.window_records:
                yield stretch
                stretch = Stretch(reader)
        yield stretch
        for item in ranges:
            if item.partition in seen.first_ms:
                self._times.add(item, seen.first_ms[item.partition], seen.last_ms[item.partition])
        unreadable = [item for item, _, _ in seen.unread]
        for item, since_ms, until_ms in seen.unread:
            if judge.count_unread(item):
                self._unread.append((item.partition, since_ms, until_ms))
            self._progress.done += item.span
        jumped = [
            *seen.jumped,
            *(
                OffsetRange(item.partition, seen.expected[item.partition], item.end)
                for item in ranges
                if seen.expected[item.partition] < item.end
            ),
        ]
        if unreadable:
            jumped = subtract_ranges(jumped, unreadable)
        self._count_jumped(jumped)

    def _count_jumped(self, jumped: Sequence[OffsetRange]) -> None:
        # What Kafka deleted while we read looks like a hole; below its low watermark of now
        # the two cannot be told apart.
        if not jumped:
            return
        low = {mark.partition: mark.low for mark in self._ports.log.watermarks(self._topic)}
        for item in jumped:
            known = self._states[item.partition].low
            deleted = 0
            if low[item.partition] > known:
                deleted = max(0, min(item.end, low[item.partition]) - item.start)
            if deleted:
                gone = OffsetRange(item.partition, item.start, item.start + deleted)
                self._result.uncompared.append(gone)
            self._count(Fate.UNVERIFIABLE, deleted)
            self._count(Fate.HOLES, item.span - deleted)

    def _judge(self, judge: Judge, stretch: Stretch, ties: list[Tie]) -> None:
        judge.judge_rejected(stretch)
        wanted = ((place, sorted(group)) for place, group in stretch.groups.items())
        for place, times, found in fetch_rows(
            self._ports.rows, wanted, self._settings.retry_seconds
        ):
            self._days.add(place[1])
            ties += judge.judge_rows(place, times, stretch.groups[place], found)
            if len(ties) > MAX_TIES:
                self._settle(judge, ties)
                ties.clear()
        self._result.records += stretch.records
        self._progress.done += stretch.records
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        self._progress.seconds = now - self._began
        if now - self._told >= _PROGRESS_SECONDS:
            self._told = now
            self._on_progress(self._progress)

    # Ties: records of other partitions or stretches may have the row's write time and its values.

    def _settle(self, judge: Judge, ties: Sequence[Tie]) -> None:
        wanted = [(tie.place, tie.timestamp_ms, tie.row[0]) for tie in ties]
        found = find_records(self._ports, wanted)
        for tie, key in zip(ties, wanted, strict=True):
            judge.settle_tie(tie, found[key])

    # Rows that no record explains.

    def _may_judge_strays(self) -> bool:
        """Only when every partition was read: a row may be of any of them."""
        read = {item.partition for item in self._result.ranges}
        empty = {p for p, state in self._states.items() if state.last_stable == state.low}
        self._result.is_stray_judged = bool(read) and read | empty >= set(self._states)
        return self._result.is_stray_judged

    def _write_times(self) -> WriteTimes:
        """Those in which every record was read."""
        is_whole = not any(self._result.fates[fate] for fate in UNREAD)
        is_from_start = is_whole and all(
            any(i.partition == p and i.start <= state.low for i in self._result.ranges)
            for p, state in self._states.items()
            if state.last_stable > state.low
        )
        is_to_end = not self._result.fates[Fate.IN_FLIGHT] and all(
            any(i.partition == p and i.end == state.last_stable for i in self._result.ranges)
            for p, state in self._states.items()
            if state.last_stable > state.low
        )
        end_ms = int(self._started_at.timestamp() * 1000) if is_to_end else None
        return self._times.complete(is_from_start, end_ms)

    def _whole_ledger(self) -> Iterator[LedgerEntry]:
        for partition in self._partitions:
            yield from self._ports.ledger.read_entries(self._topic, [partition])

    def _find_strays(self, stored: RowSums, readable: Sequence[OffsetRange]) -> None:
        self._progress.step = "rows"
        StraySearch(
            self._ports,
            self._mended,
            readable,
            self._write_times(),
            self._times.newest_ms,
            FormerRows.of(self._whole_ledger(), self._checkpoints, self._cut, self._unread),
            None if self._every_place else sorted(self._days),
            self._result,
            self._tell,
        ).run(stored)
