import pytest

from iot_pipeline.core.checks.device_table import DeviceTable, as_code, as_word


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("kitchen_1", "`kitchen_1`"),
        ("a|b", "`a\\|b`"),
        ("tick`tock", "``tick`tock``"),
        ("`", "`` ` ``"),
        (" padded ", "`  padded  `"),
        ("<img src=x>", "`<img src=x>`"),
        ("[x](http://evil)", "`[x](http://evil)`"),
        ("eman\u202ereversed", "`eman\ufffdreversed`"),
        ("back\\|bar", "`back\\\uff5cbar`"),
    ],
)
def test_a_name_in_a_table_is_code_and_nothing_else(name: str, shown: str) -> None:
    assert as_code(name) == shown


def test_a_table_has_a_row_per_device_and_says_how_many_more_there_are() -> None:
    table = DeviceTable(("device", "rows"), [("a|b", "1"), ("c", "2")], 7)
    assert table.markdown().splitlines() == [
        "| device | rows |",
        "|:---|---:|",
        "| `a\\|b` | 1 |",
        "| `c` | 2 |",
        "",
        "and 7 more",
    ]
    assert DeviceTable().markdown() == ""


def test_a_name_in_a_sentence_is_quoted_where_it_is_more_than_a_word() -> None:
    assert as_word("device_1") == "device_1"
    assert as_word("the big one") == "'the big one'"
    assert len(as_word("x" * 256)) <= 66
