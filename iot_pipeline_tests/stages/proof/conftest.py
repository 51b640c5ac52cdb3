from pathlib import Path

import pytest

from iot_pipeline_tests.stages.proof.past import Past


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path)
