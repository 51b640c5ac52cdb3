"""The first day of the rollups, from one process to the next."""

from datetime import date
from pathlib import Path

import pytest

from iot_pipeline.artifacts.first_day_file import first_day_path, read_first_day, write_first_day
from iot_pipeline.defs.rollups import first_rollup_day
from iot_pipeline.settings import Settings


def test_what_one_process_wrote_the_next_one_loads(tmp_path: Path) -> None:
    settings = Settings.from_env({"IOT_DATA_DIR": str(tmp_path), "IOT_TOPIC": "t"})
    path = first_day_path(tmp_path, "t")
    assert read_first_day(path) is None
    write_first_day(path, date(2026, 3, 9))
    assert read_first_day(path) == date(2026, 3, 9)
    assert first_rollup_day(settings) == date(2026, 3, 9)
    other = Settings.from_env(
        {"IOT_DATA_DIR": str(tmp_path), "IOT_TOPIC": "t", "IOT_ROLLUP_START": "2026-02-01"}
    )
    assert first_rollup_day(other) == date(2026, 2, 1)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01"])
def test_a_broken_file_is_no_first_day(tmp_path: Path, text: str) -> None:
    path = first_day_path(tmp_path, "t")
    path.parent.mkdir()
    path.write_text(text)
    assert read_first_day(path) is None
