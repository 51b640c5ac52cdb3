"""Read dead letters again by the rules of now: a reading is stored as if it had never failed.

With its original coordinates and write time, so it wins and loses as it would have. No checkpoint
moves, nothing is sent again, every letter stays where it is. Idempotent: a second time finds the
rows there.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.ledger.declared import DeclaredReplay
from iot_pipeline.core.proof.dead_letters import LetterReader, StoredLetter
from iot_pipeline.core.proof.read_back import (
    RowState,
    count_new_cells,
    judge_of,
    should_write,
    without_ties,
)
from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.kept_values import kept_values
from iot_pipeline.core.reading.messages import Ignored, Rejection
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.quantities import are_in_parts
from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.reading.write_times import (
    Row,
    RowsByTime,
    record_of,
    winner_of,
    write_time_us,
)
from iot_pipeline.core.times import MS_PER_DAY, day_of
from iot_pipeline.core.words import counted
from iot_pipeline.stages.ingest.config import DrainConfig, Ports, open_throttle
from iot_pipeline.stages.ingest.row_writer import RowWriter
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.ports.log import RecordLogReader
from iot_pipeline.stages.proof.ports import AuditPorts
from iot_pipeline.stages.proof.read_back import fetch_rows
from iot_pipeline.stages.reading.log import read_ranges
from iot_pipeline.stages.reading.schemas import learn_schemas
from iot_pipeline.stages.requests import retry_transient

# Readings held at once; a letter that still fails is counted and dropped.
_CHUNK_ROWS = 5_000


@dataclass(slots=True)
class LetterReplay:
    """What became of every letter: `letters` is the sum of all the others.

    `present` were stored by an earlier replay; `superseded` lost to another record or to
    `iot delete`; `ignored` are known and no readings now; `still_rejected` is by the reason of now.
    `unreadable` offsets of the dead-letter topic may hold more letters.
    """

    letters: int = 0
    stored: int = 0
    present: int = 0
    superseded: int = 0
    aged_out: int = 0
    ignored: int = 0
    still_rejected: Counter[str] = field(default_factory=Counter)
    new_rows_by_day: Counter[date] = field(default_factory=Counter)
    new_cells_by_day: Counter[date] = field(default_factory=Counter)
    unreadable: list[OffsetRange] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{counted(self.letters, 'dead letter')} = {self.stored:,} stored + "
            f"{self.present:,} stored before + {self.superseded:,} superseded + "
            f"{self.aged_out:,} aged out + {self.still_rejected.total():,} still rejected"
            + (f" + {self.ignored:,} ignored" if self.ignored else "")
        )

    def numbers(self) -> dict[str, int]:
        """How many became what, but for those that are rejected again."""
        return {
            "letters": self.letters,
            "stored": self.stored,
            "present": self.present,
            "superseded": self.superseded,
            "aged_out": self.aged_out,
            "ignored": self.ignored,
        }


def read_letters(
    log: RecordLogReader,
    dead_letter_topic: str,
    topic: str,
    give_up_after_seconds: float,
    on_unreadable: Callable[[OffsetRange], None],
) -> Iterator[StoredLetter]:
    """Every dead letter of a topic, oldest first, each source record once.

    `on_unreadable` gets the offsets of the dead-letter topic that cannot be read.
    """
    reader = LetterReader()
    marks = log.watermarks(dead_letter_topic)
    ranges = [
        OffsetRange(m.partition, m.low, m.last_stable) for m in marks if m.last_stable > m.low
    ]
    if not ranges:
        return
    for records in read_ranges(
        log, dead_letter_topic, ranges, give_up_after_seconds, on_unreadable
    ):
        for record in records:
            letter = reader.add(record)
            if letter is not None and letter.source.topic == topic:
                yield letter


def replay_dead_letters(
    ports: Ports,
    proof: AuditPorts,
    run: Run,
    config: DrainConfig,
    *,
    reason: str | None = None,
    wall_clock: Callable[[], float] = time.time,
) -> LetterReplay:
    """Store what the rules of now accept.

    Recorded before each of its writes and at its end, so whenever it dies the days that it touched
    are known: rollups are made again. Rows of the write that it died in are on no day's count.

    Args:
        proof: whose letters, what is there already, and what was deleted and stays so.
        run: who replays; recorded in replay_ledger.
        config: the rules, and how to write.
        reason: only letters with this reason.
        wall_clock: seconds since 1970.

    Raises:
        RowsRefusedError, TransientError: as `drain`.
    """
    topic, letters = proof.settings.topic, proof.settings.dead_letter_topic
    # An audit reads by it what it makes of letters, so it is to be known later.
    ports.keep_declaration(config.rules, config.retry_seconds)
    work = _Work(ports, proof, run, config, wall_clock)
    unreadable = work.result.unreadable.append
    for letter in read_letters(ports.log, letters, topic, config.retry_seconds, unreadable):
        if reason in (None, letter.reason):
            work.take(letter)
    work.write()
    work.record()
    return work.result


class _Work:
    def __init__(
        self,
        ports: Ports,
        proof: AuditPorts,
        run: Run,
        config: DrainConfig,
        wall_clock: Callable[[], float],
    ) -> None:
        self.result = LetterReplay()
        self._topic, self._rows, self._config = proof.settings.topic, proof.rows, config
        self._ledger, self._run_id = ports.ledger, run.run_id
        self._schemas = ports.schemas
        self._started_at = datetime.fromtimestamp(wall_clock(), UTC)
        self._deletions = proof.read_deletions()
        self._decoder = ReadingDecoder(config.rules)
        self._writer = RowWriter(
            ports.store,
            config.requests_in_flight,
            config.retry_seconds,
            throttle=open_throttle(self._topic, ports, config),
        )
        self._in_parts = are_in_parts(config.rules.quantities)
        self._judge = judge_of(config.rules.quantities)
        self._now_seconds = wall_clock()
        self._groups: dict[Place, RowsByTime] = {}
        self._held = 0

    def take(self, letter: StoredLetter) -> None:
        result = self.result
        result.letters += 1
        config = self._config
        learn_schemas(config.rules, self._schemas, [letter.value], config.retry_seconds)
        reading = self._decoder.decode(
            letter.value, letter.message_key, list(letter.headers), letter.produced_ms or 0
        )
        if isinstance(reading, Rejection):
            result.still_rejected[reading.reason.value] += 1
            return
        if isinstance(reading, Ignored):
            result.ignored += 1
            return
        if letter.produced_ms is None:
            result.still_rejected["no_timestamp"] += 1
            return
        aged_before_ms = config.retention.aged_before_ms(reading.device_id, self._now_seconds)
        if letter.produced_ms < aged_before_ms:
            result.aged_out += 1
            return
        ms = timestamp_ms(reading.timestamp)
        source = letter.source
        row: Row = (
            write_time_us(letter.produced_ms, source.offset, source.partition),
            source.offset,
            source.partition,
            *kept_values(self._decoder.values_of(reading), self._decoder.rules.quantities),
        )
        if self._deletions.covers(reading.device_id, ms, row[0]):
            result.superseded += 1
            return
        place = reading.device_id, ms // MS_PER_DAY
        if self._in_parts and ms in self._groups.get(place, ()):
            # It may have other cells.
            self.write()
        group = self._groups.setdefault(place, {})
        if ms in group:
            result.superseded += 1
            row = winner_of((row, group[ms]))
        else:
            self._held += 1
        group[ms] = row
        if self._held >= _CHUNK_ROWS:
            self.write()

    def write(self) -> None:
        """Write those rows that are missing, or that an older record made."""
        groups, self._groups, self._held = self._groups, {}, 0
        wanted = [(place, sorted(group)) for place, group in groups.items()]
        missing: set[tuple[Place, int]] = set()
        new: dict[tuple[Place, int], int] = {}
        for place, times, found in fetch_rows(self._rows, wanted, self._config.retry_seconds):
            for ms in times:
                row, stored = groups[place][ms], found.get(ms)
                if self._in_parts:
                    groups[place][ms] = without_ties(row, stored)
                new_cells = count_new_cells(groups[place][ms], stored)
                if new_cells:
                    new[place, ms] = new_cells
                if stored is None:
                    missing.add((place, ms))
                elif not should_write(groups[place][ms], stored):
                    is_present = self._judge(row, stored) is RowState.EQUAL
                    self.result.present += is_present
                    self.result.superseded += not is_present
                    del groups[place][ms]
        kept = {place: group for place, group in groups.items() if group}
        # Before the rows: a replay that dies among them has touched these days all the same. The
        # rows are not counted yet: those that were not written would be missed for ever.
        days = dict.fromkeys((day_of(day_number) for _, day_number in kept), 0)
        if kept:
            self.record(sum(map(len, kept.values())), days)
        self._writer.write(kept)
        refused = set(map(record_of, self._writer.refusals.rows))
        if refused:
            self.result.still_rejected["rejected_by_cassandra"] += len(refused)
        for place, group in kept.items():
            for ms, row in group.items():
                if record_of(row) in refused:
                    continue
                self.result.stored += 1
                if (place, ms) in missing:
                    self.result.new_rows_by_day[day_of(place[1])] += 1
                self.result.new_cells_by_day[day_of(place[1])] += new.get((place, ms), 0)

    def record(self, writing: int = 0, touched: Mapping[date, int] | None = None) -> None:
        """Say in replay_ledger what is done, and what is about to be written on which days."""
        result = self.result
        counts = Counts(
            stored=result.stored + writing,
            superseded=result.superseded + result.present,
            rejected=result.still_rejected.total(),
            ignored=result.ignored,
            aged_out=result.aged_out,
            stored_by_day={**(touched or {}), **result.new_rows_by_day},
            cells_by_day=dict(result.new_cells_by_day),
        )
        retry_transient(
            lambda: self._ledger.record_replay(
                self._topic,
                self._started_at,
                self._run_id,
                [],
                counts,
                DeclaredReplay("", self._config.rules.declaration.fingerprint),
            ),
            give_up_after_seconds=self._config.retry_seconds,
        )
