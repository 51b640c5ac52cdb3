"""Dagster's home: its dagster.yaml, and its databases made once, alone.

`python -m iot_pipeline.defs.instance [HOME]` prepares the home and prints it; then
`DAGSTER_HOME=<that> dagster dev`. It has to come first: processes that open an empty home at the
same time break it: three of them did so 10 times of 12.
"""

import importlib.resources
import re
import sys
from pathlib import Path

import dagster as dg
from filelock import FileLock

from iot_pipeline.files import whole_file
from iot_pipeline.settings import Settings

CONFIG_NAME = "dagster.yaml"
_SLOTS = re.compile(r"(max_concurrent_runs: )(\d+)")


def dagster_home(settings: Settings) -> Path:
    """Where Dagster keeps its runs, unless DAGSTER_HOME says otherwise."""
    return settings.data_dir / "dagster"


def shipped_config(lanes: int = 1) -> str:
    """The dagster.yaml of this version, with a slot for each lane of ingestion."""
    shipped = importlib.resources.files("iot_pipeline.defs") / CONFIG_NAME
    return _SLOTS.sub(
        lambda found: f"{found[1]}{int(found[2]) + lanes - 1}",
        shipped.read_text(encoding="utf-8"),
    )


def prepare_instance(home: Path, lanes: int = 1) -> Path:
    """Make the home, its dagster.yaml if there is none, and its databases; idempotent.

    A dagster.yaml that is there is a person's and stays. Any number of processes may call this
    at once: one does the work, the others wait.

    Returns:
        The home.
    """
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / ".prepare.lock"):
        config = home / CONFIG_NAME
        if not config.exists():
            with whole_file(config) as partial:
                partial.write_text(shipped_config(lanes), encoding="utf-8")
        with dg.DagsterInstance.from_config(str(home)) as instance:
            # Each of these makes its database with the first question.
            instance.get_runs(limit=1)
            instance.all_asset_keys()
            instance.all_instigator_state()
    return home


if __name__ == "__main__":
    asked = [Path(argument).absolute() for argument in sys.argv[1:2]]
    settings = Settings.from_env()
    print(prepare_instance(asked[0] if asked else dagster_home(settings), settings.lanes))
