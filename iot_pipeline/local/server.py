"""One server of this machine: started, waited for, looked at, ended."""

import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from iot_pipeline.errors import ServiceError
from iot_pipeline.files import Kept, write_private
from iot_pipeline.local import processes
from iot_pipeline.local.compose import Service
from iot_pipeline.local.java import Java
from iot_pipeline.local.launch import Launch, argument_file
from iot_pipeline.local.probes import PROBES

ASK_AGAIN_SECONDS = 0.1
SAY_AGAIN_SECONDS = 5.0
# A killed JVM's port may stay taken a moment longer than its process.
PORT_RELEASE_SECONDS = 2.0
FORMAT_TIMEOUT_SECONDS = 120
LAST_WORDS_LINES = 25
LAST_WORDS_BYTES = 16_384
LARGEST_LOG_BYTES = 20_000_000

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Server:
    """One service and the folder that holds its configuration, its log and who it is.

    `tls` is what to trust where it speaks TLS.
    """

    service: Service
    run_folder: Path
    tls: ssl.SSLContext | None = None

    @property
    def name(self) -> str:
        return self.service.name

    @property
    def log(self) -> Path:
        return self.run_folder / "server.log"

    def process(self) -> psutil.Process | None:
        """Our live process, also one that an earlier command started; None when there is none."""
        return processes.find(self.run_folder)

    def answers(self, host: str, port: int) -> bool:
        return PROBES[self.service.kind](host, port, self.tls)

    def recorded_address(self) -> tuple[str, int] | None:
        """Where the process that runs here was told to listen, when it was started."""
        return self._address.read()

    @property
    def _address(self) -> Kept[tuple[str, int]]:
        return Kept(self.run_folder / "address.json", tuple[str, int])

    def check_ports(self, launch: Launch) -> None:
        """Make sure that every port the server will take is free.

        Raises:
            ServiceError: names the process that holds one.
        """
        deadline = time.monotonic() + PORT_RELEASE_SECONDS
        for (host, port), purpose in launch.ports.items():
            while owner := processes.port_owner(port, host):
                if time.monotonic() > deadline:
                    raise ServiceError(
                        f"{self.name}: port {port} ({purpose}) is taken by {owner}, which does not "
                        f"answer as {self.service.kind}. Stop it, or choose another port "
                        "(`iot settings` lists the IOT_..._PORT variables)"
                    )
                time.sleep(ASK_AGAIN_SECONDS)

    def start(self, launch: Launch, java: Java, say: Say, cancelled: threading.Event) -> None:
        """Start the server and return when it answers in its own protocol.

        Raises:
            ServiceError: it died, or did not answer in the time that the compose file's health
                check gives it (it is then killed); carries the end of its log.
        """
        for folder in (self.run_folder, *launch.folders):
            folder.mkdir(parents=True, exist_ok=True)
        for path, text in launch.files.items():
            path.write_text(text, encoding="utf-8")
        self._rotate_log()
        self._format(launch, java)
        arguments = self.run_folder / "java.args"
        arguments.write_text(argument_file(launch.arguments), encoding="utf-8")
        self._address.write(launch.address)
        begin = self.log.stat().st_size if self.log.exists() else 0
        started_at = time.monotonic()
        command = [*launch.before, str(java.command), f"@{arguments}", *launch.main]
        process = processes.start(command, self.run_folder, self.log)
        self.wait(process, launch.address, say, cancelled, begin)
        say(
            f"{self.name} {self.service.version} answers at {launch.address[0]}:"
            f"{launch.address[1]} after {time.monotonic() - started_at:.1f} s (pid {process.pid})"
        )

    def wait(
        self,
        process: psutil.Process,
        address: tuple[str, int],
        say: Say,
        cancelled: threading.Event,
        log_from: int = 0,
    ) -> None:
        """Return when a starting server answers; see `start` for what happens when it does not."""
        started_at = said_at = time.monotonic()
        while not self.answers(*address):
            now = time.monotonic()
            if not processes.is_alive(process):
                how = processes.exit_status(process.pid) or "died"
                processes.forget(self.run_folder)
                raise ServiceError(f"{self.name} {how} at start. {self._log_end(log_from)}")
            if now - started_at > self.service.start_seconds:
                processes.kill(process)
                processes.forget(self.run_folder)
                raise ServiceError(
                    f"{self.name} did not answer at {address[0]}:{address[1]} within "
                    f"{self.service.start_seconds:.0f} s and was killed. {self._log_end(log_from)}"
                )
            if now - said_at > SAY_AGAIN_SECONDS:
                said_at = now
                say(f"{self.name} is starting, {now - started_at:.0f} s")
            if cancelled.wait(ASK_AGAIN_SECONDS):
                raise ServiceError(f"{self.name}: not waited for any longer; `iot down` stops it")

    def stop(self, say: Say) -> bool:
        """End our process as Docker would, SIGKILL after the grace; False when there was none."""
        process = self.process()
        if process is None:
            return False
        started_at = time.monotonic()
        by_itself = processes.end(process, self.service.stop_grace_seconds)
        processes.forget(self.run_folder)
        seconds = time.monotonic() - started_at
        if by_itself:
            say(f"{self.name} stopped after {seconds:.1f} s (pid {process.pid})")
        else:
            say(f"{self.name} did not stop within {seconds:.0f} s and was killed")
        return True

    def kill(self) -> int:
        """SIGKILL our process and return its pid.

        Raises:
            ServiceError: there is no process of ours.
        """
        process = self.process()
        if process is None:
            raise ServiceError(f"{self.name} does not run here, so there is nothing to kill")
        processes.kill(process)
        processes.forget(self.run_folder)
        return process.pid

    def last_lines(self, count: int, log_from: int = 0) -> list[str]:
        """The last lines of the log, at most 16 KB of them, none from before byte `log_from`."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(log_from, size - max(LAST_WORDS_BYTES, 200 * count)))
            text = file.read().decode(errors="replace")
        return text.splitlines()[-count:]

    def _log_end(self, log_from: int) -> str:
        lines = self.last_lines(LAST_WORDS_LINES, log_from)
        if not lines:
            return f"It wrote nothing to {self.log}"
        return f"The end of {self.log}:\n  " + "\n  ".join(lines)

    def _format(self, launch: Launch, java: Java) -> None:
        if launch.formatted_by is None or launch.formatted_by.exists():
            return
        arguments = self.run_folder / "format.args"
        # May hold what a first user logs in with: on no command line, and not for long.
        write_private(arguments, argument_file(launch.format_arguments).encode())
        try:
            result = subprocess.run(
                [java.command, f"@{arguments}"],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=FORMAT_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise ServiceError(f"{self.name}: formatting its storage took too long: {exc}") from exc
        finally:
            arguments.unlink()
        if result.returncode != 0:
            said = (result.stdout + result.stderr).strip()
            raise ServiceError(f"{self.name}: formatting its storage failed: {said[-3000:]}")

    def _rotate_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
