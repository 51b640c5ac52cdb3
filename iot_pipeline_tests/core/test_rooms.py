"""The map and the house agree: `core/__init__` names its rooms, stages and tests stand in them."""

import re
from pathlib import Path

import pytest

import iot_pipeline.core
import iot_pipeline.stages
import iot_pipeline_tests.core
import iot_pipeline_tests.stages

CORE, STAGES = (Path(package.__path__[0]) for package in (iot_pipeline.core, iot_pipeline.stages))
CORE_TESTS, STAGE_TESTS = (
    Path(package.__path__[0]) for package in (iot_pipeline_tests.core, iot_pipeline_tests.stages)
)
# What all rooms use stands beside them.
BESIDE_CORE = {"times", "words", "yaml_lines"}
BESIDE_STAGES = {"requests", "run_ingest", "schema", "topics"}
PORTS = {"ports"}


def rooms_in(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("*/__init__.py")}


def test_the_map_of_core_names_exactly_the_rooms_there_are() -> None:
    named = re.findall(r"^([a-z]+)/ ", iot_pipeline.core.__doc__ or "", re.MULTILINE)
    assert set(named) == rooms_in(CORE)
    assert len(named) == len(set(named))


@pytest.mark.parametrize(
    ("folder", "beside"), [(CORE, BESIDE_CORE), (STAGES, BESIDE_STAGES)], ids=["core", "stages"]
)
def test_every_module_is_in_a_room(folder: Path, beside: set[str]) -> None:
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == beside


@pytest.mark.parametrize(
    "folder", [STAGES, CORE_TESTS, STAGE_TESTS], ids=["stages", "tests of core", "tests of stages"]
)
def test_stages_and_tests_have_no_rooms_of_their_own(folder: Path) -> None:
    assert rooms_in(folder) - PORTS <= rooms_in(CORE)
