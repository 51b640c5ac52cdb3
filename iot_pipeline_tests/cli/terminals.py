"""`iot` on pseudo-terminals and in pipes, many at once: what a person or a script would see.

`run_all` starts one process that imports every command once and forks per invocation: a hundred
invocations cost a hundred forks instead of a hundred times a second of imports.
"""

import fcntl
import gc
import io
import json
import os
import pty
import pwd
import re
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import click
from rich.cells import cell_len

from iot_pipeline.cli.main import COMMANDS, iot, main
from iot_pipeline.settings import Settings
from iot_pipeline_tests.servers import clean_environment

ROOT = Path(__file__).resolve().parents[2]
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[()][A-Z0-9])")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_SECONDS = 90.0

_FOR_PROGRAMS = {"--json", "metrics"}


@dataclass(frozen=True)
class Terminal:
    """What an invocation writes to; `columns` None is a pipe for stdout and one for stderr."""

    name: str
    columns: int | None
    term: str = "xterm-256color"
    no_color: str = ""
    trouble: str = ""


# What surrounds a command and is wrong, by the name that `trouble` has.
TROUBLES: dict[str, Callable[[], None]] = {
    "an encoding without umlauts": lambda: _encode_as("ascii"),
    "a full disk": lambda: _write_into("/dev/full"),
    "no output at all": lambda: setattr(sys, "stdout", None),
    "a reader that has gone": lambda: _write_into(_closed_pipe()),
    "a user without a name": lambda: _be_nobody(),
    "a .env in UTF-16": lambda: _write_env("IOT_TOPIC=x".encode("utf-16")),
    "a .env that is a folder": lambda: Path(_new_root(), ".env").mkdir(),
    "a data folder that is a file": lambda: _use_data_dir("/dev/null"),
}


TERMINALS = (
    Terminal("80 columns", 80),
    Terminal("160 columns without colour", 160, no_color="1"),
    Terminal("dumb", 80, term="dumb"),
    Terminal("pipe", None),
)


@dataclass(frozen=True)
class Seen:
    """What one invocation printed, as it came, and how it ended; None: it did not end."""

    arguments: tuple[str, ...]
    terminal: Terminal
    text: str
    code: int | None

    @property
    def plain(self) -> str:
        """Without what moves the cursor or colours."""
        return _ESCAPES.sub("", self.text)

    @property
    def lines(self) -> list[str]:
        return re.split(r"\r\n|\n|\r", self.plain)

    def complaints(self) -> list[str]:
        """What is wrong with it on any terminal, whatever the command; empty when nothing is."""
        found = []
        if "Traceback" in self.text:
            found.append("a traceback")
        if "…" in self.plain:
            found.append("something is cut off")
        if self.terminal.columns is not None:
            # A word that is wider than the terminal stays whole: the terminal folds it itself.
            # JSON is one line, and metrics one each: another program reads them.
            found += [
                f"wider than the terminal: {line!r}"
                for line in self.lines
                if cell_len(line) > self.terminal.columns
                and len(line.split()) > 1
                and not _FOR_PROGRAMS.intersection(self.arguments)
            ]
        if (self.terminal.term == "dumb" or self.terminal.columns is None) and "\x1b" in self.text:
            found.append("escape sequences that nothing there understands")
        if self.terminal.no_color and _COLOUR.search(self.text.replace("\x1b[1m", "")):
            found.append("colours")
        return found

    def __str__(self) -> str:
        where = self.terminal.name
        return f"$ iot {' '.join(self.arguments)}   # {where}, exit code {self.code}\n{self.plain}"


def all_commands() -> dict[str, click.Command]:
    """Every command by what a person types for it, such as `dead-letters show`."""
    found: dict[str, click.Command] = {}
    for name in COMMANDS:
        command = iot.get_command(click.Context(iot), name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}": each for inner, each in command.commands.items()}
        else:
            found[name] = command
    return found


