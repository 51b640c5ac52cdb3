"""One micro-batch after another: gathered, decoded, written, acknowledged.

    consume -> topic UUID still the same? -> decode | reject -> winners
            -> rows and devices_by_day, all acknowledged -> yielded

What follows once the rows are safe is the caller's: ingest delivers dead letters and moves
checkpoints, a replay reads back. Consuming and decoding overlap the writes of the micro-batch
before. At-least-once towards the table: a crash anywhere makes the same cells again.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from iot_pipeline.core.ingest.micro_batch import MicroBatch, MicroBatchBuilder
from iot_pipeline.core.ingest.open_milliseconds import OpenMilliseconds
from iot_pipeline.core.ingest.refusals import Refusals
from iot_pipeline.core.ingest.sizing import row_bytes, wanted_records
from iot_pipeline.core.ledger.chain import LedgerEntry, ingested_from
from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.columns import DeviceCodes
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.offsets import (
    Checkpoint,
    OffsetRange,
    TopicInfo,
    check_checkpoint_id,
)
from iot_pipeline.core.reading.retention import RetentionByCode
from iot_pipeline.errors import KafkaUnavailableError, PermanentError, PipelineError, TransientError
from iot_pipeline.stages.ingest.config import DrainConfig, Ports, open_throttle
from iot_pipeline.stages.ingest.deleted import DeletedReadings
from iot_pipeline.stages.ingest.following import FOLLOW_POLL_SECONDS, IDENTITY_SECONDS
from iot_pipeline.stages.ingest.memory import rare_collections
from iot_pipeline.stages.ingest.refused import settle_refusals
from iot_pipeline.stages.ingest.writers import SLICES_AT_ONCE, Writers
from iot_pipeline.stages.reading.log import read_millisecond_before
from iot_pipeline.stages.reading.schemas import learn_schemas
from iot_pipeline.stages.requests import retry_transient

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# Terminate and Ctrl-C wait for a call into C to return, so none may take longer.
_POLL_SECONDS = 0.1
_BUSY_POLL_SECONDS = 0.002
# Past this many records in one broker millisecond the micro-batch is split inside it.
MAX_RECORDS_OF_ONE_MS = 500_000
# Or past these many bytes of held records, in all partitions together. Records that were split off
# compete with the rest of their millisecond, unless one partition has more bytes of them.
MAX_HELD_BYTES = 96 * 1024 * 1024
# Dead letters are kept whole, so many large ones end a micro-batch before its records do.
MAX_KEPT_BYTES = 32 * 1024 * 1024
# One empty poll counts as at most this much silence: the process may have been stopped meanwhile.
_LONGEST_POLL_SECONDS = 1.0


class MicroBatches:
    """Writes the rows of some ranges, and gives out each micro-batch when all its rows are safe.

    Args:
        topic: as it was when the ranges were planned.
        checkpoints: those of the partitions read; they name the topic's incarnation.
        ranges: at most one per Kafka partition, all read.
        entries: the ledger's, of those partitions: records before a range compete with its first
            millisecond, those that were ingested.
        wall_clock: seconds since 1970, for the retention of rows.
        prepare: may take rows out of a micro-batch before they are written; by default those that
            were deleted on purpose.
        are_objects: the caller makes objects of all rows, which take memory.
    """

    def __init__(
        self,
        topic: TopicInfo,
        checkpoints: Mapping[int, Checkpoint],
        ranges: Sequence[OffsetRange],
        ports: Ports,
        config: DrainConfig,
        entries: Sequence[LedgerEntry],
        wall_clock: Callable[[], float] = time.time,
        prepare: Callable[[MicroBatch], None] | None = None,
        *,
        are_objects: bool = False,
    ) -> None:
        self._topic, self._checkpoints = topic.name, checkpoints
        self._ports, self._config = ports, config
        self._wall_clock = wall_clock
        self._deleted = DeletedReadings(ports.deletions)
        self._deleted.look(config.retry_seconds)
        self._prepare = prepare or self._deleted.leave_out
        self._are_objects = are_objects
        self._follow = config.follow
        self._is_over = (
            config.follow.starting_at(config.follow.clock()) if config.follow else lambda: False
        )
        self._ranges = {item.partition: item for item in ranges}
        self._next = {item.partition: item.start for item in ranges}
        self._seen = dict(self._next)
        self._open = OpenMilliseconds(self._retry(lambda: self._read_settled(entries)))
        self._met: set[int] = set()
        # Nothing more is expected of these: finished, stopped or left.
        self._released: set[int] = set()
        self._left: set[int] = set()
        self._decoder, self._codes = ReadingDecoder(config.rules), DeviceCodes()
        self._retention = RetentionByCode(config.retention)
        self._bytes_of_row = row_bytes(config.rules.quantities)
        at_once = min(SLICES_AT_ONCE if config.follow else 1, config.requests_in_flight)
        self._throttle = open_throttle(topic.name, ports, config)
        self._writers = Writers(
            ports.store,
            at_once,
            config.requests_in_flight,
            config.retry_seconds,
            self._throttle,
        )
        self.in_flight = lambda: self._writers.in_flight
        self._is_last = False
        # Of these the store refused too much: nothing of them is given out from there on.
        self._refused: dict[int, PipelineError] = {}
        # Partitions that are read no more, and why; what was read of them is written and given out.
        self.stopped: dict[int, PipelineError] = {}
        # The offset that nothing given out of such a partition reaches.
        self.stopped_at: dict[int, int] = {}
        self._source = self._retry(lambda: ports.log.open_ranges(self._topic, ranges))

    @property
    def left(self) -> frozenset[int]:
        return frozenset(self._left)

    @property
    def is_throttled(self) -> bool:
        """Whether a limit holds now."""
        return bool(self._throttle.limit)

    @property
    def unknown_fields(self) -> int:
        return self._decoder.unknown_fields

    def written(self) -> Generator[MicroBatch | None, None, None]:
        """Until every range is finished or stopped, or a follow run is over.

        Closing it ends it earlier. `stopped` then says which ranges were not read to their ends.

        Yields:
            Each micro-batch in order, once its rows are acknowledged, with a letter for each record
            that could not be a row. Between polls, None: what the caller started for the one before
            can go on. The caller may not take long.

        Raises:
            TopicChangedError: the topic was recreated; nothing of it was written.
            TransientError: Kafka or Cassandra stayed away for `retry_seconds`.
        """
        with rare_collections():
            try:
                yield from self._written()
            finally:
                self._source.close()

    def _written(self) -> Iterator[MicroBatch | None]:
        while (batch := (yield from self._gather())) is not None:
            while not self._writers.has_room(batch):
                yield from self._pump(_POLL_SECONDS)
                yield None
            self._check_identity()
            self._check_holes(batch)
            self._prepare(batch)
            self._begin(batch)
            if self._is_last:
                break
        while self._writers.is_busy:
            yield from self._pump(_POLL_SECONDS)
            yield None

    def _begin(self, batch: MicroBatch) -> None:
        self._writers.begin(batch)

    def leave(self, partition: int) -> None:
        """Read no more of a partition: another run has it."""
        self._source.leave(partition)
        self._left.add(partition)

    # Consuming and decoding overlap the writes of the micro-batch before.

    def _gather(self) -> Generator[MicroBatch | None, None, MicroBatch | None]:
        if len(self._released) == len(self._ranges):
            return None
        now = self._wall_clock()
        aged_ms = self._config.retention.some_aged_before_ms(now)
        by_code = None
        if self._config.retention.groups:
            by_code = partial(self._retention.aged_before_ms, now_seconds=now)
        self._codes = self._codes.renewed()
        self._config.rules.schemas.forget_unknown()
        builder = MicroBatchBuilder(dict(self._next), self._decoder, self._codes, aged_ms, by_code)
        self._met.clear()
        began = time.monotonic()
        first_at: float | None = None
        quiet_seconds = 0.0
        while (
            builder.records < self._wanted_records(builder) and builder.kept_bytes < MAX_KEPT_BYTES
        ):
            yield from self._pump()
            yield None
            busy = self._writers.is_full
            asked = time.monotonic()
            chunks, error = self._poll(self._poll_seconds())
            now = time.monotonic()
            # Only time spent waiting for Kafka counts: after a minute of waiting for Cassandra
            # one empty poll says nothing about Kafka.
            quiet_seconds += min(now - asked, _LONGEST_POLL_SECONDS)
            for chunk in chunks:
                quiet_seconds = 0.0
                self._take_in(builder, chunk)
            if self._release_done(builder):
                quiet_seconds = 0.0
            if self._follow is not None:
                self._release_at_end(builder)
                if self._is_over() or self._is_last or len(self._released) == len(self._ranges):
                    break
                if first_at is None and (builder.records or self._has_passed_holes()):
                    first_at = now
                if first_at is not None and not busy:
                    if now - first_at >= self._follow.linger_seconds:
                        break
                elif quiet_seconds > IDENTITY_SECONDS:
                    self._check_identity()
                    quiet_seconds = 0.0
                continue
            if len(self._released) == len(self._ranges):
                break
            if builder.records and not busy and now - began > self._config.micro_batch_seconds:
                break
            if quiet_seconds > self._config.retry_seconds:
                waiting = sorted(set(self._ranges) - self._released)
                raise KafkaUnavailableError(
                    f"reading {self._topic}: no record of partitions {waiting} for "
                    f"{self._config.retry_seconds:g} s, their ranges end at "
                    f"{[self._ranges[p].end for p in waiting]}; "
                    f"{error or 'is Kafka up? (`iot status`)'}"
                ) from error
        ends = {}
        held = self._open.next_offsets()
        for partition, item in self._ranges.items():
            if partition in self._left or partition in self.stopped:
                ends[partition] = self._seen[partition]
            elif partition in self._released:
                ends[partition] = item.end
            else:
                ends[partition] = held.get(partition, self._seen[partition])
        if self._follow is not None and self._is_over():
            self._is_last = True
        batch = builder.build(ends)
        self._next = ends
        return batch

    def _wanted_records(self, builder: MicroBatchBuilder) -> int:
        config = self._config
        wanted = wanted_records(
            config.micro_batch_records,
            self._bytes_of_row,
            config.micro_batch_bytes,
            self._codes.size_bytes,
            builder.partition_keys,
            is_waiting=self._writers.is_full,
            are_objects=self._are_objects,
        )
        limit = self._throttle.limit
        return min(wanted, limit.most_records()) if limit else wanted

    def _poll_seconds(self) -> float:
        if self._writers.is_busy:
            return _BUSY_POLL_SECONDS
        return _POLL_SECONDS if self._follow is None else FOLLOW_POLL_SECONDS

    def _release_done(self, builder: MicroBatchBuilder) -> bool:
        """Take in what was held of partitions that give no more; whether there were any."""
        source = self._source
        done = (source.finished | source.stopped.keys() | self._left) - self._released
        for partition in done:
            self._release(builder, partition)
            # Nothing comes that its last millisecond could compete with: of hundreds of partitions
            # that would be the memory of their backlogs.
            self._open.forget(partition, more_than_bytes=0)
            if partition in source.stopped:
                self.stopped[partition] = source.stopped[partition]
                self.stopped_at[partition] = self._seen[partition]
                if self._follow is not None and self._follow.ends_at(self.stopped[partition]):
                    self._is_last = True
        self._released |= done
        return bool(done)

    def _release_at_end(self, builder: MicroBatchBuilder) -> None:
        for partition, end in self._source.at_end.items():
            if partition in self._released:
                continue
            self._release(builder, partition)
            # The last offsets may be holes: an aborted transaction, say.
            self._seen[partition] = max(self._seen[partition], end)

    def _has_passed_holes(self) -> bool:
        return any(
            seen > self._next[partition] and not self._open.held(partition)
            for partition, seen in self._seen.items()
        )

    def _read_settled(self, entries: Sequence[LedgerEntry]) -> list[RecordChunk]:
        ranges = self._ranges.values()
        known = {
            item.partition: ingested_from(entries, self._checkpoints[item.partition].epoch, item)
            for item in ranges
        }
        log, retry_seconds = self._ports.log, self._config.retry_seconds
        return read_millisecond_before(log, self._topic, ranges, known, retry_seconds)

    def _release(self, builder: MicroBatchBuilder, partition: int) -> None:
        for chunk in self._open.release(partition):
            self._add(builder, chunk)
            self._open.settle(chunk)

    def _add(self, builder: MicroBatchBuilder, chunk: RecordChunk) -> None:
        if chunk.partition not in self._met:
            self._met.add(chunk.partition)
            for rival in self._open.rivals_of(chunk):
                self._learn_schemas(rival)
                builder.compete(rival)
        self._learn_schemas(chunk)
        builder.add(chunk)

    def _learn_schemas(self, chunk: RecordChunk) -> None:
        config = self._config
        learn_schemas(config.rules, self._ports.schemas, chunk.values, config.retry_seconds)

    def _poll(self, timeout_seconds: float) -> tuple[list[RecordChunk], TransientError | None]:
        try:
            return self._source.poll_chunks(timeout_seconds), None
        except TransientError as exc:
            _log.warning("%s; asking again", exc)
            time.sleep(_POLL_SECONDS)
            return [], exc

    def _take_in(self, builder: MicroBatchBuilder, chunk: RecordChunk) -> None:
        partition = chunk.partition
        self._seen[partition] = chunk.offsets[-1] + 1
        for closed in self._open.pass_closed(chunk):
            self._add(builder, closed)
        if (
            self._open.held(partition) > MAX_RECORDS_OF_ONE_MS
            or self._open.total_bytes > MAX_HELD_BYTES
        ):
            self._release(builder, partition)
            builder.split_ms += self._open.forget(partition, MAX_HELD_BYTES)

    # Between consuming and writing.

    def _check_identity(self) -> None:
        topic_id = self._retry(lambda: self._ports.log.topic_id(self._topic))
        for partition in self._ranges:
            check_checkpoint_id(self._topic, self._checkpoints[partition], topic_id)

    def _check_holes(self, batch: MicroBatch) -> None:
        if not batch.holes:
            return
        skipped = self._retry(lambda: self._ports.log.find_skipped(self._topic, batch.holes))
        if skipped:
            self._check_identity()  # a topic recreated just now has records where this had holes
            partition, offset = skipped[0]
            raise PermanentError(
                f"reading {self._topic}[{partition}]: {len(skipped)} committed records, the first "
                f"at {offset}, were not given to the consumer the first time. Nothing of this "
                "micro-batch was written; run again, and report it if it happens twice"
            )

    def _pump(self, wait_seconds: float = 0.0) -> Iterator[MicroBatch]:
        self._throttle.look_again()
        if self._deleted.look_again():
            self._writers.note_again()
        if self._throttle.limit and self._follow is not None and self._is_over():
            self._throttle.lift()
        for refusals in self._writers.pump(wait_seconds):
            if refusals.rows or refusals.stopped or self._refused:
                self._settle_refusals(refusals)
            yield refusals.batch

    def _settle_refusals(self, refusals: Refusals) -> None:
        starts = dict(refusals.batch.starts)
        stopped = settle_refusals(
            refusals,
            self._refused,
            lambda offsets: self._retry(lambda: self._ports.log.read_offsets(self._topic, offsets)),
            self._check_identity,
            self._decoder,
            self._topic,
        )
        for partition in stopped.keys() - self._refused.keys():
            self.leave(partition)
            self.stopped_at[partition] = starts[partition]
        self._refused |= stopped
        self.stopped |= stopped

    def _retry(self, call: Callable[[], _T]) -> _T:
        return retry_transient(call, give_up_after_seconds=self._config.retry_seconds)
