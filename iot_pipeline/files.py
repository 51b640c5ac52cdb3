"""Files that appear under their name when they are whole, and not at all else."""

import errno
import glob
import os
import shutil
import stat
import tempfile
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
    deleted, and so is what killed processes left of this file. Folders are made. A link is written
    through, and a file that is replaced keeps its mode and owner.

    Yields:
        A path in the same folder, with a leading dot, which readers of the folder skip.

    Raises:
        OSError: no room, no permission; or what has the name is no file, and is left alone.
    """
    path = path.resolve()
    before = _stat_of(path)
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
        _put(partial, path, before)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_private(path: Path, content: bytes) -> None:
    """A file that only its owner may read, from its first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def why_unwritable(folder: Path) -> str:
    """Why no file can be kept in a folder, in few words; empty when one can. The folder is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Tried: what the mode of a folder says is another answer to root, and to a read-only disk.
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as exc:
        return (exc.strerror or str(exc)).lower()


def is_stream(path: Path) -> bool:
    """Whether what has the name is a FIFO or a device: written to as it is, never replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _stat_of(path: Path) -> os.stat_result | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a FIFO, a device or a socket, not a file", str(path))
    return found


def _put(partial: Path, path: Path, before: os.stat_result | None) -> None:
    """Give the whole file its name; with the mode and owner of what had it before."""
    if before is not None:
        os.chmod(partial, stat.S_IMODE(before.st_mode))
        made = partial.stat()
        if (made.st_uid, made.st_gid) != (before.st_uid, before.st_gid):
            try:
                os.chown(partial, before.st_uid, before.st_gid)
            except PermissionError:
                # Another's file that we may write to: only its content is ours to change.
                shutil.copyfile(partial, path)
                partial.unlink()
                return
    partial.replace(path)


@dataclass(frozen=True, slots=True)
class Kept(Generic[_T]):
    """One value in a file, as JSON."""

    path: Path
    type: type[_T]

    def read(self) -> _T | None:
        """The value; None where there is none, none that may be read, or another version's."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=self.type)
        except (FileNotFoundError, NotADirectoryError, PermissionError, msgspec.DecodeError):
            return None

    def write(self, value: _T) -> None:
        with whole_file(self.path) as partial:
            partial.write_bytes(msgspec.json.encode(value))
