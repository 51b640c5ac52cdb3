"""How the devices of a red check are named: each once, and the worst one with what was seen."""

from iot_pipeline.core.fleet.problems import DeviceProblem, Trouble
from iot_pipeline.stages.checks.machinery.families import named


def problem(device_id: str) -> DeviceProblem:
    return DeviceProblem(device_id, Trouble.CLOCK, "its clock is 10 min ahead", 1.0)


def test_one_device_is_named_once_and_of_several_the_worst_is_told() -> None:
    assert named([]) == ""
    assert named([problem("study_2")]) == "study_2: its clock is 10 min ahead"
    assert named([problem(name) for name in ("b", "a", "c", "d")]) == (
        "b, a, c and 1 more (b: its clock is 10 min ahead)"
    )
