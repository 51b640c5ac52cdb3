"""What documents, comments and docstrings point at is in the repository."""

import re
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from iot_pipeline_tests.conftest import LONG_FILES

ROOT = Path(__file__).resolve().parents[2]
_TEXT = {".md", ".py", ".toml", ".yaml", ".cql", ".j2", ".json", ".html", ""}
# A document by its name. Names that tests and commands write at run time follow.
_DOCUMENT = re.compile(r"(?<![\w/.{*-])[\w/-]*[\w-]\.md\b")
_MADE_AT_RUN_TIME = {"performance.md", "table.md"}
# A document by its name without an ending, as notes beside a repository are often cited.
_SHOUTED = re.compile(r"\b[A-Z]{3,}-[A-Z]{3,}\b")
_NO_DOCUMENT = {"SCRAM-SHA", "START-END"}  # offsets, as a command takes them
_SECTION = re.compile(r"[^\s(]+, section \d+", re.IGNORECASE)
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
# A file of the package in prose: `core/reading/offsets.py`, `services/cassandra/cassandra.yaml`.
_SOURCE = re.compile(r"`([\w.-]+/[\w./-]+\.(?:py|cql|yaml|j2|lock|png|toml))`")


def _in_git() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


FILES = _in_git()
TEXTS = [name for name in FILES if PurePosixPath(name).suffix in _TEXT and name != "LICENSE"]


def _is_there(cited: str) -> bool:
    """Whether a file in git is called so, or ends so."""
    name = cited.removeprefix("./")
    return any(file == name or file.endswith(f"/{name}") for file in FILES)


def _lines(name: str) -> list[tuple[int, str]]:
    text = (ROOT / name).read_text("utf-8", errors="replace")
    return list(enumerate(text.splitlines(), start=1))


def test_there_is_something_to_read() -> None:
    assert "README.md" in TEXTS
    assert len(TEXTS) > 300


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [(_DOCUMENT, _MADE_AT_RUN_TIME), (_SHOUTED, _NO_DOCUMENT), (_SECTION, set())],
    ids=["by file", "by name", "by section"],
)
def test_every_cited_document_is_in_git(pattern: re.Pattern[str], allowed: set[str]) -> None:
    missing = []
    for name in TEXTS:
        for number, line in _lines(name):
            if "://" in line:
                continue
            for cited in pattern.findall(line):
                if cited not in allowed and not _is_there(cited):
                    missing.append(f"{name}:{number}: {cited}")
    assert not missing, "\n".join(missing)


def test_every_link_of_a_document_leads_to_a_file() -> None:
    missing = []
    for name in (name for name in TEXTS if name.endswith(".md")):
        for number, line in _lines(name):
            for target in _LINK.findall(line):
                if "://" in target or target.startswith("data:"):
                    continue
                if not (ROOT / name).parent.joinpath(target).exists():
                    missing.append(f"{name}:{number}: {target}")
    assert not missing, "\n".join(missing)


def test_every_source_file_that_a_document_names_is_in_git() -> None:
    missing = [
        f"{name}:{number}: {cited}"
        for name in TEXTS
        if name.endswith(".md")
        for number, line in _lines(name)
        for cited in _SOURCE.findall(line)
        if not _is_there(cited)
    ]
    assert not missing, "\n".join(missing)


def test_the_files_that_tests_begin_with_are_there() -> None:
    assert [name for name in LONG_FILES if not (ROOT / "iot_pipeline_tests" / name).is_file()] == []
