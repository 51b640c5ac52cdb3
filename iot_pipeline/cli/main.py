"""The `iot` command: its commands found, errors turned into messages and exit codes."""

import difflib
import errno
import importlib
import logging
import os
import sys
from collections.abc import Sequence

import click

from iot_pipeline.cli import logs
from iot_pipeline.cli.output import make_writable, say, write_commands
from iot_pipeline.core.times import in_utc, moment_of
from iot_pipeline.errors import ConfigurationError, PipelineError, TransientError
from iot_pipeline.extras import extras_named

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_TRANSIENT = 75  # EX_TEMPFAIL of sysexits.h
EXIT_INTERRUPTED = 130
EXIT_CLOSED_PIPE = 141

EXIT_CODES = {
    0: "done",
    EXIT_FAILED: "failed, or something is missing; the message says what to do",
    EXIT_CONFIGURATION: "an option or a setting is wrong; nothing was changed",
    3: "fenced: another run was faster, nothing is wrong",
    EXIT_TRANSIENT: "a server is away: try again later",
    EXIT_INTERRUPTED: "ended by Ctrl-C",
    EXIT_CLOSED_PIPE: "what read the output has ended, such as `head`",
    143: "ended by SIGTERM",
}

_LONGEST_ARGUMENT = 32_768
# A path that an option or a setting names, and that cannot be used.
_WRONG_PATH = (
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EROFS,
    errno.EINVAL,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)
_REMEDIES = {
    errno.ENOSPC: "Make room, then run it again",
    errno.EDQUOT: "Make room, then run it again",
    errno.EACCES: "Run it as a user who may, or choose another place",
    errno.EPERM: "Run it as a user who may, or choose another place",
    errno.EIO: "The disk or terminal is broken: look at the system's log",
}

# What a person wants to do, and the commands for it. `iot dead-letters` is `dead_letters_command`
# of `cli/dead_letters.py`, and so on, but for the files that commands share. Only the command that
# is asked for is imported: `iot status` does not wait half a second for the drivers of the others.
GROUPS = {
    "Run it": ("demo", "setup", "reading", "simulate", "scenarios", "drain", "rollup"),
    "Ask": ("lag", "latest", "readings", "devices", "rollups", "report", "export", "cql"),
    "Prove": ("audit", "audits", "ledger", "trace", "losses", "verify"),
    "Mend": ("replay", "mend", "dead-letters", "delete", "forget", "rebase"),
    "Operate": (
        "up",
        "down",
        "status",
        "logs",
        "kill",
        "settings",
        "rights",
        "watch",
        "metrics",
        "throttle",
        "check-instance",
        "size",
    ),
}
COMMANDS = tuple(name for names in GROUPS.values() for name in names)
FILES = {name.replace("-", "_"): name.replace("-", "_") for name in COMMANDS} | {
    **dict.fromkeys(("up", "down", "status", "logs", "kill"), "services"),
    "mend": "trace",
    "rollup": "rollups",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = importlib.import_module(f"iot_pipeline.cli.{FILES[name]}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            # click would look among the commands that it holds, and they are imported when asked.
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            meant = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"No such command '{args[0]}'.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _drop_output()
            sys.exit(EXIT_CLOSED_PIPE)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in GROUPS.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            write_commands(formatter, title, [(n, c) for n, c in found if c is not None])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])


class _Said(logging.Handler):
    """Log records on stderr as sentences are, also above a line of progress."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record), err=True)


class _InUtc(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  # logging's
        return in_utc(moment_of(round(record.created * 1000)))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("-v", "--verbose", is_flag=True, help="Log what is done, to stderr.")
@click.version_option(package_name="iot-pipeline", message="iot %(version)s")
def iot(verbose: bool) -> None:
    """IoT readings from Kafka into Cassandra, every offset accounted for."""
    handler: logging.Handler = logs.JsonLines() if logs.choose_format() else _Said()
    handler.setFormatter(_InUtc("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(
        handlers=[handler], level=logging.INFO if verbose else logging.WARNING, force=True
    )


def main() -> None:
    """Run `iot`; every error we raise becomes one message on stderr and an exit code."""
    make_writable()
    try:
        _check_arguments(sys.argv[1:])
        with extras_named():
            iot.main(prog_name="iot", standalone_mode=False)
    except click.Abort:
        say("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as exc:
        if logs.is_json():
            _complain(exc.format_message())
        else:
            exc.show()
        sys.exit(EXIT_CONFIGURATION)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except PipelineError as exc:
        _complain(str(exc))
        if isinstance(exc, TransientError) and (why := _nothing_is_set()):
            say(why, err=True)
        if isinstance(exc, ConfigurationError):
            sys.exit(EXIT_CONFIGURATION)
        sys.exit(EXIT_TRANSIENT if isinstance(exc, TransientError) else EXIT_FAILED)
    except OSError as exc:
        # Files and the terminal alone end here: clients make their own errors of the network's.
        _drop_output()
        _complain(_in_words(exc))
        sys.exit(EXIT_CONFIGURATION if exc.errno in _WRONG_PATH else EXIT_FAILED)


def _complain(text: str) -> None:
    """The sentence that a command ends with."""
    if logs.is_json():
        logs.write_sentence(text, "ERROR")
    else:
        say(f"iot: {text}", err=True)


def _check_arguments(arguments: Sequence[str]) -> None:
    """Refuse what no table, topic or file could take, whichever command it is for."""
    for argument in arguments:
        shown = ascii(argument[:40])
        try:
            length = len(argument.encode())
        except UnicodeEncodeError:
            raise ConfigurationError(f"{shown}: expected arguments in UTF-8") from None
        if length > _LONGEST_ARGUMENT:
            raise ConfigurationError(
                f"{shown} and so on: {length:,} bytes, and no argument is longer than "
                f"{_LONGEST_ARGUMENT:,}"
            )


def _nothing_is_set() -> str:
    """Why a server may be away that runs: a `.env` in another folder was not found."""
    from iot_pipeline.settings_sources import env_file

    if env_file().is_file() or any(name.startswith("IOT_") for name in os.environ):
        return ""
    return f"no IOT_ variable is set and there is no {env_file()}: these are the default addresses"


def _in_words(exc: OSError) -> str:
    where = "writing the output" if exc.filename is None else str(exc.filename)
    what = (exc.strerror or str(exc)).lower()
    return f"{where}: {what}. {_REMEDIES.get(exc.errno or 0, 'Choose another place')}"


def _drop_output() -> None:
    """Python would complain once more when it flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
        except ValueError:
            continue  # closed
