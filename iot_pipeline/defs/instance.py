"""Dagster's home: its dagster.yaml, and its databases made once, alone.

`python -m iot_pipeline.defs.instance [HOME]` prepares the home and prints it; then
`DAGSTER_HOME=<that> dagster dev`. It has to come first: processes that open an empty home at the
same time break it: three of them did so 10 times of 12.
"""

import importlib.resources
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
# And the Redis by which Celery's workers take its runs: broker and result backend in one.
REDIS_URL = "DAGSTER_REDIS_URL"
_SLOTS = re.compile(r"(max_concurrent_runs: )(\d+)")
_ON_POSTGRES = "storage: {postgres: "
_BY_CELERY = "run_launcher:"
_URL_SHAPE = "postgresql+psycopg2://user:password@host:5432/database"
_REDIS_SHAPE = "redis://:password@host:6379/0"
_CONNECT_SECONDS = 10


def dagster_home(settings: Settings) -> Path:
    """Where Dagster keeps its runs, unless DAGSTER_HOME says otherwise."""
    return settings.data_dir / "dagster"


def shipped_config(lanes: int = 1, *, on_postgres: bool = False, by_celery: bool = False) -> str:
    """The dagster.yaml of this version, with a slot for each lane of ingestion."""
    shipped = importlib.resources.files("iot_pipeline.defs") / CONFIG_NAME
    text = _SLOTS.sub(
        lambda found: f"{found[1]}{int(found[2]) + lanes - 1}",
        shipped.read_text(encoding="utf-8"),
    )
    if on_postgres:
        text = text.replace(f"# {_ON_POSTGRES}", _ON_POSTGRES)
    if by_celery:
        before, key, block = text.partition(f"# {_BY_CELERY}")
        text = before + (key + block).replace("# ", "", 1).replace("\n# ", "\n")
    return text


def prepare_instance(home: Path, lanes: int = 1) -> Path:
    """Make the home, its dagster.yaml if there is none, and its databases; idempotent.

    A dagster.yaml that is there is a person's and stays. Any number of processes may call this
    at once: one does the work, the others wait. With DAGSTER_POSTGRES_URL in the environment a new
    dagster.yaml has Dagster's storage there, and with DAGSTER_REDIS_URL Celery's workers have its
    runs.

    Returns:
        The home.

    Raises:
        ConfigurationError: one of them is set and the dagster.yaml that is there says nothing of
            what it is for; it cannot be reached; the extra for it is not installed; a new home has
            workers and no Postgres.
    """
    on_postgres, by_celery = bool(os.environ.get(POSTGRES_URL)), bool(os.environ.get(REDIS_URL))
    if on_postgres:
        require("dagster_postgres")
        _reach(os.environ[POSTGRES_URL])
    if by_celery:
        require("dagster_celery")
        _reach_redis(os.environ[REDIS_URL])
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / ".prepare.lock"):
        config = home / CONFIG_NAME
        if not config.exists():
            if by_celery and not on_postgres:
                raise ConfigurationError(
                    f"{REDIS_URL} is set and {POSTGRES_URL} is not: Dagster's runs would be in "
                    f"{home}, where workers on other machines cannot reach them"
                )
            with whole_file(config) as partial:
                text = shipped_config(lanes, on_postgres=on_postgres, by_celery=by_celery)
                partial.write_text(text, encoding="utf-8")
        else:
            _refuse_another_home(config, on_postgres=on_postgres, by_celery=by_celery)
        _make_databases(home)
    return home


def _refuse_another_home(config: Path, *, on_postgres: bool, by_celery: bool) -> None:
    there = yaml.safe_load(config.read_text("utf-8")) or {}
    shipped = yaml.safe_load(shipped_config(on_postgres=True, by_celery=True))
    if on_postgres and "storage" not in there:
        raise ConfigurationError(
            f"{POSTGRES_URL} is set, and {config} says nothing of storage, so Dagster's runs would "
            f"be in that folder: add the line `{_line('storage', shipped)}` (its history begins "
            f"anew there), or unset {POSTGRES_URL}"
        )
    if by_celery and "run_launcher" not in there:
        raise ConfigurationError(
            f"{REDIS_URL} is set, and {config} says nothing of a run launcher, so runs would be "
            f"started on this machine: add the line `{_line('run_launcher', shipped)}`, or unset "
            f"{REDIS_URL}"
        )


def _line(key: str, shipped: Mapping[str, Any]) -> str:
    return yaml.safe_dump({key: shipped[key]}, default_flow_style=True, width=9999).strip()[1:-1]


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


def _reach_redis(url: str) -> None:
    """Ask before Dagster's daemon does, with a run in its hand.

    Raises:
        ConfigurationError: there is no answer, or the URL is none.
    """
    import redis

    try:
        with redis.Redis.from_url(
            url, socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=_CONNECT_SECONDS
        ) as client:
            client.ping()
    except ValueError:
        raise ConfigurationError(f"{REDIS_URL}: expected {_REDIS_SHAPE}") from None
    except redis.RedisError as exc:
        # It names the address, and never the password.
        said = " ".join(str(exc).split()).rstrip(".")
        raise ConfigurationError(f"{REDIS_URL}: Redis does not let us in: {said}") from None


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
