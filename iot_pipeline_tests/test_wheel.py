"""The wheel works by itself: package data, type marker, the command."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return next(out.glob("*.whl"))


def test_the_wheel_carries_what_the_code_reads_at_run_time(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "iot_pipeline/py.typed" in names
    assert "iot_pipeline/_bundle/docker-compose.yml" in names
    assert {
        f"iot_pipeline/clients/cql/{p.name}" for p in ROOT.glob("iot_pipeline/clients/cql/*")
    } <= names
    scenarios = {f"iot_pipeline/scenarios/{p.name}" for p in ROOT.glob("iot_pipeline/scenarios/*")}
    assert "iot_pipeline/scenarios/scenario.schema.json" in scenarios
    assert scenarios <= names
    declarations = ROOT.glob("iot_pipeline/declarations/*")
    assert {f"iot_pipeline/declarations/{p.name}" for p in declarations} <= names
    assert "iot_pipeline/declarations/seed.yaml" in names
    services = [p for p in (ROOT / "services").rglob("*") if p.is_file()]
    assert services
    assert {f"iot_pipeline/_bundle/{p.relative_to(ROOT).as_posix()}" for p in services} <= names


def test_an_installed_wheel_answers_and_finds_its_own_files(wheel, tmp_path):
    # Installed into a folder of its own, first on the path of a bare environment; what it depends
    # on is this environment's: a second installation of Dagster would prove nothing more.
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv/bin/python"
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", site, wheel], check=True, timeout=120)
    here = next(Path(p) for p in sys.path if p.endswith("site-packages"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("IOT_")}
    code = (
        "import iot_pipeline, sys\n"
        f"assert iot_pipeline.__file__.startswith({str(site)!r}), iot_pipeline.__file__\n"
        "from iot_pipeline.clients.schema_store import migration_files\n"
        "from iot_pipeline.core.checks.schema import read_migrations\n"
        "from iot_pipeline.core.reading.quantities import QUANTITIES\n"
        "from iot_pipeline.core.rollups.declared_columns import declared_columns\n"
        "assert read_migrations(migration_files(), declared_columns(QUANTITIES))\n"
        "from iot_pipeline.local.scenario_files import load_scenario, shipped_scenarios\n"
        "assert len([load_scenario(name) for name in shipped_scenarios()]) == 5\n"
        "from iot_pipeline.cli.main import main\n"
        "sys.argv = ['iot', 'settings', '--json']\n"
        "main()\n"
    )
    answer = subprocess.run(
        [python, "-c", code],
        cwd=tmp_path,
        env={**clean, "PYTHONPATH": f"{site}{os.pathsep}{here}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert '"IOT_TOPIC": "iot_data"' in answer.stdout
