"""Drains of a world, one after the other in workers of their own, to be killed and held."""

import contextlib
import itertools
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from iot_pipeline_tests.chaos.world import DRAIN_SECONDS, EXPECTED_CODES, World

_AFTER_A_CRASH = {1}  # `crashing_drain` has no exit codes of its own: a traceback is 1


@dataclass
class Drains:
    """Drains that are started again for ever, one per worker; `kill` ends one of them.

    Args:
        world: whose.
        choose: the command of the next drain, by its number.
    """

    world: World
    choose: Any
    kills: int = 0
    ended: dict[int, int] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[int, subprocess.Popen[str]] = {}
        self._workers: dict[int, tuple[threading.Thread, threading.Event]] = {}
        self._numbers = itertools.count()
        self._holds = 0

    def add(self) -> int:
        """One more at a time; returns the worker's number."""
        worker = next(self._numbers)
        stop = threading.Event()
        thread = threading.Thread(target=self._work, args=(worker, stop), daemon=True)
        self._workers[worker] = (thread, stop)
        thread.start()
        return worker

    def remove(self, worker: int) -> None:
        """Let this worker's drain end, and start no other in its place."""
        thread, stop = self._workers.pop(worker)
        stop.set()
        thread.join(DRAIN_SECONDS)
        assert not thread.is_alive(), "a drain hangs"

    def stop(self) -> None:
        for worker in list(self._workers):
            self._workers[worker][1].set()
        for worker in list(self._workers):
            self.remove(worker)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """No drain is alive meanwhile; those that were are killed."""
        with self._lock:
            self._holds += 1
        try:
            while pids := self.pids():
                for worker in pids:
                    self.kill(worker)
                time.sleep(0.05)
            yield
        finally:
            with self._lock:
                self._holds -= 1

    def kill_now(self) -> None:
        """SIGKILL whatever runs, at once; for cleaning up."""
        for _, stop in self._workers.values():
            stop.set()
        with self._lock:
            for process in self._live.values():
                process.send_signal(signal.SIGCONT)
                process.kill()

    def pids(self) -> dict[int, int]:
        """worker -> pid of its live drain."""
        with self._lock:
            return {worker: p.pid for worker, p in self._live.items() if p.poll() is None}

    def kill(self, worker: int) -> bool:
        """SIGKILL; False when nothing ran."""
        with self._lock:
            process = self._live.get(worker)
            if process is None or process.poll() is not None:
                return False
            process.kill()
            self.kills += 1
            return True

    def _work(self, worker: int, stop: threading.Event) -> None:
        while not stop.is_set():
            with self._lock:
                is_held = self._holds > 0
                if not is_held:
                    command = self.choose()
                    process = self._live[worker] = self.world.start(command)
            if is_held:
                time.sleep(0.05)
                continue
            output, _ = process.communicate()
            with self._lock:
                del self._live[worker]
                self._note(command, process.returncode, output)

    def _note(self, command: list[str], code: int, output: str) -> None:
        self.ended[code] = self.ended.get(code, 0) + 1
        is_crashing = any("crashing_drain" in part for part in command)
        if is_crashing and code == -signal.SIGKILL:
            # Those that we killed were counted when we did; nobody knows which came first.
            self.kills += 1
        allowed = EXPECTED_CODES | (_AFTER_A_CRASH if is_crashing else set())
        if code not in allowed or (code == 1 and "TransientError" not in _errors_of(output)):
            self.unexpected.append(f"{command[-4:]} ended with {code}: {output[-1500:]}")


def _errors_of(output: str) -> str:
    # The errors that a person would try again, by the last line of a traceback.
    last = output.strip().splitlines()[-1] if output.strip() else ""
    # `crashing_drain` has no policy for losses: the next drain records them.
    expected = ("UnavailableError", "TransientError", "OverloadedError", "OffsetsExpiredError")
    return "TransientError" if any(name in last.split(":")[0] for name in expected) else last
