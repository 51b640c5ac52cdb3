"""Files that are whole or not there, whoever dies while writing them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from iot_pipeline.artifacts.parquet import parquet_file
from iot_pipeline.files import whole_file
from iot_pipeline_tests.servers import clean_environment


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on the way" / "readings.csv"
    with whole_file(path) as partial:
        partial.write_text("half")
        assert not path.exists()
        assert partial.name.startswith(".")
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == [path.name]


def test_what_was_there_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text("yesterday's")

    def fail() -> None:
        with whole_file(path) as partial:
            partial.write_text("half of today's")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "yesterday's"
    assert os.listdir(tmp_path) == [path.name]


def test_what_a_killed_process_left_goes_with_the_next_file_of_that_name(tmp_path: Path) -> None:
    # A name with what a pattern would take for its own.
    path = tmp_path / "device [1].csv"
    code = (
        "import os, sys, pathlib\n"
        "from iot_pipeline.files import whole_file\n"
        "with whole_file(pathlib.Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    killed = subprocess.run(command, env=clean_environment(), timeout=60, check=False)
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    others = [
        tmp_path / f".{path.name}.{os.getppid()}.partial",  # somebody writes it just now
        tmp_path / f".{path.name}.of.a.person.partial",
        tmp_path / ".device 1.csv.999999999.partial",
    ]
    for other in others:
        other.write_text("not ours")
    with whole_file(path) as partial:
        partial.write_text("whole")
    assert not left.exists()
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_a_parquet_file_that_was_given_up_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "readings.parquet"

    def fail() -> None:
        with parquet_file(path):
            raise ValueError("no more pages")

    with pytest.raises(ValueError, match="no more pages"):
        fail()
    assert os.listdir(tmp_path) == []
    with parquet_file(path):
        pass
    assert os.listdir(tmp_path) == [path.name]
