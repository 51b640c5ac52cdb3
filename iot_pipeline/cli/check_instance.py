"""`iot check-instance`: whether a Dagster instance is set to run ingestion well."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import click

from iot_pipeline.cli.output import EXIT_FOUND, json_option, print_json, say
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings

# Of what Dagster says; it can list every key there is.
_LONGEST = 300
_LONGEST_SECONDS = 60.0


@click.command("check-instance")
@json_option
def check_instance_command(as_json: bool) -> None:
    """Say what Dagster's instance lacks to run ingestion, and print the lines for dagster.yaml.

    The instance is that of DAGSTER_HOME, or the one of `make demo` where that is not set. Exit code
    1 when something lacks.
    """
    settings = Settings.from_env()
    home = Path(os.environ.get("DAGSTER_HOME") or settings.data_dir / "dagster").absolute()
    config = home / "dagster.yaml"
    if not config.is_file():
        raise ConfigurationError(
            f"{config}: no such file; set DAGSTER_HOME to the folder with the dagster.yaml of your "
            "instance, or make one: python -m iot_pipeline.defs.instance FOLDER"
        )
    found = _ask(home, config, settings.lanes)
    if as_json:
        print_json({"config": str(config), "lanes": settings.lanes, **found})
    else:
        lacks = [f"{lack['key']}: {lack['consequence']}" for lack in found["lacks"]]
        _print(config, lacks, found["lines"])
    if found["lacks"]:
        sys.exit(EXIT_FOUND)


def _ask(home: Path, config: Path, lanes: int) -> dict[str, Any]:
    """In a process of its own: no command imports Dagster."""
    try:
        asked = subprocess.run(
            [sys.executable, "-m", "iot_pipeline.defs.instance_needs", str(home), str(lanes)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_SECONDS,
        )
    except subprocess.TimeoutExpired as exc:
        raise ConfigurationError(
            f"{config}: Dagster did not open this instance within {_LONGEST_SECONDS:.0f} s; see "
            "whether the servers that the file names (storage, run_launcher) answer"
        ) from exc
    if asked.returncode:
        # Whatever the file names may be missing, wrong or away; the last line says it.
        last = (asked.stderr.strip().splitlines() or ["it did not say why"])[-1]
        why = textwrap.shorten(last, _LONGEST, placeholder=" and so on")
        raise ConfigurationError(f"{config}: Dagster cannot open this instance: {why}")
    answer: dict[str, Any] = json.loads(asked.stdout)
    return answer


def _print(config: Path, lacks: list[str], lines: str) -> None:
    if not lacks:
        say(f"{config} has what ingestion needs: one run per lane, slots, monitoring, retention")
        return
    say(f"{config} lacks {len(lacks)}:", err=True)
    for lack in lacks:
        say(f"- {lack}", err=True)
    if lines:
        say("these lines have it; merge them into the file and restart Dagster:\n", err=True)
        say(lines.rstrip())
