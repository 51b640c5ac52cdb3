"""`iot rights`: lines that a shell and cqlsh take, about the settings' names."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from iot_pipeline.cli.rights import rights_command
from iot_pipeline.core.rights.needed import ROLES


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IOT_TOPIC", "plant_7")
    monkeypatch.setenv("IOT_KEYSPACE", "plant")


def rights(*words: str) -> Result:
    return CliRunner().invoke(rights_command, words)


def commands_in(text: str) -> list[list[str]]:
    """The words of each command, as a shell reads the lines."""
    joined = text.replace("\\\n", " ")
    return [shlex.split(line) for line in joined.splitlines() if line.startswith("kafka-acls.sh")]


def test_all_roles_have_a_user_of_their_own() -> None:
    said = rights().output
    for role in ROLES:
        assert f"# Kafka, user iot_{role}\n" in said
    assert "GRANT MODIFY ON TABLE plant.sensor_data TO iot_ingest;" in said
    assert "GRANT CREATE ON ALL KEYSPACES TO iot_setup;" in said
    assert "TO iot_simulate" not in said, "which needs nothing of Cassandra"
    assert max(map(len, said.splitlines())) < 80


def test_a_shell_reads_what_was_meant(tmp_path: Path) -> None:
    user = "CN=O'Neil & sons, O=a company with a long name"
    said = rights("--for", "simulate", "--user", user).output
    (words,) = commands_in(said)
    assert words[-6:] == [
        "--allow-principal",
        f"User:{user}",
        "--operation",
        "Write",
        "--topic",
        "plant_7",
    ]
    script = tmp_path / "grant.sh"
    script.write_text('kafka-acls.sh() { printf "%s\\n" "$@"; }\n' + said)
    ran = subprocess.run(["bash", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == words[1:]


def test_commands_of_one_user_are_asked_for_together() -> None:
    told = json.loads(rights("--for", "lag", "--for", "losses", "--user", "ana", "--json").output)
    lines = [one["line"] for one in told["ana"]["cassandra"]]
    assert lines == ["GRANT SELECT ON KEYSPACE plant TO ana;"]
    operations = [line["line"].split("--operation ")[1] for line in told["ana"]["kafka"]]
    assert operations == ["Describe --topic plant_7", "Read --topic plant_7"]


def test_what_is_optional_says_what_is_lost() -> None:
    told = json.loads(rights("--for", "drain", "--user", "ana", "--json").output)
    optional = {
        line["line"].split()[-1]: line["without_it"]
        for line in told["ana"]["kafka"]
        if not line["is_needed"]
    }
    assert optional == {"iot_pipeline.plant_7": "lag tools see no offsets of the group"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--for", "lags", "--user", "ana"), "expected one of setup, ingest, read, simulate, or"),
        (("--for", "lag"), "whose rights? Add --user NAME"),
        (("--for", "settings", "--user", "ana"), "a command that needs rights"),
    ],
)
def test_what_has_no_rights_is_refused(words: tuple[str, ...], why: str) -> None:
    assert why in str(rights(*words).exception)
