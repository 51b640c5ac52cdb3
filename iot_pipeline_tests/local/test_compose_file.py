"""docker-compose.yml against the Compose specification's own schema, and an engine's if any.

The schema comes inside check-jsonschema, so this runs everywhere. No engine could be had where
this was written: `docker compose up` itself is untried (docs/local-services.md says so).
"""

import shutil
import subprocess
import sys

from iot_pipeline.local.compose import find_definition
from iot_pipeline_tests.servers import clean_environment


def test_the_compose_file_follows_the_compose_specification() -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"),
            str(find_definition().compose_file),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_docker_client_that_knows_compose_reads_it() -> None:
    docker = shutil.which("docker")
    command = [docker or "", "compose", "version"]
    if docker is None or subprocess.run(command, capture_output=True, check=False).returncode:
        return  # Nothing to ask; the schema above was asked all the same.
    result = subprocess.run(
        [docker, "compose", "-f", str(find_definition().compose_file), "config", "--quiet"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
