"""Asking for lag, the ledger and dead letters, over a log and a ledger of a few lines."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import pytest

from iot_pipeline.clients import dead_letters
from iot_pipeline.core.ledger.chain import Counts, LedgerEntry, Outcome
from iot_pipeline.core.proof import dead_letters as names
from iot_pipeline.core.proof.dead_letters import Header
from iot_pipeline.core.reading.chunks import RecordChunk, chunk_records
from iot_pipeline.core.reading.lag import Held, OpenTransaction
from iot_pipeline.core.reading.messages import DeadLetter, Reason, Record
from iot_pipeline.core.reading.offsets import Checkpoint, OffsetRange, TopicInfo, Watermarks
from iot_pipeline.errors import KafkaUnavailableError, PipelineError
from iot_pipeline.stages.ingest.lag import first_record_ms, read_lag
from iot_pipeline.stages.ledger.chain import read_chain
from iot_pipeline.stages.proof import dead_letters as stages_dead_letters
from iot_pipeline.stages.proof.dead_letters import find_letter, read_newest_letters
from iot_pipeline_tests.stages.world import World

NOW = datetime.fromtimestamp(100, UTC)


class ListSource:
    """Gives out records of a list, some at a time; `is_mute` gives nothing and never ends."""

    def __init__(self, records: list[Record], ranges: Sequence[OffsetRange], is_mute: bool) -> None:
        ends = {item.partition: item for item in ranges}
        self._left = [r for r in records if ends[r.partition].start <= r.offset]
        self._left = [r for r in self._left if r.offset < ends[r.partition].end]
        self._partitions, self._is_mute = frozenset(ends), is_mute
        self.is_closed = False
        self.has_left: list[int] = []

    def poll(self, timeout_seconds: float) -> list[Record]:
        if self._is_mute:
            return []
        given, self._left = self._left[:100], self._left[100:]
        return given

    def poll_chunks(self, timeout_seconds: float) -> list[RecordChunk]:
        return chunk_records(self.poll(timeout_seconds))

    @property
    def at_end(self) -> Mapping[int, int]:
        raise NotImplementedError

    @property
    def stopped(self) -> Mapping[int, PipelineError]:
        return {}

    def leave(self, partition: int) -> None:
        self.has_left.append(partition)
        self._left = [record for record in self._left if record.partition != partition]

    @property
    def finished(self) -> frozenset[int]:
        done = not self._is_mute and not self._left
        return self._partitions if done else frozenset()

    def close(self) -> None:
        self.is_closed = True


class ListLog:
    """A topic of listed records, each partition up to its end in `ends`."""

    def __init__(self, records: list[Record], ends: Mapping[int, int], low: int = 0) -> None:
        self.records, self.ends, self.low = records, ends, low
        self.is_mute = False
        self.opened: list[tuple[Sequence[OffsetRange], ListSource]] = []

    def describe(self, topic: str) -> TopicInfo:
        return TopicInfo(topic, "uuid", len(self.ends), {})

    def topic_id(self, topic: str) -> str:
        return "uuid"

    def watermarks(self, topic: str, **_: object) -> list[Watermarks]:
        return [Watermarks(p, self.low, end) for p, end in self.ends.items()]

    def in_dispute(self, topic: str, partitions: Iterable[int]) -> dict[int, PipelineError]:
        raise NotImplementedError

    def offsets_at(self, topic: str, moment: datetime) -> dict[int, int]:
        raise NotImplementedError

    def mirror(self, topic: str, next_offsets: Mapping[int, int]) -> None:
        raise NotImplementedError

    def open_ranges(self, topic: str, ranges: Sequence[OffsetRange]) -> ListSource:
        mine = {item.partition for item in ranges}
        records = [r for r in self.records if r.partition in mine]
        source = ListSource(records, ranges, self.is_mute)
        self.opened.append((ranges, source))
        return source

    def read_offsets(self, topic: str, offsets: Iterable[tuple[int, int]]) -> list[Record]:
        raise NotImplementedError

    def held_back(self, topic: str, last_stable: Mapping[int, int]) -> dict[int, Held]:
        return {}

    def open_transactions(self, topic: str, partitions: Sequence[int]) -> list[OpenTransaction]:
        raise NotImplementedError

    def find_skipped(self, topic: str, holes: Sequence[OffsetRange]) -> list[tuple[int, int]]:
        raise NotImplementedError


class MovingLedger:
    """One partition whose checkpoint moves, with an entry, at some of the reads."""

    def __init__(self, checkpoints: Mapping[int, int], moves: int = 0) -> None:
        self.checkpoints = dict(checkpoints)
        self.moves = moves

    def read_checkpoints(self, topic: str, partitions: Sequence[int]) -> dict[int, Checkpoint]:
        found = {p: Checkpoint(p, at, 0, "uuid") for p, at in self.checkpoints.items()}
        if self.moves:
            self.moves -= 1
            self.checkpoints[0] += 10
        return {p: found[p] for p in partitions if p in found}

    def read_entries(
        self, topic: str, partitions: Sequence[int], since: datetime | None = None
    ) -> list[LedgerEntry]:
        me = uuid.uuid4()
        return [
            LedgerEntry(topic, p, 0, 0, end, Outcome.INGESTED, "run", me, Counts(stored=end))
            for p, end in self.checkpoints.items()
            if p in partitions and end
        ]


def lag_of(
    log: ListLog, ledger: MovingLedger, **named: float
) -> dict[int, tuple[int, float | None]]:
    lags = read_lag(log, ledger, "t", NOW, **named)  # type: ignore[arg-type]
    return {lag.state.partition: (lag.state.lag, lag.lag_seconds) for lag in lags}


def records_at(partition: int, **seconds: float) -> list[Record]:
    return [
        Record(partition, int(offset[1:]), int(at * 1000), None, b"")
        for offset, at in seconds.items()
    ]


def test_lag_is_measured_at_the_checkpoint_or_at_the_first_record_after_a_hole() -> None:
    log = ListLog(
        [*records_at(0, o0=10, o1=20, o2=90), *records_at(1, o5=70, o6=80)], {0: 3, 1: 7, 2: 9}
    )
    assert lag_of(log, MovingLedger({0: 1, 1: 2, 2: 4})) == {
        0: (2, 80.0),
        1: (5, 30.0),
        2: (5, 0.0),  # nothing but holes
    }
    assert len(log.opened) == 1, "one source over all lagging partitions"
    assert log.opened[0][1].is_closed


def test_a_partition_is_left_as_soon_as_its_first_record_is_known() -> None:
    # Else the backlogs of a thousand partitions are read, and the time is over before the last one.
    records = [r for p in range(3) for r in records_at(p, **{f"o{n}": 10 + n for n in range(150)})]
    log = ListLog(records, dict.fromkeys(range(3), 150))
    assert lag_of(log, MovingLedger(dict.fromkeys(range(3), 0))) == dict.fromkeys(
        range(3), (150, 90.0)
    )
    assert log.opened[0][1].has_left == [0, 1, 2]


def test_no_record_is_read_when_nothing_lags() -> None:
    log = ListLog([], {0: 3})
    assert lag_of(log, MovingLedger({0: 3})) == {0: (0, 0.0)}
    assert log.opened == []


def test_a_checkpoint_below_the_low_watermark_is_measured_at_what_is_left() -> None:
    log = ListLog(records_at(0, o7=60), {0: 8}, low=5)
    assert lag_of(log, MovingLedger({0: 2})) == {0: (3, 40.0)}
    assert list(log.opened[0][0]) == [OffsetRange(0, 5, 8)]


def test_a_broker_that_gives_nothing_ends_the_question_in_time() -> None:
    log = ListLog([], {0: 3})
    log.is_mute = True
    (lag,) = read_lag(log, MovingLedger({0: 0}), "t", NOW, timeout_seconds=0.05)  # type: ignore[arg-type]
    assert (lag.state.lag, lag.lag_seconds) == (3, None)
    assert "reading the lag of t[0]: no record in 0.05 s" in lag.why_unknown
    assert log.opened[0][1].is_closed
    with pytest.raises(KafkaUnavailableError, match=r"no record in 0.05 s"):
        first_record_ms(log, "t", [OffsetRange(0, 0, 3)], 0.05)


@pytest.mark.parametrize("moves", [0, 1, 2, 3, 6, 100])
def test_a_run_that_commits_while_the_ledger_is_read_is_no_flaw(moves: int) -> None:
    ledger = MovingLedger({0: 50, 1: 5}, moves)
    chain = read_chain(ledger, "t", [0, 1])  # type: ignore[arg-type]
    assert chain.flaws == []
    assert [entry.partition for entry in chain.entries] == [0, 1], "each entry once"
    assert set(chain.checkpoints) == {0, 1}


def test_a_chain_that_ends_below_its_checkpoint_is_a_flaw() -> None:
    class Short(MovingLedger):
        def read_entries(
            self, topic: str, partitions: Sequence[int], since: datetime | None = None
        ) -> list[LedgerEntry]:
            self.checkpoints[0] -= 1
            entries = super().read_entries(topic, partitions, since)
            self.checkpoints[0] += 1
            return entries

    (flaw,) = read_chain(Short({0: 50}), "t", [0]).flaws  # type: ignore[arg-type]
    assert "the checkpoint is 50" in str(flaw)


def letters_topic(count: int, repeat_every: int = 0) -> ListLog:
    """Letters of source offsets 0, 1, ...; every third is of another reason; some come twice."""
    records: list[Record] = []
    for number in range(count):
        reason = Reason.NO_VALUE if number % 3 == 0 else Reason.NOT_JSON
        source = Record(0, number, 1, None, b"x" * 5000)
        for value, headers in dead_letters._messages("t", "u", DeadLetter(source, reason, "m")):
            for _ in range(2 if repeat_every and number % repeat_every == 0 else 1):
                records.append(Record(0, len(records), len(records), None, value, headers))
    return ListLog(records, {0: len(records)})


def test_the_newest_letters_are_found_without_reading_the_whole_topic() -> None:
    log = letters_topic(2000)
    found = read_newest_letters(log, "dlq", 10)
    assert [f.letter.source.offset for f in found.letters] == list(range(1999, 1989, -1))
    assert not found.is_all
    assert [list(ranges) for ranges, _ in log.opened] == [[OffsetRange(0, 1500, 2000)]]
    assert found.letters[0].value_bytes == 5000
    assert len(found.letters[0].letter.value or b"") == 1024, "a list keeps beginnings only"


@pytest.mark.parametrize("burst", [1, 2_000])
@pytest.mark.parametrize("wanted", [(0, 0), (2, 10_001), (0, 18_001), (1, 5)])
def test_the_letter_of_a_record_is_found_without_reading_the_whole_topic(
    burst: int, wanted: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three source partitions, in turn or in bursts; of every record but each seventh a letter."""
    monkeypatch.setattr(stages_dead_letters, "_READ_WHOLE", 1_000)
    monkeypatch.setattr(stages_dead_letters, "_CHUNK_OFFSETS", 50)
    records: list[Record] = []
    for number in range(20_000):
        place = number // burst % 3, number
        if number % 7 == 3 and place != wanted:
            continue
        headers: list[Header] = [
            (names.SOURCE_TOPIC, b"t"),
            (names.SOURCE_PARTITION, str(place[0]).encode()),
            (names.SOURCE_OFFSET, str(number).encode()),
            (names.REASON, b"not_json"),
        ]
        records.append(Record(0, len(records), 1, None, b"x", headers))
    log = ListLog(records, {0: len(records)})
    found = find_letter(log, "dlq", "t", wanted)
    places = [(item.source.partition, item.source.offset) for item in found]
    assert places == ([wanted] if wanted[1] // burst % 3 == wanted[0] else [])
    read = sum(item.span for ranges, _ in log.opened for item in ranges)
    assert read < len(records) / 2


def test_letters_of_one_reason_are_looked_for_further_back_and_duplicates_do_not_count() -> None:
    found = read_newest_letters(letters_topic(2000, repeat_every=2), "dlq", 300, "no_value")
    offsets = [f.letter.source.offset for f in found.letters]
    assert offsets == list(range(1998, 1998 - 900, -3))


def test_a_rare_reason_is_looked_for_in_few_steps_and_no_further_than_asked() -> None:
    log = letters_topic(20_000)
    found = read_newest_letters(log, "dlq", 10, "of_no_letter", most=3_000)
    assert (found.letters, found.is_all) == ([], False)
    # 500, 1,000 and 2,000: each look costs a consumer.
    assert [ranges[0].span for ranges, _ in log.opened] == [500, 1_000, 2_000]
    assert found.left == 20_000 - 3_500
    whole = read_newest_letters(letters_topic(20_000), "dlq", 10, "of_no_letter")
    assert (whole.is_all, whole.left) == (True, 0)


def test_a_look_holds_no_more_letters_than_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stages_dead_letters, "_SPARE_LETTERS", 5)
    found = read_newest_letters(letters_topic(2000), "dlq", 40)
    assert [f.letter.source.offset for f in found.letters] == list(range(1999, 1959, -1))


def test_a_short_topic_is_read_whole() -> None:
    found = read_newest_letters(letters_topic(3), "dlq", 10)
    assert (len(found.letters), found.is_all, found.foreign, found.incomplete) == (3, True, 0, 0)
    assert read_newest_letters(letters_topic(0), "dlq", 10).letters == []


def test_a_ledger_whose_checkpoint_is_gone_is_a_flaw() -> None:
    world = World()
    world.write()
    world.drain()
    world.ledger.checkpoints.clear()
    (flaw,) = read_chain(world.ledger, "iot_data", [0]).flaws
    assert str(flaw) == "partition 0 at 0: 1 entries of epoch 0, but no checkpoint"
