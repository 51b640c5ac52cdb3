"""The `iot` command: groups put together, errors turned into messages and exit codes.

Exit codes: 0 done, 1 failed (the message says what to do) or found something missing, 2 wrong
usage or configuration, 3 fenced by another run, 75 try again later, 130 ended by Ctrl-C, 143 by
SIGTERM.
"""

import logging
import sys

import click

from iot_pipeline.cli.ask import ASK_COMMANDS
from iot_pipeline.cli.ask_rows import ROW_COMMANDS, dead_letters_group
from iot_pipeline.cli.audit import AUDIT_COMMANDS
from iot_pipeline.cli.dead_letters import DEAD_LETTER_COMMANDS
from iot_pipeline.cli.demo import DEMO_COMMANDS
from iot_pipeline.cli.devices import DEVICE_COMMANDS
from iot_pipeline.cli.export import EXPORT_COMMANDS
from iot_pipeline.cli.ingest import INGEST_COMMANDS
from iot_pipeline.cli.losses import LOSS_COMMANDS
from iot_pipeline.cli.readings import READING_COMMANDS
from iot_pipeline.cli.replay import REPLAY_COMMANDS
from iot_pipeline.cli.report import REPORT_COMMANDS
from iot_pipeline.cli.rollups import ROLLUP_COMMANDS
from iot_pipeline.cli.scenario import SCENARIO_COMMANDS
from iot_pipeline.cli.schema import SCHEMA_COMMANDS
from iot_pipeline.cli.services import SERVICES_COMMANDS
from iot_pipeline.cli.simulate import SIMULATION_COMMANDS
from iot_pipeline.errors import ConfigurationError, PipelineError, TransientError

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_TRANSIENT = 75  # EX_TEMPFAIL of sysexits.h
EXIT_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("-v", "--verbose", is_flag=True, help="Log what is done, to stderr.")
def iot(verbose: bool) -> None:
    """IoT readings from Kafka into Cassandra, every offset accounted for."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


for _command in (
    *SERVICES_COMMANDS,
    *SCHEMA_COMMANDS,
    *SIMULATION_COMMANDS,
    *SCENARIO_COMMANDS,
    *INGEST_COMMANDS,
    *REPLAY_COMMANDS,
    *AUDIT_COMMANDS,
    *LOSS_COMMANDS,
    *ASK_COMMANDS,
    *DEVICE_COMMANDS,
    *READING_COMMANDS,
    *EXPORT_COMMANDS,
    *REPORT_COMMANDS,
    *ROW_COMMANDS,
    *ROLLUP_COMMANDS,
    *DEMO_COMMANDS,
):
    iot.add_command(_command)
for _command in DEAD_LETTER_COMMANDS:
    dead_letters_group.add_command(_command)


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
