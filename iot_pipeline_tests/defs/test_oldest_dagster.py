"""The wheel in a clean environment, beside a team's asset, with the oldest Dagster it allows."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from iot_pipeline_tests.load import fleet, produce
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import clean_environment

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
# A team's asset after ours; one run of ingestion; no extra is installed.
_CODE = """
import json, os
import dagster as dg
from iot_pipeline import Pipeline, build_definitions

ours = Pipeline("north", {k: v for k, v in os.environ.items() if k.startswith("IOT_")})

@dg.asset(deps=[dg.AssetKey(["north", "sensor_data"])])
def warm_hours() -> int:
    return 7

merged = dg.Definitions.merge(dg.Definitions(assets=[warm_hours]), build_definitions([ours]))
with dg.DagsterInstance.ephemeral() as instance:
    job = merged.resolve_job_def("north_ingest")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    (event,) = result.get_asset_materialization_events()
    told = {name: str(value.value) for name, value in event.materialization.metadata.items()}
print(json.dumps({"dagster": dg.__version__, "success": result.success, **told}))
"""


def test_the_wheel_ingests_with_the_oldest_dagster_and_without_any_extra(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = (text for text in project["dependencies"] if text.startswith("dagster>="))
    oldest = re.findall(r">=([0-9.]+)", wanted)[0]
    sent = produce(pipeline.brokers, pipeline.topic, fleet("old", 5, 100))
    python = tmp_path / "venv/bin/python"
    run(sys.executable, "-m", "build", "-w", "-n", "-o", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    run(sys.executable, "-m", "uv", "venv", "--python", sys.executable, tmp_path / "venv")
    uv = (sys.executable, "-m", "uv", "pip", "install", "--python", python)
    run(*uv, wheel, f"dagster=={oldest}.0")
    told = json.loads(run(python, "-c", _CODE, env=pipeline.env).splitlines()[-1])
    assert told["dagster"] == f"{oldest}.0"
    assert told["success"]
    assert told["stored"] == str(sent)
    assert "pip install 'iot-pipeline[pictures]'" in told["pictures"]


def run(*command: object, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        list(map(str, command)),
        env=clean_environment(env),
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
