"""Files that appear under their name when they are whole, and not at all else."""

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import psutil

_T = TypeVar("_T")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write what is to be `path`; it gets that name when the block ends well.

    Its bytes are on disk before: a power cut leaves the old file or the new one. Else it is
    deleted, and so is what killed processes left of this file. Folders are made.

    Yields:
        A path in the same folder, with a leading dot, which readers of the folder skip.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        writer = left.name.split(".")[-2]
        if writer.isdecimal() and not psutil.pid_exists(int(writer)):
            left.unlink(missing_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True)
class Kept(Generic[_T]):
    """One value in a file, as JSON."""

    path: Path
    type: type[_T]

    def read(self) -> _T | None:
        """The value; None where there is none, or one that another version wrote."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=self.type)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write(self, value: _T) -> None:
        with whole_file(self.path) as partial:
            partial.write_bytes(msgspec.json.encode(value))
