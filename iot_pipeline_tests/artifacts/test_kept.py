"""Small values, from one process to the next."""

from datetime import date
from pathlib import Path

import pytest

from iot_pipeline.artifacts.kept import LastDrawing, first_day, last_drawing
from iot_pipeline.defs.rollups import first_rollup_day
from iot_pipeline.settings import Settings


def settings_of(folder: Path, **variables: str) -> Settings:
    return Settings.from_env({"IOT_DATA_DIR": str(folder), "IOT_TOPIC": "t", **variables})


def test_what_one_process_wrote_the_next_one_loads(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert first_day(settings).read() is None
    first_day(settings).write(date(2026, 3, 9))
    assert first_day(settings).read() == date(2026, 3, 9)
    assert first_rollup_day(settings) == date(2026, 3, 9)
    other = settings_of(tmp_path, IOT_ROLLUP_START="2026-02-01")
    assert first_rollup_day(other) == date(2026, 2, 1)
    last_drawing(settings).write(LastDrawing(7, "run", 0.5))
    assert last_drawing(settings).read() == LastDrawing(7, "run", 0.5)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-03-09", '"2026-13-01"', "[]"])
def test_a_broken_file_is_no_value(tmp_path: Path, text: str) -> None:
    for kept in (first_day(settings_of(tmp_path)), last_drawing(settings_of(tmp_path))):
        kept.path.parent.mkdir()
        kept.path.write_text(text)
        assert kept.read() is None
