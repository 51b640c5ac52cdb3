"""docker-compose.yml and its variants against the Compose specification's own schema.

The schema comes inside check-jsonschema, so this runs everywhere. No engine could be had where
this was written: `docker compose up` itself is untried (docs/local-services.md says so).
"""

import subprocess
import sys

import pytest

from iot_pipeline.local.compose import find_definition
from iot_pipeline.local.compose_files import CLUSTER, SECURE


@pytest.mark.parametrize("name", ["docker-compose.yml", CLUSTER, SECURE])
def test_a_compose_file_follows_the_compose_specification(name: str) -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"),
            str(find_definition().compose_file.with_name(name)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
