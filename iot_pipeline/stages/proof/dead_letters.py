"""Read the newest dead letters back, from the end of their topic, within bounded memory."""

from dataclasses import dataclass, replace
from itertools import chain

from iot_pipeline.core.proof.dead_letters import LetterReader, StoredLetter
from iot_pipeline.core.reading.offsets import OffsetRange, join_ranges
from iot_pipeline.stages.ports import RecordLogReader
from iot_pipeline.stages.reading.log import read_ranges

_CHUNK_OFFSETS = 500
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
    give out.
    """

    letters: list[FoundLetter]
    foreign: int
    incomplete: int
    is_all: bool
    unreadable: int = 0


def read_newest_letters(
    log: RecordLogReader, dead_letter_topic: str, last: int, reason: str | None = None
) -> FoundLetters:
    """The newest `last` letters (of one reason), each source record once.

    Reads backwards from the end, and no further than it must; letters of a rare reason may
    need the whole topic.

    Raises:
        KafkaUnavailableError: Kafka gave nothing for a while.
        SchemaMismatchError: no such topic.
    """
    reader = LetterReader()
    found: list[FoundLetter] = []
    unreadable: list[OffsetRange] = []
    ends = {m.partition: (m.low, m.last_stable) for m in log.watermarks(dead_letter_topic)}
    while True:
        # The first parts of a letter may lie before the chunk that its last one is in.
        enough = len(found) >= last and not reader.incomplete
        ranges = [
            OffsetRange(partition, max(low, end - _CHUNK_OFFSETS), end)
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
        ends |= {item.partition: (ends[item.partition][0], item.start) for item in ranges}
        found = sorted(found, key=_newest_first)[:last]
    # A bad batch that chunks end in is met from each of them.
    spans = sum(item.span for item in join_ranges(unreadable))
    return FoundLetters(found, reader.foreign, reader.incomplete, not ranges, spans)


def _newest_first(found: FoundLetter) -> tuple[int, int, int]:
    letter = found.letter
    return -letter.delivered_ms, letter.dlq_partition, -letter.dlq_offset


def _shorten(letter: StoredLetter) -> FoundLetter:
    if letter.value is None:
        return FoundLetter(letter, None)
    kept = replace(letter, value=letter.value[:_KEPT_VALUE_BYTES])
    return FoundLetter(kept, len(letter.value))
