"""What the demo reads out of Dagster's answers."""

from typing import Any

import pytest

from iot_pipeline.cli.demo_watch import iot_command, sentence_of, worst_device
from iot_pipeline.core.checks.device_table import DeviceTable
from iot_pipeline.core.words import plain

TABLE = DeviceTable(("device", "problem"), [("hall 1", "silent"), ("hall 2", "late")]).markdown()


@pytest.mark.parametrize(
    ("entries", "device_id"),
    [
        ([], ""),
        ([{"label": "worst_devices", "mdStr": TABLE}], "hall 1"),
        ([{"label": "suspects", "jsonString": '["a", "b"]'}], "a"),
        ([{"label": "suspects", "jsonString": "[]"}, {"label": "devices"}], ""),
        (
            [
                {"label": "suspects", "jsonString": '["a"]'},
                {"label": "worst_devices", "mdStr": TABLE},
            ],
            "hall 1",
        ),
    ],
)
def test_the_worst_device_is_the_first_of_the_table(
    entries: list[dict[str, Any]], device_id: str
) -> None:
    assert worst_device(entries) == device_id


def test_a_sentence_is_told_as_it_was_written() -> None:
    sentence = r"IOT_PLAUSIBLE_* and IOT_JUMP_* of _x_ [a](b) \\ are `IOT_*`"
    assert sentence_of({"description": plain(sentence), "metadataEntries": []}) == sentence
    told = {"description": "other", "metadataEntries": [{"label": "sentence", "text": "Own."}]}
    assert sentence_of(told) == "Own."


def test_the_command_is_one_that_this_folder_has() -> None:
    assert iot_command().endswith("iot")
