"""Commands that sentences suggest can be pasted, whatever a device calls itself."""

import ast
import os
import shlex
import subprocess
from pathlib import Path

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import iot_pipeline
from iot_pipeline.cli.main import iot
from iot_pipeline.core.proof.audit_result import Fate, Finding
from iot_pipeline.core.reading.messages import find_device_id_problem
from iot_pipeline.core.words import iot_command

device_ids = st.text(min_size=1, max_size=40).filter(lambda text: not find_device_id_problem(text))


@given(device_ids)
@example("-pump 7 $HOME 'ü'")
@example('a"b`c\\d!e;rm -rf *')
@example("--json")
def test_a_suggested_command_is_read_by_iot_as_it_was_meant(device_id: str) -> None:
    finding = Finding(Fate.TORN, device_id, 1_735_444_918_316, 0, 1, "")
    words = shlex.split(finding.repair)
    assert words[:2] == ["iot", "mend"]
    command = iot.get_command(click.Context(iot), "mend")
    assert command is not None
    read = command.make_context("mend", words[2:])
    assert (read.params["device_id"], read.params["timestamp"]) == (device_id, "1735444918.316")


def test_what_needs_no_quotes_gets_none() -> None:
    assert iot_command("trace", then=("device_1", "1.5")) == "iot trace device_1 1.5"
    assert iot_command("audit", "--offsets", "0:1-2") == "iot audit --offsets 0:1-2"


def test_no_sentence_puts_a_device_id_into_a_command_by_itself() -> None:
    found = []
    for path in sorted(Path(iot_pipeline.__path__[0]).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr) and "`iot " in ast.unparse(node):
                inside = ast.unparse(node).split("`iot ")[1:]
                found += [f"{path}: {text}" for text in inside if "device" in text.split("`")[0]]
    # `iot devices` names a command, not a device.
    assert [text for text in found if "{" in text.split(": ", 1)[1].split("`")[0]] == []


@pytest.mark.parametrize(
    "device_id",
    [
        "a b; touch FILE",
        "-rf",
        "it's",
        "--help",
        "a\nb",
        "\x1b[2J'\\",
        "$(id)`id`",
        "é\u200b",
        "!x",
    ],
)
def test_a_suggested_command_can_be_pasted_whatever_the_device_is_called(device_id: str) -> None:
    command = iot_command("readings", then=(device_id,))
    assert "\n" not in command
    assert "\x1b" not in command
    done = subprocess.run(
        ["bash", "-c", f"iot() {{ printf '%s\\0' \"$@\"; }}; {command}"],
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    )
    *before, last = done.stdout.decode().rstrip("\0").split("\0")
    assert last == device_id
    assert before == ["readings", *(["--"] if device_id.startswith("-") else [])]
