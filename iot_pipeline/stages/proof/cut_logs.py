"""Notice a log that was cut back and has grown again: same topic, same UUID, other records.

An unclean election or a restored disk does that. Each commit keeps a fingerprint of the last record
that it covers; here it is compared with what Kafka has in that place now. Costs one fetch per Kafka
partition, all in one consumer. Changes nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from iot_pipeline.core.ledger.chain import LedgerEntry, Outcome
from iot_pipeline.core.proof.read_back import RowState, judge_of
from iot_pipeline.core.reading.declared_times import timestamp_ms as ms_of
from iot_pipeline.core.reading.fingerprints import find_difference
from iot_pipeline.core.reading.kept_values import kept_values
from iot_pipeline.core.reading.messages import Ignored, Record, Rejection
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, Watermarks
from iot_pipeline.core.reading.write_times import Row, write_time_us
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.errors import PermanentError, TopicChangedError
from iot_pipeline.stages.ports.log import RecordLogReader
from iot_pipeline.stages.proof.as_ingested import as_ingested
from iot_pipeline.stages.proof.ports import AuditPorts
from iot_pipeline.stages.proof.read_back import fetch_rows
from iot_pipeline.stages.reading.log import read_ranges

# So far from the fingerprinted record it is looked whether what were holes are holes still.
_HOLES_LOOKED_AT = 10_000
# Entries of the first look for what was ingested last; ten times as many where that is further.
_NEWEST_ENTRIES = 20
# Offsets of the first look back; each further one takes four times as many.
_FIRST_LOOK = 1_000
_LOOKS = 4
_NOT_INGESTED = (RowState.MISSING, RowState.OLDER)


@dataclass(frozen=True, slots=True)
class Doubt:
    """Offsets below a checkpoint whose records are not those that were read.

    `what` is how that was noticed, in words.
    """

    offsets: OffsetRange
    what: str

    def error(self, topic: str, doing: str = "planning") -> TopicChangedError:
        """What a run says that stops at it; `doing` is what was tried."""
        item = self.offsets
        # A replay may have written the rows of what is there now; then only the ledger is behind.
        doubted = (
            f"Offsets {item} are in doubt: what is there now was never read"
            if item.span
            else "What is there now has its rows, by a replay, but no ledger counts it"
        )
        return TopicChangedError(
            f"{doing} {topic}[{item.partition}]: the log is not the one that was read up to the "
            f"checkpoint {item.end}: {self.what}. Kafka lost the end of this log (an unclean "
            f"election, or a disk that was restored) and it has grown again. {doubted}. Nothing "
            "was written now. Ask senders for what Kafka lost; then "
            f"`iot rebase --at {item.partition}:{item.start}` goes on from there in a new epoch"
        )


@dataclass(slots=True)
class LogComparison:
    """Compares what Kafka has with what the ledger remembers of it.

    Args:
        rows: says which records were ingested, to narrow down what is in doubt.
    """

    log: RecordLogReader
    rows: AuditPorts
    _ingested: AuditPorts | None = field(default=None, init=False)

    def find_doubts(
        self,
        topic: str,
        checkpoints: Iterable[Checkpoint],
        marks: Iterable[Watermarks],
        retry_seconds: float,
    ) -> dict[int, Doubt]:
        """The partitions whose log is not the one that was read; those not known are left out.

        Raises:
            KafkaUnavailableError, CassandraUnavailableError: no answer for long.
        """
        known = {c.partition: c for c in checkpoints if c.fingerprint is not None}
        ranges = {}
        marks = list(marks)
        for mark in marks:
            checkpoint = known.get(mark.partition)
            if checkpoint is None or checkpoint.fingerprint is None:
                continue
            start = max(mark.low, checkpoint.fingerprint.offset)
            end = min(checkpoint.next_offset, mark.last_stable, start + _HOLES_LOOKED_AT)
            if checkpoint.next_offset > checkpoint.fingerprint.offset + 1:
                end = min(end, self._end_of_holes(topic, checkpoint, checkpoint.fingerprint.offset))
            # Deleted as far as that, or cut back and not grown again, which the plan says itself.
            if start < end and checkpoint.next_offset <= mark.last_stable:
                ranges[mark.partition] = OffsetRange(mark.partition, start, end)
        found: Mapping[int, list[Record]] = defaultdict(list)
        # What cannot be read shows nothing of the log; why it cannot is said when it is drained.
        with suppress(PermanentError):
            self._read(topic, list(ranges.values()), retry_seconds, found)
        doubts = {}
        low = {mark.partition: mark.low for mark in marks}
        for partition in ranges:
            checkpoint = known[partition]
            assert checkpoint.fingerprint is not None
            what = find_difference(checkpoint.fingerprint, found[partition])
            if what is not None:
                reach = OffsetRange(partition, low[partition], checkpoint.next_offset)
                start = self.first_in_doubt(topic, reach, retry_seconds)
                doubts[partition] = Doubt(
                    OffsetRange(partition, start, checkpoint.next_offset), what
                )
        return doubts

    def _end_of_holes(self, topic: str, checkpoint: Checkpoint, last: int) -> int:
        """Up to where everything behind the last record was a hole, by the ledger.

        What was left unread may hold records, and so may what was recovered of it later.
        """
        end = checkpoint.next_offset
        for entry in self._entries_behind(topic, checkpoint, last):
            if entry.epoch != checkpoint.epoch or entry.end_offset <= last:
                continue
            if entry.start_offset > last:
                if entry.outcome.is_loss or entry.counts.accounted != entry.counts.holes:
                    end = min(end, entry.start_offset)
            elif entry.outcome is Outcome.FOLDED:
                end = min(end, last + 1)
        return end

    def _entries_behind(self, topic: str, checkpoint: Checkpoint, last: int) -> list[LedgerEntry]:
        """The newest entries, back to that of the last record: a ledger of years is not read."""
        limit = _NEWEST_ENTRIES
        while True:
            entries = self.rows.ledger.read_entries(topic, [checkpoint.partition], limit=limit)
            if len(entries) < limit or (entries[-1].epoch, entries[-1].start_offset) <= (
                checkpoint.epoch,
                last,
            ):
                return entries
            limit *= 10

    def first_in_doubt(self, topic: str, reach: OffsetRange, retry_seconds: float) -> int:
        """From where on it is not known that the records of `reach` were ingested.

        Looks back from its end. A row with the write time of a record shows that just this record
        was ingested; the first one below all records without a row is the end of what is certain.
        """
        at, look = reach.end, _FIRST_LOOK
        known: dict[int, RowState] = {}
        boundary = reach.end
        for _ in range(_LOOKS):
            part = OffsetRange(reach.partition, max(reach.start, at - look), at)
            if part.span < 1:
                break
            try:
                records = self._read(topic, [part], retry_seconds)[reach.partition]
            except PermanentError:
                return reach.start  # a part that cannot be read: nothing is certain
            states = self._states(part, records, retry_seconds)
            known |= states
            at, look = part.start, look * 4
            missing = [offset for offset, state in states.items() if state in _NOT_INGESTED]
            boundary = min([boundary, *missing])
            ingested = [o for o, s in known.items() if s is RowState.EQUAL and o < boundary]
            if ingested and not missing:
                return max(ingested) + 1
        below = [o for o, s in known.items() if s is RowState.EQUAL and o < boundary]
        return max(below) + 1 if below else at

    @property
    def _as_ingested(self) -> AuditPorts:
        """Each range by the declaration of then: asked once a log was found to be another one."""
        if self._ingested is None:
            # Of a rebase that is half done some partitions are of another topic yet.
            with suppress(TopicChangedError):
                self._ingested = as_ingested(self.rows)
        return self._ingested or self.rows

    def _states(
        self, part: OffsetRange, records: Sequence[Record], retry_seconds: float
    ) -> dict[int, RowState]:
        """How the row of each reading stands to it, by offset; what is no reading has none."""
        ports = self._as_ingested
        judge = judge_of(ports.quantities)
        wanted: defaultdict[tuple[str, int], dict[int, list[Row]]] = defaultdict(dict)
        for reader, ranges in ports.by_reader([part]):
            for record in records:
                if not any(item.start <= record.offset < item.end for item in ranges):
                    continue
                ports.learn_schemas(reader, [record.value])
                reading = reader.read_record(record)
                if isinstance(reading, Rejection | Ignored):
                    continue
                ms = ms_of(reading.timestamp)
                written = write_time_us(record.produced_ms, record.offset, record.partition)
                told = [next(column) for column in reader.columns_of([reading])]
                values = kept_values(told, reader.columns)
                row: Row = (written, record.offset, record.partition, *values)
                wanted[reading.device_id, ms // MS_PER_DAY].setdefault(ms, []).append(row)
        asked = ((place, sorted(group)) for place, group in wanted.items())
        states = {}
        for place, times, stored in fetch_rows(ports.rows, asked, retry_seconds):
            for ms in times:
                for row in wanted[place][ms]:
                    states[row[1]] = judge(row, stored.get(ms))
        return states

    def _read(
        self,
        topic: str,
        ranges: list[OffsetRange],
        retry_seconds: float,
        into: Mapping[int, list[Record]] | None = None,
    ) -> Mapping[int, list[Record]]:
        found = defaultdict(list) if into is None else into
        if ranges:
            for records in read_ranges(self.log, topic, ranges, retry_seconds):
                for record in records:
                    found[record.partition].append(record)
        return found
