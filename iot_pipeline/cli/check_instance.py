"""`iot check-instance`: whether a Dagster instance is set to run ingestion well."""

import os
import sys
from pathlib import Path

import click

from iot_pipeline.cli.output import EXIT_FOUND, json_option, print_json, say
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings


@click.command("check-instance")
@json_option
def check_instance_command(as_json: bool) -> None:
    """Say what Dagster's instance lacks to run ingestion, and print the lines for dagster.yaml.

    The instance is that of DAGSTER_HOME, or the one of `make demo` where that is not set. Exit code
    1 when something lacks.
    """
    settings = Settings.from_env()
    # A second of imports, for this command alone.
    import dagster as dg

    from iot_pipeline.defs.instance import CONFIG_NAME, dagster_home
    from iot_pipeline.defs.instance_needs import find_lacks, lines_for

    home = Path(os.environ.get("DAGSTER_HOME") or dagster_home(settings)).absolute()
    config = home / CONFIG_NAME
    if not config.is_file():
        raise ConfigurationError(
            f"{config}: no such file; set DAGSTER_HOME to the folder with the dagster.yaml of your "
            "instance, or make one: python -m iot_pipeline.defs.instance FOLDER"
        )
    try:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            lacks = find_lacks(instance, settings.lanes)
    except (dg.DagsterInvalidConfigError, dg.DagsterInvariantViolationError) as exc:
        raise ConfigurationError(f"{config}: Dagster refuses it: {exc}") from None
    lines = lines_for(lacks, settings.lanes)
    if as_json:
        print_json(
            {
                "config": str(config),
                "lanes": settings.lanes,
                "lacks": [{"key": lack.key, "consequence": lack.consequence} for lack in lacks],
                "lines": lines,
            }
        )
    else:
        _print(config, [f"{lack.key}: {lack.consequence}" for lack in lacks], lines)
    if lacks:
        sys.exit(EXIT_FOUND)


def _print(config: Path, lacks: list[str], lines: str) -> None:
    if not lacks:
        say(f"{config} has what ingestion needs: one run per lane, slots, monitoring, retention")
        return
    say(f"{config} lacks {len(lacks)}:", err=True)
    for lack in lacks:
        say(f"- {lack}", err=True)
    say("these lines have it; merge them into the file and restart Dagster:\n", err=True)
    say(lines.rstrip())
