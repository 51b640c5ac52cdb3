"""A table's name stands in one client, and a column of `sensor_data` in no second one."""

import re
from pathlib import Path

import iot_pipeline.clients
from iot_pipeline.core.checks.schema import read_tables
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline_tests.core.checks.shipped import MIGRATIONS

VALUES = [quantity.name for quantity in QUANTITIES]
CLIENTS = Path(iot_pipeline.clients.__path__[0])
TABLES = [
    *read_tables(MIGRATIONS),
    "schema_migrations",
]
# A name inside a string, as a statement has it: `{ks}.name`, `.name ` or alone.
_STRINGS = re.compile(r'(?s)"""(.*?)"""|"((?:[^"\\\n]|\\.)*)"')


def strings_of(path: Path) -> str:
    """All strings of a module but its docstrings and comments."""
    code = re.sub(r'(?s)""".*?"""', "", path.read_text(encoding="utf-8"))
    code = re.sub(r"(?m)#[^\n\"]*$", "", code)
    return "\n".join(match[1] or match[2] or "" for match in _STRINGS.finditer(code))


def modules_with(word: str, folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*.py")
        if re.search(rf"{word}\b", strings_of(path))
    )


def test_a_tables_name_stands_in_one_client() -> None:
    places = {table: modules_with(rf"\{{ks\}}\.{table}", CLIENTS) for table in TABLES}
    several = {table: found for table, found in places.items() if len(found) > 1}
    assert several == {}
    assert [table for table, found in places.items() if not found] == ["schema_migrations"]
    assert modules_with(r"\bschema_migrations", CLIENTS) == ["schema_store.py"]


def test_a_column_of_the_readings_stands_in_no_second_client() -> None:
    assert [modules_with(rf"\b{name}", CLIENTS) for name in VALUES] == [[] for _ in VALUES]
    assert modules_with(r"\btimestamp (?:>=|IN|ASC)", CLIENTS) == ["sensor_data.py"]
