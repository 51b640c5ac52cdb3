"""The comparison names a test for what it says, and a reason for what is missing."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
_SECTION = (ROOT / "docs" / "comparison.md").read_text().split("## Feature by feature")[1]
_LINES = [line for line in _SECTION.split("\n## ")[0].splitlines() if line.startswith("| ")]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in _LINES
    if not line.startswith("| feature |")
]


def test_every_feature_that_peers_have_is_answered() -> None:
    assert len(ROWS) >= 65
    assert len({feature for feature, _, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_each_row_names_a_test_there_is_and_a_reason_where_it_is_no_yes(row: list[str]) -> None:
    _, here, shown_by = row
    assert here.startswith("yes") or len(here) > 40, "a reason that a user would accept"
    found = _TEST.fullmatch(shown_by)
    assert found is not None, shown_by
    file, name = found.groups()
    text = (ROOT / "iot_pipeline_tests" / file).read_text()
    assert re.search(rf"^ *def {name}\(", text, re.MULTILINE), shown_by