def run_all(
    invocations: Iterable[tuple[Sequence[str], Terminal]],
    env: Mapping[str, str],
    at_once: int,
) -> list[Seen]:
    """Run these, several at once, each as a process of its own; what they printed, in order."""
    asked = [(tuple(arguments), terminal) for arguments, terminal in invocations]
    document = {
        "env": clean_environment(env),
        "at_once": at_once,
        "invocations": [(arguments, asdict(terminal)) for arguments, terminal in asked],
    }
    done = subprocess.run(
        [sys.executable, "-m", "iot_pipeline_tests.cli.terminals"],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    return [Seen(*one, **answer) for one, answer in zip(asked, answers, strict=True)]


# What follows runs in the process that forks.


@dataclass
class _Child:
    number: int
    pid: int
    output: int
    give_up_at: float
    text: bytes = b""


def _serve() -> None:
    document = json.load(sys.stdin)
    all_commands()
    Settings.from_env({})  # the class of the settings, made once
    # What there is now is no child's garbage: a child that looks at it copies its memory.
    gc.freeze()
    waiting = list(enumerate(document["invocations"]))[::-1]
    answers: list[dict[str, object]] = [{} for _ in waiting]
    running: dict[int, _Child] = {}
    with selectors.DefaultSelector() as selector:
        while waiting or running:
            while waiting and len(running) < document["at_once"]:
                number, (arguments, terminal) = waiting.pop()
                child = _fork(number, arguments, Terminal(**terminal), document["env"])
                running[child.output] = child
                selector.register(child.output, selectors.EVENT_READ)
            for key, _ in selector.select(0.5):
                if not _read(running[key.fd]):
                    selector.unregister(key.fd)
                    _end(running.pop(key.fd), answers)
            for child in list(running.values()):
                if time.monotonic() > child.give_up_at:
                    os.kill(child.pid, 9)
                    child.give_up_at += _SECONDS
    json.dump(answers, sys.stdout)


def _fork(number: int, arguments: list[str], terminal: Terminal, env: dict[str, str]) -> _Child:
    if terminal.columns is None:
        output, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(into, 1)
            os.dup2(into, 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            _become(arguments, terminal, env)
        os.close(into)
    else:
        pid, output = pty.fork()
        if pid == 0:
            size = struct.pack("HHHH", 40, terminal.columns, 0, 0)
            fcntl.ioctl(1, termios.TIOCSWINSZ, size)
            _become(arguments, terminal, env)
    return _Child(number, pid, output, time.monotonic() + _SECONDS)


def _become(arguments: list[str], terminal: Terminal, env: dict[str, str]) -> None:
    """Be `iot` with these arguments; never returns."""
    code = 70
    try:
        os.environ.clear()
        os.environ |= env | {"TERM": terminal.term}
        os.environ |= {"NO_COLOR": terminal.no_color} if terminal.no_color else {}
        for name in ("COLUMNS", "LINES", "FORCE_COLOR"):
            os.environ.pop(name, None)
        sys.argv = ["iot", *arguments]
        if terminal.trouble:
            TROUBLES[terminal.trouble]()
        main()
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1 if exc.code else 0
    except BaseException:  # noqa: BLE001  # what Python itself would print, seen by the test
        traceback.print_exc()
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _encode_as(encoding: str) -> None:
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(encoding=encoding, errors="strict")


def _write_into(where: str | int) -> None:
    os.dup2(os.open(where, os.O_WRONLY) if isinstance(where, str) else where, 1)


def _closed_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it, whatever forked us
    return writer


def _be_nobody() -> None:
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME"):
        os.environ.pop(name, None)

    def unknown(_: int) -> NoReturn:
        raise KeyError("getpwuid(): uid not found")  # what the system says of such a user

    pwd.getpwuid = unknown


def _new_root() -> str:
    """A folder that `iot` takes for a project's root, and that we are in."""
    folder = Path(tempfile.mkdtemp())
    (folder / "docker-compose.yml").touch()
    (folder / "services").mkdir()
    os.chdir(folder)
    return str(folder)


def _write_env(content: bytes) -> None:
    Path(_new_root(), ".env").write_bytes(content)


def _use_data_dir(path: str) -> None:
    os.environ["IOT_DATA_DIR"] = path


def _read(child: _Child) -> bool:
    try:
        read = os.read(child.output, 65_536)
    except OSError:  # how a pseudo-terminal says that its last process is gone
        read = b""
    child.text += read
    return bool(read)


def _end(child: _Child, answers: list[dict[str, object]]) -> None:
    os.close(child.output)
    _, status = os.waitpid(child.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    text = child.text.decode(errors="replace")
    answers[child.number] = {"text": text, "code": None if code < 0 else code}


if __name__ == "__main__":
    _serve()
