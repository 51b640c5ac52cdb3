"""Dagster's home: its dagster.yaml, and its databases made once, alone.

`python -m iot_pipeline.defs.instance [HOME]` prepares the home and prints it; then
`DAGSTER_HOME=<that> dagster dev`. It has to come first: processes that open an empty home at the
same time break it: three of them did so 10 times of 12.
"""

import importlib.resources
import os
import re
import sys
from pathlib import Path

import dagster as dg
import yaml
from filelock import FileLock
from sqlalchemy import create_engine
from sqlalchemy.exc import ArgumentError, OperationalError

from iot_pipeline.errors import ConfigurationError
from iot_pipeline.extras import require
from iot_pipeline.files import whole_file
from iot_pipeline.settings import Settings

CONFIG_NAME = "dagster.yaml"
# Where Dagster's storage is, for a home that is made while it is set; the file names it, and keeps
# no password.
POSTGRES_URL = "DAGSTER_POSTGRES_URL"
_SLOTS = re.compile(r"(max_concurrent_runs: )(\d+)")
_ON_POSTGRES = "storage: {postgres: "
_URL_SHAPE = "postgresql+psycopg2://user:password@host:5432/database"
_CONNECT_SECONDS = 10


def dagster_home(settings: Settings) -> Path:
    """Where Dagster keeps its runs, unless DAGSTER_HOME says otherwise."""
    return settings.data_dir / "dagster"


def shipped_config(lanes: int = 1, *, on_postgres: bool = False) -> str:
    """The dagster.yaml of this version, with a slot for each lane of ingestion."""
    shipped = importlib.resources.files("iot_pipeline.defs") / CONFIG_NAME
    text = _SLOTS.sub(
        lambda found: f"{found[1]}{int(found[2]) + lanes - 1}",
        shipped.read_text(encoding="utf-8"),
    )
    return text.replace(f"# {_ON_POSTGRES}", _ON_POSTGRES) if on_postgres else text


def prepare_instance(home: Path, lanes: int = 1) -> Path:
    """Make the home, its dagster.yaml if there is none, and its databases; idempotent.

    A dagster.yaml that is there is a person's and stays. Any number of processes may call this
    at once: one does the work, the others wait. With DAGSTER_POSTGRES_URL in the environment a new
    dagster.yaml has Dagster's storage there.

    Returns:
        The home.

    Raises:
        ConfigurationError: DAGSTER_POSTGRES_URL is set and the dagster.yaml that is there says
            nothing of storage; Postgres cannot be reached; the extra for it is not installed.
    """
    on_postgres = bool(os.environ.get(POSTGRES_URL))
    if on_postgres:
        require("dagster_postgres")
        _reach(os.environ[POSTGRES_URL])
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / ".prepare.lock"):
        config = home / CONFIG_NAME
        if not config.exists():
            with whole_file(config) as partial:
                text = shipped_config(lanes, on_postgres=on_postgres)
                partial.write_text(text, encoding="utf-8")
        elif on_postgres and "storage" not in (yaml.safe_load(config.read_text("utf-8")) or {}):
            raise ConfigurationError(
                f"{POSTGRES_URL} is set, and {config} says nothing of storage, so Dagster's runs "
                f"would be in that folder: add the line `{_storage_line()}` (its history begins "
                f"anew there), or unset {POSTGRES_URL}"
            )
        _make_databases(home)
    return home


def _storage_line() -> str:
    (line,) = (
        line for line in shipped_config(on_postgres=True).splitlines() if _ON_POSTGRES in line
    )
    return line


def _reach(url: str) -> None:
    """Ask before Dagster does, which tries for long and then does not say what it met.

    Raises:
        ConfigurationError: there is no answer, or the URL is none.
    """
    try:
        # The driver's default is to wait for ever.
        engine = create_engine(url, connect_args={"connect_timeout": _CONNECT_SECONDS})
        engine.connect().close()
        engine.dispose()
    except ArgumentError:
        raise ConfigurationError(f"{POSTGRES_URL}: expected {_URL_SHAPE}") from None
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"{POSTGRES_URL}: its driver {exc.name} is not installed; expected {_URL_SHAPE}"
        ) from None
    except OperationalError as exc:
        # It names the address and the user, and never the password.
        said = str(exc.orig).strip().splitlines()[0]
        raise ConfigurationError(f"{POSTGRES_URL}: Postgres does not let us in: {said}") from None


def _make_databases(home: Path) -> None:
    """Each of these makes its database with the first question."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.get_runs(limit=1)
        instance.all_asset_keys()
        instance.all_instigator_state()


def main() -> None:
    asked = [Path(argument).absolute() for argument in sys.argv[1:2]]
    try:
        settings = Settings.from_env()
        print(prepare_instance(asked[0] if asked else dagster_home(settings), settings.lanes))
    except ConfigurationError as exc:
        sys.exit(f"error: {exc}")


if __name__ == "__main__":
    main()
