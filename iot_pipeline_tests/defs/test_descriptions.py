"""Descriptions reach a person as they were written."""

import re
from collections.abc import Iterator

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.words import as_written, plain
from iot_pipeline.definitions import defs

# Independent of the code under test: what a Markdown renderer takes away outside of code.
_EATEN = re.compile(r"(?<!\\)(?:[*~<]|(?<![A-Za-z0-9\\])_|_(?![A-Za-z0-9]))")


def without_code(text: str) -> str:
    return re.sub(r"`[^`]*`", "", text)


def descriptions() -> Iterator[tuple[str, str]]:
    """Every description of the definitions, with the name of what it describes."""
    for asset in defs.assets or ():
        specs = asset.specs if isinstance(asset, dg.AssetsDefinition) else [asset]
        for spec in specs:
            assert isinstance(spec, dg.AssetSpec)
            name = spec.key.to_user_string()
            yield f"asset {name}", spec.description or ""
            schema = spec.metadata.get("dagster/column_schema")
            for column in getattr(getattr(schema, "schema", schema), "columns", ()):
                yield f"column {name}.{column.name}", column.description or ""
        if isinstance(asset, dg.AssetsDefinition):
            yield f"op {asset.op.name}", asset.op.description or ""
            for check in asset.check_specs:
                yield f"check {check.name}", check.description or ""
    for kind, things in (
        ("job", defs.jobs),
        ("sensor", defs.sensors),
        ("schedule", defs.schedules),
    ):
        for thing in things or ():
            yield f"{kind} {thing.name}", getattr(thing, "description", "") or ""


ALL = list(descriptions())


def test_there_are_descriptions_of_every_kind() -> None:
    kinds = {name.split()[0] for name, _ in ALL}
    assert kinds == {"asset", "column", "op", "check", "job", "sensor", "schedule"}


@pytest.mark.parametrize(("name", "text"), ALL, ids=[name for name, _ in ALL])
def test_markdown_eats_nothing_of_a_description(name: str, text: str) -> None:
    if not name.startswith("column"):
        assert text, f"{name} has no description"
    assert _EATEN.search(without_code(text)) is None, f"give it through core.words.plain: {text}"


def test_settings_with_an_asterisk_keep_it() -> None:
    assert plain("within IOT_PLAUSIBLE_*, IOT_JUMP_*") == r"within IOT_PLAUSIBLE\_\*, IOT_JUMP\_\*"
    assert plain("device_2 and `SELECT * FROM t`") == "device_2 and `SELECT * FROM t`"


@given(st.text(alphabet="ab_*~<[]() \\", max_size=30))
def test_taking_the_backslashes_away_gives_the_text_back(text: str) -> None:
    shown = plain(text)
    assert re.sub(r"\\([*~<\\_\]])", r"\1", shown) == text
    assert re.search(r"(?<!\\)(\\\\)*[*~<]", shown) is None


@given(st.text(alphabet="ab1 _*~<\\`[](\n", max_size=30))
def test_what_was_made_plain_can_be_read_as_it_was_written(text: str) -> None:
    assert as_written(plain(text)) == text
