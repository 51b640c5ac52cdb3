"""Where settings are written down: environment, `.env`, files of secrets, Kafka's properties.

Belongs here: reading them, and saying what cannot be read. Does not belong here: what a value
means (`settings`, `settings_kafka`, `settings_cassandra`).
"""

import io
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from dotenv import dotenv_values

from iot_pipeline.errors import ConfigurationError

# A client's password or a file of properties is no larger.
_LARGEST_FILE_BYTES = 65_536


def project_root() -> Path:
    """The nearest folder here or above that holds docker-compose.yml and services/, else here."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "docker-compose.yml").is_file() and (folder / "services").is_dir():
            return folder
    return here


def env_file() -> Path:
    """Where `.env` is looked for; there may be none."""
    return project_root() / ".env"


def is_injected(variable: str, value: str) -> bool:
    """Whether an orchestrator put it there, because a service of it is called `iot-...`.

    Kubernetes and Docker's links do; it is no setting, though IOT_KAFKA_PORT has the name of one.
    """
    is_service = re.fullmatch(r"IOT_\w+?_SERVICE_(HOST|PORT(_\w+)?)", variable)
    is_link = re.fullmatch(r"IOT_\w+?_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?", variable)
    is_address = re.match(r"(tcp|udp|sctp)://", value)
    return bool(is_service or (is_link and (is_address or is_link[1])))


def injected_variables() -> list[str]:
    """Those of this process, as NAME=VALUE."""
    return sorted(f"{k}={v}" for k, v in os.environ.items() if is_injected(k, v))


def our_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The IOT_ variables that configure a pipeline, by their name in lower case without IOT_.

    Raises:
        ConfigurationError: a value is not UTF-8; no client could be given it.
    """
    # The tests' own switches and make's configure none.
    found = {
        name: value
        for name, value in variables.items()
        if name.startswith("IOT_")
        and not name.startswith(("IOT_TEST_", "IOT_CHAOS_"))
        and not is_injected(name, value)
    }
    for name, value in found.items():
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ConfigurationError(f"{name}: expected UTF-8")
    return {name[4:].lower(): value for name, value in found.items()}


def read_env_file(path: Path) -> dict[str, str]:
    """The variables of a `.env`; none where there is no such file.

    Raises:
        ConfigurationError: it is not UTF-8, as an editor on Windows may save it.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return {}
    except UnicodeDecodeError:
        text = "\0"
    except OSError as exc:
        raise ConfigurationError(f"{path}: {(exc.strerror or str(exc)).lower()}") from None
    if "\0" in text:
        raise ConfigurationError(
            f"{path}: it is not UTF-8 (UTF-16, as an editor on Windows saves it?): save it as UTF-8"
        )
    found = dotenv_values(stream=io.StringIO(text))
    return {name: value for name, value in found.items() if value is not None}


def take_secrets_from_files(given: dict[str, str], secrets: Collection[str]) -> dict[str, str]:
    """Put the content of each IOT_<SECRET>_FILE where its secret belongs, and drop the path.

    A newline at the end is an editor's, not the secret's.

    Returns:
        The secrets that were read -> the variable that named their file.

    Raises:
        ConfigurationError: a file cannot be read, or a secret is set in both ways.
    """
    read = {}
    for name in secrets:
        path = given.pop(f"{name}_file", "")
        if not path:
            continue
        variable = f"IOT_{name.upper()}"
        if given.get(name):
            raise ConfigurationError(
                f"{variable} and {variable}_FILE are both set: expected one of them"
            )
        given[name] = _read_text(f"{variable}_FILE", path).removesuffix("\n").removesuffix("\r")
        read[name] = f"{variable}_FILE"
    return read


def read_properties(variable: str, path: str) -> dict[str, str]:
    """The lines `name = value` of a properties file; `#` and `!` begin a comment.

    Raises:
        ConfigurationError: the file cannot be read, or a line is neither; its text is not told,
            for it may hold a secret.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(_read_text(variable, path).splitlines(), start=1):
        text = line.strip()
        if not text or text[0] in "#!":
            continue
        name, equals, value = text.partition("=")
        if not equals or text.endswith("\\"):
            raise ConfigurationError(
                f"{variable}={path}: line {number}: expected name=value on one line"
            )
        found[name.strip()] = value.strip()
    return found


def why_unreadable(path: Path) -> str:
    """Why a file cannot be read, in few words; empty when it can."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as exc:
        return (exc.strerror or str(exc)).lower()
    return ""


def unreadable_files(paths: Iterable[tuple[str, str]]) -> list[str]:
    """A sentence for each (setting, path) that names a file which cannot be read."""
    return [
        f"IOT_{name.upper()}={path}: {why}"
        for name, path in paths
        if path and (why := why_unreadable(Path(path)))
    ]


def in_project(path: str) -> str:
    """A path as the settings mean it: a relative one begins at the project, as IOT_DATA_DIR."""
    return str(project_root() / path) if path else ""


def _read_text(variable: str, path: str) -> str:
    place = Path(in_project(path))
    why = why_unreadable(place)
    if not why:
        content = place.read_bytes()[: _LARGEST_FILE_BYTES + 1]
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = "\0"
        why = "expected UTF-8" if "\0" in text else ""
        if len(content) > _LARGEST_FILE_BYTES:
            why = f"expected {_LARGEST_FILE_BYTES:,} bytes at most"
    if why:
        raise ConfigurationError(f"{variable}={path}: {why}")
    return text
