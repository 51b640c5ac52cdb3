"""Processes of ours and of others: started apart from the terminal, recognized, ended.

A server is recognized by a marker on its command line that names its folder. So a pid that
was given to another process since is never taken for ours, and a server whose `iot up` was
killed before it could write anything down is found all the same.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
import psutil

from iot_pipeline.errors import ServiceError
from iot_pipeline.files import Kept

# A recorded start time may differ by rounding, and by a step of the clock where it is computed.
CREATE_TIME_TOLERANCE_SECONDS = 2.0

# Children of this process, kept so that a dead one is reaped instead of staying a zombie.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that listens on a port; `pid` is 0 where the system does not tell."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})" if self.pid else "a process of another user"


def marker(run_folder: Path) -> str:
    """The argument that tells which folder's server a process is."""
    return f"-Diot.folder={run_folder}"


def start(command: Sequence[str], run_folder: Path, log: Path) -> psutil.Process:
    """Start a server, and note its pid and start time in `run_folder`/process.json.

    Its output is appended to `log`. `command` must carry `marker(run_folder)`.
    """
    with log.open("ab") as output:
        child = _start_apart(command, output, cwd=run_folder)
    _children[child.pid] = child
    process = psutil.Process(child.pid)
    record(_record_path(run_folder), process)
    return process


def _start_apart(
    command: Sequence[str],
    output: IO[bytes],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> "subprocess.Popen[bytes]":
    """In a session of its own, so that Ctrl-C in the terminal does not reach it."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env=env,
        start_new_session=True,
        preexec_fn=_reset_signals,
    )


class Child:
    """A process with its output in a log that is begun anew; stopped with all that it started.

    Beside the log, as .json, stands which process it is: see `recorded`.
    """

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("wb") as output:
            self.process = _start_apart(command, output, env=env)
        record(log.with_suffix(".json"), psutil.Process(self.process.pid))

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def last_lines(self, count: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def stop(self, grace_seconds: float = 30.0) -> bool:
        """Ask it to end, as Ctrl-C would, then what it started; False when one had to be killed.

        Dagster's runs are processes of their own that outlive the server that started them: they
        are asked in their turn, and say what they achieved.
        """
        itself = [psutil.Process(self.process.pid)] if self.is_alive else []
        family = {child for process in itself for child in process.children(recursive=True)}
        # Those of its session are found also when it was killed itself.
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(process.pid) == self.process.pid:
                    family.add(process)
        in_time = interrupt(itself, grace_seconds)
        return interrupt(family.difference(itself), grace_seconds / 2) and in_time


def interrupt(processes: Collection[psutil.Process], grace_seconds: float) -> bool:
    """Ask all of them to end, as Ctrl-C would; False when one was deaf and had to be killed."""
    alive = [process for process in processes if process.is_running()]
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT)
    _, deaf = psutil.wait_procs(alive, timeout=grace_seconds)
    for process in deaf:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return not deaf


def _reset_signals() -> None:
    """In a child before it starts: signals that end a process end it.

    What is ignored stays ignored in children. A shell's `&` leaves SIGINT ignored and Dagster maps
    SIGTERM to it: a server started from there would outlive its `down` by the whole grace.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def find(run_folder: Path) -> psutil.Process | None:
    """Our live server of this folder, or None; a zombie is not alive."""
    found = recorded(_record_path(run_folder))
    if found is not None:
        if _is_ours(found, run_folder):
            return found
        forget(run_folder)
    # Killed between starting a server and recording it: rare, and a scan costs milliseconds.
    for process in psutil.process_iter():
        if _is_ours(process, run_folder):
            record(_record_path(run_folder), process)
            return process
    return None


def forget(run_folder: Path) -> None:
    """Drop the record of a server that is gone."""
    _record_path(run_folder).unlink(missing_ok=True)


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs (a stopped process does; a zombie does not). Reaps our own children."""
    child = _children.get(process.pid)
    if child is not None and child.poll() is None:
        # Not asked further: a JVM on its way out looks like a zombie before it can be reaped.
        return True
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def exit_status(pid: int) -> str:
    """How a child of this process ended, in words; empty when it is not known."""
    child = _children.get(pid)
    code = child.poll() if child is not None else None
    if code is None:
        return ""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


def end(process: psutil.Process, grace_seconds: float) -> bool:
    """Stop a process: SIGTERM, and SIGKILL when it is still there after the grace.

    Returns:
        True when it ended by itself, False when it had to be killed.

    Raises:
        ServiceError: it survived SIGKILL for ten seconds (a process in uninterruptible I/O).
    """
    try:
        process.terminate()
        # One that was stopped would not notice; harmless for one that was not.
        process.send_signal(signal.SIGCONT)
    except psutil.NoSuchProcess:
        return True
    if _gone_within(process, grace_seconds):
        return True
    kill(process)
    return False


def kill(process: psutil.Process) -> None:
    """SIGKILL, and wait until it is gone."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
    if not _gone_within(process, 10):
        raise ServiceError(f"pid {process.pid} is still there 10 s after SIGKILL")


def port_owner(port: int, host: str = "127.0.0.1") -> Owner | None:
    """The process that listens on a TCP port of an address of this machine; None: it is free."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        # macOS tells ordinary users about their own processes only, and one at a time.
        return _owner_among_processes(port, host)
    for connection in connections:
        if _listens(connection, port, host):
            return _owner(connection.pid)
    return None


def _listens(connection: Any, port: int, host: str) -> bool:
    if connection.status != psutil.CONN_LISTEN or connection.laddr.port != port:
        return False
    # Java listens with IPv6 sockets, for IPv4 too.
    return connection.laddr.ip.removeprefix("::ffff:") in (host, "0.0.0.0", "::")


def _owner_among_processes(port: int, host: str) -> Owner | None:
    for process in psutil.process_iter():
        try:
            connections = process.net_connections("tcp")
        except psutil.Error:
            continue
        for connection in connections:
            if _listens(connection, port, host):
                return _owner(process.pid)
    with socket.socket() as probe:
        probe.settimeout(1)
        return Owner(0, "") if probe.connect_ex((host, port)) == 0 else None


def _owner(pid: int | None) -> Owner:
    if pid is None:
        return Owner(0, "")
    try:
        return Owner(pid, psutil.Process(pid).name())
    except psutil.Error:
        return Owner(pid, "unknown")


def _record_path(run_folder: Path) -> Path:
    return run_folder / "process.json"


def record(path: Path, process: psutil.Process) -> None:
    """Note which process it is: by its pid and its start, for pids are given out again."""
    Kept(path, _Recorded).write(_Recorded(process.pid, process.create_time()))


def recorded(path: Path) -> psutil.Process | None:
    """The process that was noted; None when there is no whole record, or it is gone."""
    known = Kept(path, _Recorded).read()
    return None if known is None else find_same(known.pid, known.create_time)


class _Recorded(msgspec.Struct):
    pid: int
    create_time: float


def find_same(pid: int, create_time: float) -> psutil.Process | None:
    """The process with this pid that started then (seconds since 1970); None when it is gone."""
    try:
        process = psutil.Process(pid)
        difference = abs(process.create_time() - create_time)
    except psutil.NoSuchProcess:
        return None
    return process if difference < CREATE_TIME_TOLERANCE_SECONDS else None


def _is_ours(process: psutil.Process, run_folder: Path) -> bool:
    try:
        return is_alive(process) and marker(run_folder) in process.cmdline()
    except psutil.Error:
        return False


def _gone_within(process: psutil.Process, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
