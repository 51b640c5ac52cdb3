"""A home whose runs are in Postgres: what it is made of, and what is said where that cannot be."""

import subprocess
import sys
from pathlib import Path

import pytest

from iot_pipeline.defs.instance import CONFIG_NAME, POSTGRES_URL, prepare_instance
from iot_pipeline.errors import ConfigurationError
from iot_pipeline_tests.postgres import Postgres

SECRET = "shown_nowhere"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "expected postgresql.psycopg2://user:password@host:5432/database"),
        ("postgresql+asyncpg://u:shown_nowhere@h/d", "driver asyncpg is not installed; expected"),
        ("postgresql+psycopg2://u:shown_nowhere@127.0.0.1:1/d", "Connection refused"),
    ],
)
def test_a_storage_that_cannot_be_reached_is_one_sentence_without_its_password(
    url: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(POSTGRES_URL, url)
    with pytest.raises(ConfigurationError, match=said) as raised:
        prepare_instance(tmp_path / "home")
    assert SECRET not in str(raised.value)


def test_a_home_that_cannot_be_prepared_is_that_sentence_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(POSTGRES_URL, f"postgresql+asyncpg://u:{SECRET}@h/d")
    with pytest.raises(ConfigurationError) as raised:
        prepare_instance(tmp_path / "home")
    prepared = subprocess.run(
        [sys.executable, "-m", "iot_pipeline.defs.instance", str(tmp_path / "home")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert prepared.returncode == 1
    assert prepared.stderr == f"error: {raised.value}\n"


@pytest.mark.services
def test_a_home_names_the_variable_and_keeps_no_password(
    on_postgres: Postgres, tmp_path: Path
) -> None:
    home = prepare_instance(tmp_path / "home")
    config = (home / CONFIG_NAME).read_text()
    assert "\nstorage: {postgres: {postgres_url: {env: DAGSTER_POSTGRES_URL}}}\n" in config
    assert SECRET not in "".join(
        path.read_text(errors="replace") for path in home.rglob("*") if path.is_file()
    )


@pytest.mark.services
def test_a_home_that_has_its_runs_elsewhere_says_what_to_do(
    on_postgres: Postgres, tmp_path: Path
) -> None:
    config = tmp_path / CONFIG_NAME
    config.write_text("telemetry: {enabled: false}\n")
    with pytest.raises(ConfigurationError, match="says nothing of storage") as raised:
        prepare_instance(tmp_path)
    line = str(raised.value).split("`")[1]
    config.write_text(f"{config.read_text()}{line}\n")
    prepare_instance(tmp_path)
    assert not (tmp_path / "history").exists()
