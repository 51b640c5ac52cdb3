"""Local services: up, down, what runs, what it says, and kill -9 for the curious."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from iot_pipeline.cli.output import ask_whether, json_option, print_json, print_table, say
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.local.jars import Advance
from iot_pipeline.local.needs import Display, LineDisplay
from iot_pipeline.local.servers import LocalServices, ServerStatus
from iot_pipeline.settings import Settings

SERVICE = click.Choice(["kafka", "cassandra"])
FOLLOW_SECONDS = 0.2


class _TerminalDisplay(LineDisplay):
    """The same lines, and a bar while jars arrive."""

    @contextmanager
    def downloading(self, total_bytes: int) -> Iterator[Advance]:
        done, lock = 0, threading.Lock()
        with ProgressLine("fetching jars, MB") as line:

            def advance(size: int) -> None:
                nonlocal done
                with lock:  # several jars arrive at once
                    done += size
                    line.show(round(done / 1e6), round(total_bytes / 1e6))

            yield advance


def _display() -> Display:
    display = _TerminalDisplay if sys.stderr.isatty() else LineDisplay
    return display(lambda text: say(text, err=True))


def local_services() -> LocalServices:
    return LocalServices(Settings.from_env(), _display())


@click.command("up")
@click.option("--only", type=SERVICE, multiple=True, help="This service alone.")
def up_command(only: tuple[str, ...]) -> None:
    """Make Kafka and Cassandra answer: use what does, start what does not."""
    statuses = local_services().up(only)
    say(", ".join(f"{s.name} {s.addresses[0]} {s.state}" for s in statuses))


@click.command("down")
@click.option("--wipe", is_flag=True, help="Also delete the servers' data and logs.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting.")
def down_command(wipe: bool, yes: bool) -> None:
    """Stop what `iot up` started, and nothing else. Data stays, unless --wipe."""
    services = local_services()
    if not wipe:
        services.down()
        return
    if not yes:
        ask_whether(f"Delete every topic, every row and all logs in {services.folder}?")
    services.wipe()
    say(f"{services.folder} is empty", err=True)


@click.command("status")
@json_option
def status_command(as_json: bool) -> None:
    """Show addresses, processes and health of both servers; exit code 1 unless both answer."""
    statuses = local_services().status()
    if as_json:
        print_json([_as_dict(status) for status in statuses])
    else:
        print_table(
            ("service", "version", "address", "state", "pid", "log"),
            [
                (s.name, s.version, ", ".join(s.addresses), _explain(s), s.pid, s.log)
                for s in statuses
            ],
        )
    if any(s.state not in ("up", "elsewhere") for s in statuses):
        sys.exit(1)


@click.command("logs")
@click.argument("service", type=SERVICE, required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines arrive, until Ctrl-C.")
@click.option("-n", "--lines", default=50, show_default=True, type=click.IntRange(0, 100_000))
def logs_command(service: str | None, follow: bool, lines: int) -> None:
    """Print the end of the servers' logs."""
    services = local_services()
    names = [service] if service else ["kafka", "cassandra"]
    for name in names:
        prefix = "" if service else f"{name}: "
        server = services.server(name)
        if not server.log.exists():
            say(f"{name} has no log in {services.folder}: `iot up` never started it", err=True)
        for line in server.last_lines(lines):
            say(prefix + line)
    if follow:
        _follow({name: services.server(name).log for name in names}, bool(service))


@click.command("kill")
@click.argument("service", type=SERVICE)
def kill_command(service: str) -> None:
    """Kill -9 a server that `iot up` started, for the curious; `iot up` brings it back."""
    pid = local_services().kill(service)
    say(f"{service} (pid {pid}) was killed: `iot up` starts it again")


def _as_dict(status: ServerStatus) -> dict[str, object]:
    return {
        "service": status.name,
        "version": status.version or None,
        "addresses": list(status.addresses),
        "state": status.state,
        "is_answering": status.state in ("up", "elsewhere"),
        "pid": status.pid,
        "process": status.process or None,
        "log": str(status.log),
    }


def _explain(status: ServerStatus) -> str:
    if status.state == "elsewhere":
        who = f" ({status.process})" if status.process else ""
        return f"answers; not started here{who}"
    return {"up": "up", "not answering": "runs, does not answer", "stopped": "stopped"}[
        status.state
    ]


def _follow(logs: dict[str, Path], is_alone: bool) -> None:
    positions = {name: log.stat().st_size if log.exists() else 0 for name, log in logs.items()}
    while True:
        for name, log in logs.items():
            if not log.exists():
                continue
            if log.stat().st_size < positions[name]:
                positions[name] = 0  # the log was begun anew
            with log.open("rb") as file:
                file.seek(positions[name])
                for line in file:
                    # A line that is still being written is read whole the next time.
                    if not line.endswith(b"\n"):
                        break
                    positions[name] += len(line)
                    text = line.decode(errors="replace").rstrip()
                    say(text if is_alone else f"{name}: {text}")
        time.sleep(FOLLOW_SECONDS)
