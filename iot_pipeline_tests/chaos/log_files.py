"""Kafka's log on disk, while Kafka is down: cut back, as an unclean election or an old disk does.

Segment files are record batches one after the other; a log that ends at a batch is whole again.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

# base offset, length of what follows; then leader epoch, magic, checksum, attributes, last delta.
_HEADER = struct.Struct(">qiibIhi")
_BEFORE_LENGTH = 12
_TRANSACTIONAL, _CONTROL = 0x10, 0x20


@dataclass(frozen=True)
class BatchOnDisk:
    """A record batch: offsets [start, end), and where in its file it begins."""

    position: int
    start: int
    end: int
    is_plain: bool


@dataclass(frozen=True)
class Segment:
    """The newest file of a Kafka partition's log."""

    path: Path

    @classmethod
    def newest(cls, folder: Path, topic: str, partition: int) -> "Segment":
        """Of a server whose state is somewhere in `folder`."""
        return cls(max(folder.rglob(f"{topic}-{partition}/*.log"), key=lambda path: path.name))

    def batches(self) -> list[BatchOnDisk]:
        content = self.path.read_bytes()
        found: list[BatchOnDisk] = []
        position = 0
        while position + _HEADER.size <= len(content):
            start, length, _, _, _, attributes, last = _HEADER.unpack_from(content, position)
            if length <= 0:
                break  # preallocated, and not written yet
            is_plain = not attributes & (_TRANSACTIONAL | _CONTROL)
            found.append(BatchOnDisk(position, start, start + last + 1, is_plain))
            position += _BEFORE_LENGTH + length
        return found

    def cut_back(self, offsets: int, low: int) -> int | None:
        """Take about so many offsets away from its end; the first that is gone, None: nothing is.

        Batches of transactions stay: without its marker one would be open for ever. So does what
        lies before `low`, where the log begins.
        """
        gone: BatchOnDisk | None = None
        for batch in reversed(self.batches()):
            if not batch.is_plain or batch.start < low or offsets <= 0:
                break
            gone, offsets = batch, offsets - (batch.end - batch.start)
        if gone is None:
            return None
        with self.path.open("r+b") as file:
            file.truncate(gone.position)
        # Kafka makes them anew where they are missing.
        for suffix in (".index", ".timeindex", ".txnindex"):
            self.path.with_suffix(suffix).unlink(missing_ok=True)
        return gone.start
