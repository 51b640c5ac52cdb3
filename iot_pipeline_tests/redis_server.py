"""A real Redis for Celery: in a folder of its own, on loopback, gone at the end."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from iot_pipeline_tests.patience import until
from iot_pipeline_tests.servers import free_ports

_MISSING = "redis-server is missing; on Debian or Ubuntu: apt-get install redis-server"


@dataclass
class Redis:
    """One server; `kill` is SIGKILL, `start` begins or goes on with what is on disk."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"redis://:shown_nowhere@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program, _MISSING
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                # As docs/deploy.md asks for it: what it was given is there when it comes back.
                [
                    program,
                    *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
                    *("--requirepass", "shown_nowhere", "--appendonly", "yes", "--save", ""),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = until(30)
        while not self._answers():
            assert self.process.poll() is None, self.last_words()
            assert time.monotonic() < deadline, self.last_words()
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def last_words(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]


@contextmanager
def running_redis(folder: Path) -> Iterator[Redis]:
    """One that answers."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    server = Redis(folder, port)
    try:
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()
