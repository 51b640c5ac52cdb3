"""Locked jars: what is in the cache is what was locked, or it is not used."""

import hashlib
import json
from pathlib import Path

import pytest

from iot_pipeline.errors import ServiceError
from iot_pipeline.local.compose import find_definition
from iot_pipeline.local.jars import JarLock, LockedJar, ensure_jars, missing_jars, read_lock

CONTENT = b"the jar that was locked"
JAR = LockedJar(
    "org.example", "thing", "1.0", "", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT)
)
LOCK = JarLock("example:1.0.0", (JAR,))


class Repository:
    """Gives what it is told to, one answer after the other."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)

    def __call__(self, jar: LockedJar, folder: Path) -> Path:
        path = folder / jar.file_name
        path.write_bytes(self.answers.pop(0))
        return path


def test_a_jar_is_fetched_once_and_then_taken_from_the_cache(tmp_path: Path) -> None:
    fetched: list[int] = []
    (path,) = ensure_jars(LOCK, tmp_path, fetched.append, Repository(CONTENT))
    assert path == tmp_path / "org" / "example" / "thing" / "1.0" / "thing-1.0.jar"
    assert path.read_bytes() == CONTENT
    assert ensure_jars(LOCK, tmp_path, fetched.append, Repository()) == [path]
    assert fetched == [len(CONTENT)]
    assert missing_jars(LOCK, tmp_path) == []


def test_a_corrupted_jar_in_the_cache_is_replaced(tmp_path: Path) -> None:
    (path,) = ensure_jars(LOCK, tmp_path, fetch=Repository(CONTENT))
    path.write_bytes(CONTENT[::-1])
    ensure_jars(LOCK, tmp_path, fetch=Repository(CONTENT))
    assert path.read_bytes() == CONTENT


def test_a_download_that_broke_off_is_tried_again(tmp_path: Path) -> None:
    (path,) = ensure_jars(LOCK, tmp_path, fetch=Repository(CONTENT[:5], CONTENT))
    assert path.read_bytes() == CONTENT


def test_a_jar_that_is_not_the_locked_one_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ServiceError) as caught:
        ensure_jars(LOCK, tmp_path, fetch=Repository(b"evil", b"evil"))
    assert f"thing-1.0.jar: expected sha256 {JAR.sha256}" in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".jar"]
    assert missing_jars(LOCK, tmp_path) == [JAR]


def test_what_an_interrupted_download_left_is_swept_up(tmp_path: Path) -> None:
    (tmp_path / ".fetch-abc").mkdir()
    ensure_jars(LOCK, tmp_path, fetch=Repository(CONTENT))
    assert not (tmp_path / ".fetch-abc").exists()


def test_a_tag_without_a_lock_is_refused(tmp_path: Path) -> None:
    lock = find_definition().services_folder / "kafka.lock"
    with pytest.raises(ServiceError, match=r"apache/kafka:4\.4\.0: no jars are locked for it"):
        read_lock(lock, "apache/kafka:4.4.0")
    with pytest.raises(ServiceError, match="no jars are locked"):
        read_lock(tmp_path / "none.lock", "apache/kafka:4.3.1")


def test_a_lock_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kafka.lock"
    path.write_text("{")
    with pytest.raises(ServiceError, match=r"kafka\.lock: not a lock"):
        read_lock(path, "x")


@pytest.mark.parametrize("name", ["kafka", "cassandra"])
def test_the_shipped_locks_are_whole_and_name_no_repository(name: str) -> None:
    path = find_definition().services_folder / f"{name}.lock"
    document = json.loads(path.read_text(encoding="utf-8"))
    jars = read_lock(path, document["image"]).jars
    assert len({(jar.group, jar.artifact, jar.classifier) for jar in jars}) == len(jars)
    assert all(len(jar.sha256) == 64 and jar.size_bytes > 0 for jar in jars)
    assert "//" not in path.read_text(encoding="utf-8")


@pytest.mark.services
def test_jgo_fetches_a_jar_that_has_the_locked_hash(tmp_path: Path) -> None:
    folder = find_definition().services_folder
    jars = read_lock(folder / "cassandra.lock", "cassandra:5.0.9").jars
    smallest = min((jar for jar in jars if jar.classifier), key=lambda jar: jar.size_bytes)
    (path,) = ensure_jars(JarLock("cassandra:5.0.9", (smallest,)), tmp_path)
    assert path.stat().st_size == smallest.size_bytes
