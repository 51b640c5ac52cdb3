"""`iot up`, `down`, `status`, `logs`, `kill`: the servers of this machine."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from iot_pipeline.cli.output import (
    EXIT_FOUND,
    ask_whether,
    json_option,
    print_json,
    print_table,
    say,
)
from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.local.jars import Advance
from iot_pipeline.local.nodes import COUNTS
from iot_pipeline.local.servers import LocalServices, ServerStatus
from iot_pipeline.settings import Settings
from iot_pipeline.settings_sources import env_file, read_env_file

_SERVICE = "kafka|cassandra|kafka-2|..."
_FOLLOW_SECONDS = 0.2


def local_services() -> LocalServices:
    """By the settings; what they do is said on stderr."""
    return LocalServices(Settings.from_env(), lambda text: say(text, err=True), _downloading)


@contextmanager
def _downloading(total_bytes: int) -> Iterator[Advance]:
    done = 0
    with ProgressLine("fetching jars, MB") as line:

        def advance(size: int) -> None:
            nonlocal done
            done += size
            line.show(round(done / 1e6), round(total_bytes / 1e6))

        yield advance


@click.command("up")
@click.option(
    "--only",
    metavar="SERVICE",
    multiple=True,
    help="This service alone: kafka, cassandra, or a node such as kafka-2.",
)
@click.option("--secure", is_flag=True, help="With TLS, users and passwords; made here.")
@click.option("--nodes", type=click.Choice(list(map(str, COUNTS))), help="Of each service.")
def up_command(only: tuple[str, ...], secure: bool, nodes: str | None) -> None:
    """Start Kafka and Cassandra on this machine, unless they answer already.

    --secure and --nodes are for new servers: then the lines of `.env` are printed that let clients
    in, and lead them to every node.
    """
    services = local_services()
    statuses = services.up(only, secure=secure, nodes=None if nodes is None else int(nodes))
    for status in statuses:
        say(f"{status.name} {status.addresses[0]} {status.state}")
    _tell_how_to_get_in(services)


def _tell_how_to_get_in(services: LocalServices) -> None:
    """Print the lines for `.env`, unless these are the settings already."""
    lines = services.description.environment()
    settings, wanted = Settings.from_env(), Settings.from_env(lines)
    if all(getattr(settings, name) == getattr(wanted, name) for name in wanted.model_fields_set):
        return
    what = "let clients in" if services.secure.is_there else "lead clients to every node"
    say(f"these lines {what}; put them into {env_file()} (they hold no secret):\n")
    for name, value in lines.items():
        say(f"{name}={value}")


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
    leading_in = services.description.environment() if services.secure.is_there else {}
    services.wipe()
    say(f"{services.folder} is empty", err=True)
    _tell_what_leads_nowhere(leading_in)


def _tell_what_leads_nowhere(lines: Mapping[str, str]) -> None:
    """Name what `.env` still says of servers that are gone: no command starts with it."""
    kept = read_env_file(env_file())
    stale = [name for name, value in lines.items() if kept.get(name) == value]
    if stale:
        say(
            f"take these lines out of {env_file()}, they lead to files that are gone: "
            f"{', '.join(stale)}",
            err=True,
        )


@click.command("kill")
@click.argument("service", metavar=_SERVICE)
def kill_command(service: str) -> None:
    """Kill -9 a server that `iot up` started, for the curious; `iot up` brings it back.

    With --nodes 3 the servers are kafka-1 to kafka-3 and cassandra-1 to cassandra-3.
    """
    pid = local_services().kill(service)
    say(f"{service} (pid {pid}) was killed: `iot up` starts it again")


@click.command("status")
@json_option
def status_command(as_json: bool) -> None:
    """Show addresses, processes and health of the servers; exit code 1 unless all answer."""
    statuses = local_services().status()
    if as_json:
        print_json(
            [
                {
                    "service": status.name,
                    "version": status.version or None,
                    "addresses": status.addresses,
                    "state": status.state,
                    "is_answering": status.is_answering,
                    "pid": status.pid,
                    "process": status.process or None,
                    "log": status.log,
                }
                for status in statuses
            ]
        )
    else:
        print_table(
            ("service", "version", "address", "state", "pid", "log"),
            [
                (s.name, s.version, ", ".join(s.addresses), _explain(s), s.pid, s.log)
                for s in statuses
            ],
        )
    if not all(status.is_answering for status in statuses):
        sys.exit(EXIT_FOUND)


def _explain(status: ServerStatus) -> str:
    if status.state == "elsewhere":
        who = f" ({status.process})" if status.process else ""
        return f"answers; not started here{who}"
    return "runs, does not answer" if status.state == "not answering" else status.state


@click.command("logs")
@click.argument("service", metavar=f"[{_SERVICE}]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines arrive, until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, 100_000),
    default=50,
    show_default=True,
    help="How many of each log.",
)
def logs_command(service: str | None, follow: bool, lines: int) -> None:
    """Print the end of the servers' logs."""
    services = local_services()
    servers = services.description.servers([service] if service else ())
    # Each line says whose it is, unless there is one log only.
    prefixes = {server.log: f"{server.name}: " for server in servers}
    if len(servers) == 1:
        prefixes[servers[0].log] = ""
    for server in servers:
        if not server.log.exists():
            say(
                f"{server.name} has no log in {services.folder}: `iot up` never started it",
                err=True,
            )
        for line in server.last_lines(lines):
            say(prefixes[server.log] + line)
    if follow:
        _follow(prefixes)


def _follow(prefixes: dict[Path, str]) -> None:
    positions = {log: log.stat().st_size if log.exists() else 0 for log in prefixes}
    while True:
        for log, prefix in prefixes.items():
            if not log.exists():
                continue
            if log.stat().st_size < positions[log]:
                positions[log] = 0  # the log was begun anew
            with log.open("rb") as file:
                file.seek(positions[log])
                for line in file:
                    # A line that is still being written is read whole the next time.
                    if not line.endswith(b"\n"):
                        break
                    positions[log] += len(line)
                    say(prefix + line.decode(errors="replace").rstrip())
        time.sleep(_FOLLOW_SECONDS)
