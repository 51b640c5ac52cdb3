"""docs/tutorial.md, line by line, on servers that it starts itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from iot_pipeline_tests.docs.transcript import missing_lines, read_steps
from iot_pipeline_tests.servers import PORTS, clean_environment, end_leftovers, free_ports

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.services
def test_every_command_of_the_tutorial_works_and_prints_what_it_says(tmp_path: Path) -> None:
    ports = map(str, free_ports(len(PORTS)))
    env = clean_environment(
        {**dict(zip(PORTS, ports, strict=True)), "IOT_DATA_DIR": str(tmp_path / "data")}
    )
    steps = read_steps((ROOT / "docs" / "tutorial.md").read_text())
    assert len(steps) > 15
    try:
        for step in steps:
            # The environment the tests run in, wherever it is.
            command = step.command.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
            output = _run(command, env)
            assert missing_lines(step, output) == [], f"$ {step.command}\n{output}"
    finally:
        end_leftovers(tmp_path / "data")


def _run(command: str, env: dict[str, str]) -> str:
    with subprocess.Popen(
        ["bash", "-c", command],
        cwd=ROOT,
        env={**env, "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output = process.communicate(timeout=180)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, f"$ {command}\nexit code {process.returncode}\n{output}"
    return output
