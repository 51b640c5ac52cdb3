"""IOT_LOG_FORMAT=json: whatever a command says on stderr is one object a line, of one schema."""

import json
import logging
import subprocess
from datetime import datetime

import pytest

from iot_pipeline.cli import logs
from iot_pipeline_tests.pipeline import IOT
from iot_pipeline_tests.servers import clean_environment, free_ports

ALWAYS = {"at", "level", "logger", "message"}


def test_log_records_errors_and_sentences_are_objects_of_one_schema() -> None:
    (port,) = free_ports(1)
    env = {
        "IOT_LOG_FORMAT": "json",
        "IOT_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
        "IOT_RETRY_SECONDS": "0.5",
        "IOT_TOPIC": "t",
    }
    for command, code in ((("-v", "drain"), 75), (("drain", "--no-such-option"), 2)):
        done = subprocess.run(
            [IOT, *command], env=clean_environment(env), capture_output=True, check=False
        )
        assert done.returncode == code
        assert done.stdout == b""
        lines = [json.loads(line) for line in done.stderr.decode().splitlines()]
        assert lines
        for line in lines:
            assert set(line) >= ALWAYS
            assert set(line) <= {*ALWAYS, *logs.FIELDS, "exception"}
            assert datetime.fromisoformat(line["at"]).tzinfo is not None
        assert (lines[-1]["level"], lines[-1]["logger"]) == ("ERROR", "iot")
        if code == 75:
            assert f"127.0.0.1:{port}" in lines[-1]["message"]
            assert lines[-1]["topic"] == "t"
            assert lines[-1]["run_id"].startswith("cli-")


def test_a_record_says_its_partition_and_offsets_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IOT_LOG_FORMAT", "json")
    assert logs.choose_format()
    logs.about(run_id="r")
    record = logging.LogRecord("a.b", logging.WARNING, "f", 1, "sent %d\nagain", (3,), None)
    vars(record).update(partition=2, start_offset=5, secret="x")
    logs.JsonLines().emit(record)
    line = json.loads(capsys.readouterr().err)
    assert line.pop("at")
    assert line == {
        "level": "WARNING",
        "logger": "a.b",
        "message": "sent 3\nagain",
        "run_id": "r",
        "partition": 2,
        "start_offset": 5,
    }
    monkeypatch.setenv("IOT_LOG_FORMAT", "text")
    assert not logs.choose_format()
