"""What a dead letter looks like in its topic, read back: headers parsed, parts joined."""

import re
from collections import defaultdict
from dataclasses import dataclass

import msgspec

from iot_pipeline.core.reading.messages import Record

Header = tuple[str, bytes | None]

# Kafka Connect's names, so that tools made for its dead letters read ours.
SOURCE_TOPIC = "__connect.errors.topic"
SOURCE_PARTITION = "__connect.errors.partition"
SOURCE_OFFSET = "__connect.errors.offset"
EXCEPTION_MESSAGE = "__connect.errors.exception.message"
TIMESTAMP_MS = "iot.timestamp_ms"
TOPIC_ID = "iot.topic_id"
REASON = "iot.reason"
MESSAGE = "iot.message"
PART = "iot.part"
# In the place of a source's headers that could not be read.
HEADERS_LOST = "iot.headers_lost"
_REQUIRED = (SOURCE_TOPIC, SOURCE_PARTITION, SOURCE_OFFSET, REASON)
# Offsets of a block; 128 bytes.
_BLOCK = 1024
_PART = re.compile(r"([1-9]\d*)/([1-9]\d*)")
# Two bytes of UTF-8 that are cut in the middle end a message with this; no reader needs it.
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def dead_letter_topic_of(topic: str) -> str:
    """The topic of a topic's dead letters."""
    return f"{topic}.dlq"


@dataclass(frozen=True, slots=True, order=True)
class SourceCoordinates:
    """Where a dead letter's record was; `topic_id` tells incarnations of a topic apart."""

    topic: str
    topic_id: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter as it was found: the source's bytes, and what we said about them.

    `produced_ms` is the source record's Kafka timestamp (None in letters without it),
    `delivered_ms` the letter's own. `headers` are the source's alone. `dlq_offset` is that of the
    letter, or of its first part.
    """

    source: SourceCoordinates
    reason: str
    message: str
    message_key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    produced_ms: int | None
    delivered_ms: int
    dlq_partition: int
    dlq_offset: int


class LetterReader:
    """Turns records of a dead-letter topic into letters, in any order, each source once.

    Delivery is at-least-once: a letter that came again is dropped. `foreign` counts records
    that carry none of our headers; `incomplete` those letters of which some part was not seen.
    """

    def __init__(self) -> None:
        self.foreign = 0
        self._seen = _SeenSources()
        self._parts: defaultdict[SourceCoordinates, dict[int, Record]] = defaultdict(dict)

    @property
    def incomplete(self) -> int:
        return len(self._parts)

    def add(self, record: Record) -> StoredLetter | None:
        """The letter that this record completes; None for a part, a duplicate, a stranger."""
        # A source record may carry headers of our names (a letter that was sent to the
        # source again does); ours come after them.
        headers = {name: value or b"" for name, value in record.headers or ()}
        source = _source_of(headers)
        if source is None:
            self.foreign += 1
            return None
        if self._seen.has(source):
            return None
        number, count = _part_of(record)
        if count == 1:
            self._seen.add(source)
            return _letter(source, headers, record, record.value)
        parts = self._parts[source]
        parts[number] = record
        if len(parts) < count:
            return None
        del self._parts[source]
        self._seen.add(source)
        value = b"".join(parts[at].value or b"" for at in sorted(parts))
        return _letter(source, headers, parts[min(parts)], value)


class _SeenSources:
    """Which source records were met: a bit each, in blocks of offsets; letters come in floods."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[str, str, int, int], bytearray] = {}

    def has(self, source: SourceCoordinates) -> bool:
        block = self._blocks.get(_block_of(source))
        return block is not None and bool(block[source.offset % _BLOCK // 8] & _bit_of(source))

    def add(self, source: SourceCoordinates) -> None:
        block = self._blocks.setdefault(_block_of(source), bytearray(_BLOCK // 8))
        block[source.offset % _BLOCK // 8] |= _bit_of(source)


def _block_of(source: SourceCoordinates) -> tuple[str, str, int, int]:
    return source.topic, source.topic_id, source.partition, source.offset // _BLOCK


def _bit_of(source: SourceCoordinates) -> int:
    return 1 << source.offset % 8


def preview(value: bytes | None, length: int = 80) -> str:
    """The beginning of a value as text: what is not printable is escaped, a cut is shown."""
    if value is None:
        return "(no value)"
    text = value[: length * 4].decode("utf-8", errors="backslashreplace")
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return shown if len(shown) <= length and len(value) <= length * 4 else shown[:length] + "…"


def sender_of(letter: StoredLetter) -> str | None:
    """The device that sent it: its message key, else the device_id inside; None: neither is text.

    `letter.value` may have been cut, and is no document then.
    """
    if letter.message_key:
        try:
            return letter.message_key.decode()
        except UnicodeDecodeError:
            pass
    try:
        found = msgspec.json.decode(letter.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    device_id = found.get("device_id") if isinstance(found, dict) else None
    return device_id if isinstance(device_id, str) and device_id else None


def _source_of(headers: dict[str, bytes]) -> SourceCoordinates | None:
    if any(name not in headers for name in _REQUIRED):
        return None
    partition, offset = headers[SOURCE_PARTITION], headers[SOURCE_OFFSET]
    if not (partition.isdigit() and offset.isdigit()):
        return None
    return SourceCoordinates(
        _text(headers[SOURCE_TOPIC]),
        _text(headers.get(TOPIC_ID, b"")),
        int(partition),
        int(offset),
    )


def _part_of(record: Record) -> tuple[int, int]:
    # Ours is the last header of all; a source's own header of that name is not.
    name, value = (record.headers or [("", None)])[-1]
    match = _PART.fullmatch((value or b"").decode("ascii", "replace")) if name == PART else None
    return (int(match[1]), int(match[2])) if match else (1, 1)


def _letter(
    source: SourceCoordinates, headers: dict[str, bytes], record: Record, value: bytes | None
) -> StoredLetter:
    produced = headers.get(TIMESTAMP_MS, b"")
    return StoredLetter(
        source,
        _text(headers[REASON]),
        _text(headers.get(MESSAGE, b"")).rstrip(_REPLACEMENT),
        record.message_key,
        value,
        _source_headers(record),
        int(produced) if produced.isdigit() else None,
        record.produced_ms,
        record.partition,
        record.offset,
    )


def _source_headers(record: Record) -> tuple[Header, ...]:
    # Ours were appended in one piece: everything from the last source-topic header on.
    headers = list(record.headers or ())
    cut = max(at for at, (name, _) in enumerate(headers) if name == SOURCE_TOPIC)
    return tuple(headers[:cut])


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="replace")
