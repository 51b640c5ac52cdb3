"""Which commands there are, and what one of them waits for."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from iot_pipeline import cli
from iot_pipeline.cli.main import (
    COMMANDS,
    EXIT_CLOSED_PIPE,
    EXIT_CODES,
    EXIT_INTERRUPTED,
    FILES,
    iot,
)
from iot_pipeline.cli.output import first_sentence
from iot_pipeline_tests.cli.terminals import all_commands
from iot_pipeline_tests.pipeline import IOT
from iot_pipeline_tests.servers import clean_environment


def test_each_command_is_defined_in_its_file_and_nowhere_else() -> None:
    defined = []
    for module in pkgutil.iter_modules(cli.__path__):
        path = Path(cli.__path__[0]) / f"{module.name}.py"
        names = re.findall(r'^@click\.(?:command|group)\("([a-z-]+)"', path.read_text(), re.M)
        defined += [(name, module.name) for name in names]
    assert sorted(defined) == sorted((name, FILES[name.replace("-", "_")]) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_found_by_its_name(name: str) -> None:
    command = iot.get_command(click.Context(iot), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str()


def test_a_misspelt_command_is_told_the_one_that_was_meant() -> None:
    with pytest.raises(click.UsageError, match="Did you mean 'drain'"):
        iot.main(["darin"], standalone_mode=False)
    with pytest.raises(click.UsageError, match=r"No such command 'xyz'\.$"):
        iot.main(["xyz"], standalone_mode=False)


def test_dead_letters_can_be_listed_shown_counted_and_replayed() -> None:
    group = iot.get_command(click.Context(iot), "dead-letters")
    assert isinstance(group, click.Group)
    assert sorted(group.commands) == ["list", "replay", "show", "stats"]


def test_help_groups_the_commands_and_tells_each_in_a_whole_sentence() -> None:
    text = " ".join(iot.get_help(click.Context(iot, info_name="iot")).split())
    assert "..." not in text.split("Options:")[1]
    for title in ("Run it:", "Ask:", "Prove:", "Mend:", "Operate:", "Exit codes:"):
        assert title in text
    for name in COMMANDS:
        command = iot.get_command(click.Context(iot), name)
        assert command is not None
        assert f"{name} {first_sentence(command)}" in text


def test_exit_codes_are_the_same_in_the_help_and_in_the_readme() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (line,) = [line for line in text.splitlines() if "Exit codes" in line]
    assert {int(number) for number in re.findall(r"\b\d+\b", line)} == set(EXIT_CODES)
    text = iot.get_help(click.Context(iot))
    for code, meaning in EXIT_CODES.items():
        assert re.search(rf"^ +{code} +{meaning[:20]}", text, re.MULTILINE)


def test_a_reader_that_has_seen_enough_is_no_traceback() -> None:
    done = subprocess.run(
        ["bash", "-c", '"$0" settings | true; exit ${PIPESTATUS[0]}', str(IOT)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (EXIT_CLOSED_PIPE, "")


def test_commands_about_servers_and_sending_do_not_wait_for_what_they_do_not_use() -> None:
    code = """
import sys
from iot_pipeline.cli.main import iot
for name in ("settings", "status", "up", "simulate"):
    iot.main([name, "--help"], standalone_mode=False)
heavy = {"cassandra", "numpy", "dagster", "matplotlib", "pyarrow", "plotext", "jinja2"}
print(sorted(heavy & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("name", "command"), all_commands().items())
def test_every_option_says_what_it_is_for(name: str, command: click.Command) -> None:
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert [f"{name} --{option.name}" for option in options if not option.help] == []


def test_ctrl_c_while_modules_are_loaded_ends_without_a_traceback() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, signal, sys\n"
            "class Interrupts:\n"
            "    def find_spec(self, name, *_):\n"
            "        if name == 'iot_pipeline.cli.output':\n"
            "            os.kill(os.getpid(), signal.SIGINT)\n"
            "sys.meta_path.insert(0, Interrupts())\n"
            "from iot_pipeline.start import run\n"
            "run()",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_INTERRUPTED, "", "")
    assert "iot_pipeline.start" in IOT.read_text(), "what is installed begins there"
