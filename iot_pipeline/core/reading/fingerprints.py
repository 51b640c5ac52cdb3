"""Whether a log is still the one that was read: its last record, as it was, and holes after it."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from iot_pipeline.core.reading.messages import Record
from iot_pipeline.core.times import in_utc, moment_of

_DIGEST_BYTES = 8


class Fingerprint(NamedTuple):
    """The last record below a checkpoint: where it was, when it arrived, hash of key and value."""

    offset: int
    produced_ms: int
    digest: int


def fingerprint_of(
    offset: int, produced_ms: int, message_key: bytes | None, value: bytes | None
) -> Fingerprint:
    """The same record has the same one, wherever and whenever it is read."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in (message_key, value):
        # With its length, and nothing told from empty: two records never run into each other.
        digest.update(b"-" if part is None else b"%d:%b" % (len(part), part))
    return Fingerprint(offset, produced_ms, int.from_bytes(digest.digest(), "big", signed=True))


def find_difference(known: Fingerprint, found: Sequence[Record]) -> str | None:
    """What shows that a log is not the one that was read, in words; None: nothing does.

    A record that is absent shows nothing: Kafka deletes and compacts.

    Args:
        known: of the last record below the checkpoint.
        found: what Kafka has from that record up to the checkpoint, in order.
    """
    for record in found:
        if record.offset != known.offset:
            return (
                f"a record that arrived at {_at(record.produced_ms)} is at offset "
                f"{record.offset}, where there was none"
            )
        now = fingerprint_of(record.offset, record.produced_ms, record.message_key, record.value)
        if now != known:
            return (
                f"the record at offset {known.offset} arrived at {_at(record.produced_ms)}; the "
                f"one that was read there arrived at {_at(known.produced_ms)}"
                + (" and had another content" if now.digest != known.digest else "")
            )
    return None


def _at(ms: int) -> str:
    return in_utc(moment_of(ms), "milliseconds")
