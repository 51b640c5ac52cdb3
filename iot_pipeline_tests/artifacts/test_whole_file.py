"""Files that are whole or not there, whoever dies while writing them."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from iot_pipeline.artifacts.parquet import parquet_file
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.files import Kept, is_stream, whole_file, why_unwritable
from iot_pipeline.local.manifests import new_manifest_id
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
        "from iot_pipeline.files import is_stream, whole_file\n"
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
        with parquet_file(path, QUANTITIES):
            raise ValueError("no more pages")

    with pytest.raises(ValueError, match="no more pages"):
        fail()
    assert os.listdir(tmp_path) == []
    with parquet_file(path, QUANTITIES):
        pass
    assert os.listdir(tmp_path) == [path.name]


def test_a_link_is_written_through_and_mode_and_owner_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "far" / "readings.csv", tmp_path / "link.csv"
    target.parent.mkdir()
    target.write_text("yesterday's")
    target.chmod(0o640)
    if os.getuid() == 0:
        os.chown(target, 54_321, 54_321)
    link.symlink_to(target)
    before = target.stat()
    with whole_file(link) as partial:
        partial.write_text("today's")
    assert link.is_symlink()
    assert target.read_text() == "today's"
    after = target.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    dangling = tmp_path / "dangling.csv"
    dangling.symlink_to(tmp_path / "not yet.csv")
    with whole_file(dangling) as partial:
        partial.write_text("new")
    assert dangling.is_symlink()
    assert (tmp_path / "not yet.csv").read_text() == "new"


def test_what_is_no_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    fifo, folder = tmp_path / "fifo", tmp_path / "folder"
    os.mkfifo(fifo)
    folder.mkdir()
    for path, said in (
        (fifo, "it is a FIFO"),
        (folder, "it is a folder"),
        (Path("/dev/null"), "a"),
    ):
        with pytest.raises(OSError, match=said), whole_file(path):
            raise AssertionError("it was opened")
    assert fifo.is_fifo()
    assert is_stream(fifo)
    assert is_stream(Path("/dev/null"))
    assert not is_stream(folder)
    assert not is_stream(tmp_path / "none")


def test_a_folder_is_tried_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    assert why_unwritable(folder) == ""
    assert os.listdir(folder) == []
    (tmp_path / "file").touch()
    assert why_unwritable(tmp_path / "file" / "manifests") == "not a directory"
    assert Kept(tmp_path / "file" / "first_day", date).read() is None


def test_a_simulation_whose_manifest_could_not_be_kept_is_refused_before_it_sends(
    tmp_path: Path,
) -> None:
    data_dir = tmp_path / "data"
    data_dir.touch()
    with pytest.raises(ConfigurationError, match=r"IOT_DATA_DIR=.*cannot be kept in .*manifests"):
        new_manifest_id(data_dir, "rough_day", datetime.now(UTC))
