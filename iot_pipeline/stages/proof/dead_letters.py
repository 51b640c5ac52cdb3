"""Read dead letters back within bounded memory: the newest, or the one of a source record."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from random import Random

from iot_pipeline.core.proof.dead_letters import LetterReader, StoredLetter
from iot_pipeline.core.reading.offsets import OffsetRange, join_ranges
from iot_pipeline.stages.ports.log import RecordLogReader
from iot_pipeline.stages.reading.log import read_ranges

_CHUNK_OFFSETS = 500
# Each further look backwards takes twice as many, for it costs a consumer of its own.
_MOST_OFFSETS = 256_000
# Letters that are held beyond those that were asked for.
_SPARE_LETTERS = 1_000
# Letters of other Kafka partitions lie between: more are read at once after this many empty looks.
_MOST_LOOKED_AT = 32_000
_MOST_EMPTY = 8
# What is left is read, letter by letter: about a second.
_READ_WHOLE = 20_000
_SILENCE_SECONDS = 15.0
# Enough for a preview; a list of the largest letters would otherwise hold all of them whole.
_KEPT_VALUE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class FoundLetter:
    """A letter with its value's beginning; `value_bytes` is the whole length, None for no value."""

    letter: StoredLetter
    value_bytes: int | None


@dataclass(frozen=True, slots=True)
class FoundLetters:
    """What a look into the topic found, newest first.

    `foreign` records are not ours; of `incomplete` letters some part is missing or was not read;
    `is_all` says that the whole topic was read, but for `unreadable` offsets, which Kafka cannot
    give out; `left` are those that were not looked at.
    """

    letters: list[FoundLetter]
    foreign: int
    incomplete: int
    is_all: bool
    unreadable: int = 0
    left: int = 0


def read_newest_letters(
    log: RecordLogReader,
    dead_letter_topic: str,
    last: int,
    reason: str | None = None,
    most: int | None = None,
) -> FoundLetters:
    """The newest `last` letters (of one reason), each source record once.

    Reads backwards from the end, and no further than it must; letters of a rare reason may
    need the whole topic, so after about `most` offsets it ends.

    Raises:
        KafkaUnavailableError: Kafka gave nothing for a while.
        SchemaMismatchError: no such topic.
    """
    reader = LetterReader()
    found: list[FoundLetter] = []
    unreadable: list[OffsetRange] = []
    ends = {m.partition: (m.low, m.last_stable) for m in log.watermarks(dead_letter_topic)}
    chunk, looked_at = _CHUNK_OFFSETS, 0
    while True:
        # The first parts of a letter may lie before the chunk that its last one is in.
        enough = len(found) >= last and not reader.incomplete
        enough = enough or (most is not None and looked_at >= most)
        ranges = [
            OffsetRange(partition, max(low, end - chunk), end)
            for partition, (low, end) in ends.items()
            if end > low
        ]
        if enough or not ranges:
            break
        read = read_ranges(log, dead_letter_topic, ranges, _SILENCE_SECONDS, unreadable.append)
        for record in chain.from_iterable(read):
            letter = reader.add(record)
            if letter is not None and reason in (None, letter.reason):
                found.append(_shorten(letter))
            if len(found) >= 2 * last + _SPARE_LETTERS:
                found = sorted(found, key=_newest_first)[:last]
        ends |= {item.partition: (ends[item.partition][0], item.start) for item in ranges}
        found = sorted(found, key=_newest_first)[:last]
        looked_at += sum(item.span for item in ranges)
        chunk = min(_MOST_OFFSETS, 2 * chunk)
    # A bad batch that chunks end in is met from each of them.
    spans = sum(item.span for item in join_ranges(unreadable))
    left = sum(end - low for low, end in ends.values())
    return FoundLetters(found, reader.foreign, reader.incomplete, not ranges, spans, left)


