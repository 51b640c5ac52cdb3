"""Tables carry what they are given."""

import pytest

from iot_pipeline.cli.output import print_table


def test_a_cell_that_looks_like_markup_is_shown_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("[red]", "b"), [("[/a]", "[bold]x[/bold]"), (None, 0)], title="[t]")
    shown = capsys.readouterr().out
    for text in ("[red]", "[/a]", "[bold]x[/bold]", "[t]", "0"):
        assert text in shown
    assert "None" not in shown
