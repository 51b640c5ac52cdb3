"""The `iot` command: its commands found, errors turned into messages and exit codes.

Exit codes: 0 done, 1 failed (the message says what to do) or found something missing, 2 wrong
usage or configuration, 3 fenced by another run, 75 try again later, 130 ended by Ctrl-C, 143 by
SIGTERM.
"""

import importlib
import logging
import sys

import click

from iot_pipeline.errors import ConfigurationError, PipelineError, TransientError

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_TRANSIENT = 75  # EX_TEMPFAIL of sysexits.h
EXIT_INTERRUPTED = 130

# Command -> its module. Only the one that is asked for is imported: `iot status` does not wait
# half a second for the drivers and stages of all the others.
MODULES = {
    "audit": "audit",
    "cql": "ask_rows",
    "dead-letters": "dead_letters",
    "delete": "audit",
    "demo": "demo",
    "devices": "devices",
    "down": "services",
    "drain": "ingest",
    "export": "export",
    "kill": "services",
    "lag": "ask",
    "ledger": "ask",
    "logs": "services",
    "losses": "losses",
    "readings": "readings",
    "rebase": "losses",
    "replay": "replay",
    "report": "report",
    "rollup": "rollups",
    "rollups": "rollups",
    "scenarios": "scenario",
    "settings": "settings",
    "setup": "schema",
    "simulate": "simulate",
    "status": "services",
    "trace": "audit",
    "up": "services",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in MODULES:
            return None
        module = importlib.import_module(f"iot_pipeline.cli.{MODULES[cmd_name]}")
        return next(
            value
            for value in vars(module).values()
            if isinstance(value, click.Command) and value.name == cmd_name
        )


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("-v", "--verbose", is_flag=True, help="Log what is done, to stderr.")
def iot(verbose: bool) -> None:
    """IoT readings from Kafka into Cassandra, every offset accounted for."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


def main() -> None:
    """Run `iot`; every error we raise becomes one message on stderr and an exit code."""
    try:
        iot.main(standalone_mode=False)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as exc:
        exc.show()
        sys.exit(EXIT_CONFIGURATION)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except PipelineError as exc:
        click.echo(f"iot: {exc}", err=True)
        if isinstance(exc, ConfigurationError):
            sys.exit(EXIT_CONFIGURATION)
        sys.exit(EXIT_TRANSIENT if isinstance(exc, TransientError) else EXIT_FAILED)
