"""Tables and sentences carry what they are given, however narrow the terminal is."""

import contextlib
import io
import os
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from unittest import mock

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from iot_pipeline.cli.output import (
    ask_whether,
    exit_as_found,
    exit_code_option,
    print_json,
    print_table,
    say,
)
from iot_pipeline.errors import ConfigurationError

words = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=30)
sentences = st.lists(words.filter(lambda word: "`" not in word), min_size=1, max_size=20).map(
    " ".join
)


class _Wide(io.StringIO):
    """A terminal in memory."""

    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def terminal(columns: int) -> Iterator[_Wide]:
    shown = _Wide()
    with (
        contextlib.redirect_stdout(shown),
        mock.patch.dict(os.environ, {"COLUMNS": str(columns), "TERM": "xterm"}),
    ):
        yield shown


def test_a_cell_that_looks_like_markup_is_shown_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("[red]", "b"), [("[/a]", "[bold]x[/bold]"), (None, 0), (True, 1)], title="[t]")
    shown = capsys.readouterr().out
    for text in ("[red]", "[/a]", "[bold]x[/bold]", "[t]", "0", "true"):
        assert text in shown
    assert "None" not in shown


def test_what_would_move_the_cursor_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a",), [("x\x1b[2J\ny",)])
    say("one\x1b[31m\ntwo")
    assert capsys.readouterr().out.splitlines()[2:] == [r"x\x1b[2J\ny", r"one\x1b[31m", "two"]


@given(
    st.integers(min_value=1, max_value=8).flatmap(
        lambda n: st.lists(
            st.lists(sentences | st.just(""), min_size=n, max_size=n), min_size=2, max_size=5
        )
    ),
    st.sampled_from([40, 80, 160]),
)
def test_no_cell_is_cut_and_no_line_is_wider_than_the_terminal(
    table: list[list[str]], columns: int
) -> None:
    with terminal(columns) as shown:
        print_table(table[0], table[1:])
    lines = shown.getvalue().splitlines()
    assert all(cell_len(line) <= columns or len(line.split()) == 1 for line in lines)
    said = sorted(word for row in table for cell in row for word in cell.split())
    assert sorted(word for line in lines for word in line.split() if set(word) != {"─"}) == [
        word for word in said if set(word) != {"─"}
    ]


def test_what_fits_is_one_line_a_row_and_numbers_stand_to_the_right() -> None:
    with terminal(80) as shown:
        print_table(("name", "count"), [("a", "1,000"), ("long name", "5")])
    assert shown.getvalue().splitlines() == [
        "name       count",
        "────────────────",
        "a          1,000",
        "long name      5",
    ]


def test_a_row_that_does_not_fit_takes_more_lines_and_keeps_an_id_whole() -> None:
    run_id = "cli-01234567-0123-0123-0123-0123456789ab"
    with terminal(60) as shown:
        print_table(("partition", "offsets", "outcome", "run"), [(0, "0-500", "ingested", run_id)])
    assert shown.getvalue().splitlines() == [
        "partition  offsets  outcome",
        "    run",
        "─" * 60,
        "        0  0-500    ingested",
        f"    {run_id}",
    ]


@given(sentences, st.sampled_from([30, 80]))
def test_a_sentence_is_folded_between_words(sentence: str, columns: int) -> None:
    with terminal(columns) as shown:
        say(sentence)
    lines = shown.getvalue().splitlines()
    assert " ".join(shown.getvalue().split()) == " ".join(sentence.split())
    assert all(cell_len(line) <= columns or len(line.split()) == 1 for line in lines)


def test_a_command_in_a_sentence_is_never_folded() -> None:
    with terminal(50) as shown:
        say("rows are missing here: `iot replay --offsets 0:100-200 --json` restores them")
    assert "`iot replay --offsets 0:100-200 --json`" in shown.getvalue()
    with terminal(50) as shown:
        say(f"preparing `SELECT {'a_column, ' * 20}`: no such table")
    assert all(len(line) <= 50 for line in shown.getvalue().splitlines())


def test_a_command_that_no_line_has_room_for_goes_on_as_a_shell_has_it() -> None:
    command = "kafka-acls.sh --add --allow-principal User:ana --operation Read --topic iot_data"
    with terminal(50) as shown:
        say(f"reading iot_data: Kafka does not let user ana; this grants it: `{command}`. More")
    lines = shown.getvalue().splitlines()
    assert all(len(line) <= 50 for line in lines)
    copied = shown.getvalue().split("`")[1]
    as_a_shell_reads_it = copied.replace("\\\n", "")
    assert shlex.split(as_a_shell_reads_it) == shlex.split(command)


def test_elsewhere_a_sentence_and_a_row_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("word " * 100)
    print_table(("a", "b"), [("x" * 200, "y" * 200)])
    assert [len(line) > 400 for line in capsys.readouterr().out.splitlines()] == [
        True,
        False,
        True,
        True,
    ]


def test_a_question_that_is_not_answered_is_no_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(ConfigurationError, match="say --yes"):
        ask_whether("Delete it?")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    with pytest.raises(SystemExit) as ended:
        ask_whether("Delete it?")
    assert ended.value.code == 1
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    ask_whether("Delete it?")


def test_times_have_one_form(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 1, 31, 12, 0, 0, 123_999, UTC)
    print_table(("at",), [(moment,)])
    print_json({"at": moment, "day": moment.date()})
    shown = capsys.readouterr().out
    assert "2026-01-31T12:00:00Z" in shown
    assert '"2026-01-31T12:00:00.123Z", "day": "2026-01-31"' in shown


@pytest.mark.parametrize(
    ("arguments", "is_found", "code"),
    [([], True, 0), (["--exit-code"], False, 0), (["--exit-code"], True, 1)],
)
def test_the_exit_code_says_what_was_found_when_asked(
    arguments: list[str], is_found: bool, code: int
) -> None:
    @click.command()
    @exit_code_option("a door is open")
    def doors(has_exit_code: bool) -> None:
        exit_as_found(has_exit_code, is_found)

    assert "a door is open" in doors.get_help(click.Context(doors))
    with pytest.raises(SystemExit) as ended:
        doors.main(arguments)
    assert ended.value.code == code
