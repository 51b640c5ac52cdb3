"""One SELECT, and nothing that hides behind one."""

import pytest

from iot_pipeline.core.rights.select_only import check_select
from iot_pipeline.errors import ConfigurationError


@pytest.mark.parametrize(
    ("cql", "taken"),
    [
        ("SELECT * FROM t", "SELECT * FROM t"),
        ("  select 1 ;; \n", "select 1"),
        ("-- a note\nSELECT * FROM t -- ; DROP\n", "SELECT * FROM t"),
        ("/* DROP; */ SELECT * FROM t", "SELECT * FROM t"),
        ("// x;\nSELECT * FROM t", "SELECT * FROM t"),
        ("SELECT * FROM t WHERE a = 'x; -- '' y'", "SELECT * FROM t WHERE a = 'x; -- '' y'"),
        ('SELECT "a;b" FROM t', 'SELECT "a;b" FROM t'),
        ("SELECT * FROM t WHERE a = $$it's; $$;", "SELECT * FROM t WHERE a = $$it's; $$"),
    ],
)
def test_one_select_is_taken_without_comments_and_its_semicolon(cql: str, taken: str) -> None:
    assert check_select(cql) == taken


@pytest.mark.parametrize(
    "cql",
    [
        "",
        " ;",
        "-- SELECT 1",
        "DROP TABLE t",
        "BEGIN BATCH SELECT 1 APPLY BATCH",
        "SELECT 1; DROP TABLE t",
        "SELECT 1;;DROP TABLE t;",
        "/* SELECT */ INSERT INTO t (a) VALUES (1)",
        "SELECT 'a' FROM t; DELETE FROM t WHERE a = ';'",
        "selection",
        "'SELECT' x",
        "USE other",
        "LIST ROLES",
    ],
)
def test_anything_else_is_refused(cql: str) -> None:
    with pytest.raises(ConfigurationError):
        check_select(cql)
