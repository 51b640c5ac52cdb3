"""A real Postgres for Dagster's storage: in a folder of its own, on loopback, gone at the end."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from iot_pipeline_tests.patience import until
from iot_pipeline_tests.servers import free_ports

_MISSING = "{} is missing; on Debian or Ubuntu: apt-get install postgresql"


@dataclass
class Postgres:
    """One server; `kill` is a power cut, `start` begins or goes on with what is on disk."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None
    _numbers: Iterator[int] = field(default_factory=count)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                # Loopback alone. fsync is for power cuts; a killed process loses nothing without.
                [
                    _program("postgres"),
                    *("-D", str(self.folder / "data"), "-p", str(self.port)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                    *("-c", "max_connections=300", "-c", "fsync=off"),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=_user(),
            )
        deadline = until(60)
        while subprocess.run(
            [_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        ).returncode:
            assert self.process.poll() is None, self.last_words()
            assert time.monotonic() < deadline, self.last_words()
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL the server and everything it started."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        # It says that it runs for as long as this is there, and the next one would not begin.
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def new_database(self) -> str:
        """The URL of an empty database that nobody else has."""
        name = f"dagster_{next(self._numbers)}"
        subprocess.run(
            [
                _program("createdb"),
                *("-h", "127.0.0.1", "-p", str(self.port), "-U", "dagster", name),
            ],
            check=True,
            capture_output=True,
        )
        return f"postgresql+psycopg2://dagster:shown_nowhere@127.0.0.1:{self.port}/{name}"

    def last_words(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """One that answers."""
    # Not below pytest's folder, which is open to this user alone.
    folder = Path(tempfile.mkdtemp(prefix="iot_postgres_"))
    user = _user()
    try:
        if user:
            shutil.chown(folder, user)
        made = subprocess.run(
            [
                _program("initdb"),
                *("-D", str(folder / "data"), "-U", "dagster", "--auth=trust"),
                *("--no-sync", "--locale=C", "-E", "UTF8"),
            ],
            capture_output=True,
            text=True,
            check=False,
            user=user,
        )
        assert made.returncode == 0, made.stderr
        (port,) = free_ports(1)
        postgres = Postgres(folder, port)
        try:
            postgres.start()
            yield postgres
        finally:
            if postgres.process is not None and postgres.process.poll() is None:
                postgres.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str:
    """Debian has the server's programs beside the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    places = os.pathsep.join([os.environ.get("PATH", ""), *map(str, reversed(folders))])
    found = shutil.which(name, path=places)
    assert found, _MISSING.format(name)
    return found


def _user() -> str | None:
    """Whom the server runs as; None: as this process. It refuses to be root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"