def find_letter(
    log: RecordLogReader, dead_letter_topic: str, topic: str, place: tuple[int, int]
) -> list[StoredLetter]:
    """The letter of a source record (partition, offset), of each incarnation of the topic found.

    In each partition the letters of one source partition lie in the order of their offsets, but for
    those that were delivered again; so halves are ruled out, however many letters there are. One
    that lies out of order may be missed: only the whole topic tells that there is none.

    Raises:
        KafkaUnavailableError: Kafka gave nothing for a while.
        SchemaMismatchError: no such topic.
    """
    searches = [
        _Search(marks.partition, marks.low, marks.last_stable, place[1])
        for marks in log.watermarks(dead_letter_topic)
        if marks.last_stable > marks.low
    ]
    first = {search.partition: search.low for search in searches}

    def is_of_place(letter: StoredLetter) -> bool:
        return letter.source.topic == topic and letter.source.partition == place[0]

    while probes := {s.partition: s.next_probe() for s in searches if s.is_wide}:
        met: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for letter in _read_letters(log, dead_letter_topic, list(probes.values())):
            if is_of_place(letter):
                met[letter.dlq_partition].append((letter.dlq_offset, letter.source.offset))
        for search in searches:
            if search.partition in probes:
                search.narrow(probes[search.partition], met[search.partition])
    # A letter in parts may begin before the place that was found.
    left = [
        OffsetRange(s.partition, max(first[s.partition], s.low - _CHUNK_OFFSETS), s.end)
        for s in searches
        if s.end > first[s.partition]
    ]
    found = _read_letters(log, dead_letter_topic, left) if left else ()
    return [item for item in found if is_of_place(item) and item.source.offset == place[1]]


@dataclass(slots=True)
class _Search:
    """Where in one partition a source offset's letter can still be: in [low, end).

    Guesses by the source offsets at both ends, as one looks for a name in a list; every third time
    the middle, where the guesses are bad.
    """

    partition: int
    low: int
    end: int
    wanted: int
    low_source: int | None = None
    end_source: int | None = None
    look: int = _CHUNK_OFFSETS
    _probes: int = 0
    # Looks in a row that met none: letters come in bursts of one source partition.
    _empty: int = 0
    _random: Random = field(default_factory=lambda: Random(0))

    @property
    def is_wide(self) -> bool:
        # Where many looks were in vain, reading more is quicker than looking on.
        return self.end - self.low > _READ_WHOLE * (self.look // _CHUNK_OFFSETS)

    def next_probe(self) -> OffsetRange:
        """What to read next."""
        self._probes += 1
        known = self.end_source is not None and self._probes % 3
        if known:
            low_source, end_source = self.low_source or 0, self.end_source or 0
            share = (self.wanted - low_source) / max(1, end_source - low_source)
            at = self.low + int((self.end - self.low) * share) - self.look // 2
        else:
            at = (self.low + self.end) // 2
        if self._empty:
            # Beside it, on both sides in turn, further each time; in the end anywhere.
            at += (-1) ** self._empty * self.look * 8 ** (self._empty // 2)
            if not self.low <= at <= self.end - self.look:
                at = self._random.randint(self.low, max(self.low, self.end - self.look))
        at = max(self.low, min(at, self.end - self.look))
        return OffsetRange(self.partition, at, min(self.end, at + self.look))

    def narrow(self, probe: OffsetRange, met: Sequence[tuple[int, int]]) -> None:
        """Rule out what the letters met in `probe` do: (own offset, offset of the source)."""
        if not met:
            self._empty += 1
            if probe.start == self.low:
                self.low = probe.end
            elif probe.end == self.end:
                self.end = probe.start
            if self._empty == _MOST_EMPTY:
                self._empty, self.look = 0, min(_MOST_LOOKED_AT, 4 * self.look)
            return
        self.look, self._empty = _CHUNK_OFFSETS, 0
        (first, first_source), (last, last_source) = min(met), max(met)
        if self.wanted < first_source:
            self.end, self.end_source = first, first_source
        elif self.wanted > last_source:
            self.low, self.low_source = last + 1, last_source
        else:
            self.low, self.end = first, last + 1


def _read_letters(
    log: RecordLogReader, dead_letter_topic: str, ranges: Sequence[OffsetRange]
) -> Iterator[StoredLetter]:
    reader = LetterReader()
    for record in chain.from_iterable(
        read_ranges(log, dead_letter_topic, ranges, _SILENCE_SECONDS)
    ):
        letter = reader.add(record)
        if letter is not None:
            yield letter


def _newest_first(found: FoundLetter) -> tuple[int, int, int]:
    letter = found.letter
    return -letter.delivered_ms, letter.dlq_partition, -letter.dlq_offset


def _shorten(letter: StoredLetter) -> FoundLetter:
    if letter.value is None:
        return FoundLetter(letter, None)
    kept = replace(letter, value=letter.value[:_KEPT_VALUE_BYTES])
    return FoundLetter(kept, len(letter.value))
