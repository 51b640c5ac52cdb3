"""A team's project as docs/your-dagster.md has it: found, scaffolded, loaded and merged."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from iot_pipeline.defs import instance
from iot_pipeline_tests.servers import clean_environment

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "your-dagster.md"
DG = str(Path(sys.executable).parent / "dg")
PROJECT = """[project]
name = "team"
version = "0.1"
requires-python = ">=3.11"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "team"
"""
FOLDER = """from pathlib import Path

from dagster import definitions, load_from_defs_folder


@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


def blocks() -> dict[str, str]:
    """The files that the document shows, by the path in their first line."""
    text = DOCUMENT.read_text("utf-8")
    return dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", text, re.DOTALL))


@pytest.fixture
def team(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    package = tmp_path / "src" / "team"
    (package / "defs" / "north").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "defs" / "__init__.py").touch()
    return tmp_path


def dg(team: Path, *arguments: str) -> str:
    source = os.pathsep.join([str(team / "src"), str(DOCUMENT.parents[1])])
    done = subprocess.run(
        [DG, *arguments],
        cwd=team,
        env=clean_environment({"PYTHONPATH": source, "NORTH_CASSANDRA_PASSWORD": "s3cret"}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_component_is_scaffolded_and_loads_beside_the_one_of_the_document(team: Path) -> None:
    package = team / "src" / "team"
    (package / "definitions.py").write_text(FOLDER)
    (package / "defs" / "north" / "defs.yaml").write_text(blocks()["src/team/defs/north/defs.yaml"])
    dg(team, "scaffold", "defs", "iot_pipeline.KafkaToCassandra", "south")
    made = yaml.safe_load((package / "defs" / "south" / "defs.yaml").read_text())
    assert made["type"] == "iot_pipeline.KafkaToCassandra"
    assert made["attributes"]["name"] == made["attributes"]["keyspace"] == "south"
    listed = dg(team, "list", "defs", "--json")
    assert '"north/sensor_data"' in listed
    assert '"south/sensor_data"' in listed
    assert '"north_ingest"' in listed
    assert "s3cret" not in listed


def test_pipelines_in_python_load_beside_a_teams_own_asset(team: Path) -> None:
    (team / "src" / "team" / "definitions.py").write_text(blocks()["src/team/definitions.py"])
    listed = dg(team, "list", "defs", "--json")
    for name in ('"warm_hours"', '"north/sensor_data"', '"south_iot_data_lag"'):
        assert name in listed


def test_the_lines_for_an_instance_are_those_that_are_shipped() -> None:
    shipped = (Path(instance.__file__).parent / instance.CONFIG_NAME).read_text("utf-8")
    said = yaml.safe_load(blocks()["dagster.yaml"])
    assert yaml.safe_load(shipped)["concurrency"] == said["concurrency"]
