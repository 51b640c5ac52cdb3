"""Read docker-compose.yml as strictly as a second reader must.

Docker Compose and `iot up` run the same file. Whatever this reader does not carry out, it
refuses by name: a key passed over here would be a server that differs without a word.

Belongs here: the file's meaning. Does not belong here: what an image makes of its variables
(`local.launch`).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

import yaml

from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings_sources import project_root

# Image repository -> what it is. Anything else is refused, not guessed.
IMAGES = {
    "apache/kafka": "kafka",
    "cassandra": "cassandra",
    "library/cassandra": "cassandra",
}
LOOPBACK = "127.0.0.1"
EXACT_VERSION = re.compile(r"\d+\.\d+\.\d+")

_TOP_KEYS = {"name", "services", "volumes"}
_SERVICE_KEYS = {
    "image", "hostname", "entrypoint", "ports", "environment", "volumes", "healthcheck",
    "stop_grace_period",
}  # fmt: skip
_HEALTH_KEYS = {"test", "interval", "timeout", "start_period", "retries"}
_DURATION = re.compile(r"(?:(\d+)m)?(?:(\d+)s)?")
_NOT_TEXT = re.compile(r"[-+.]?\d.*|true|false|yes|no|on|off|y|n", re.IGNORECASE)
_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)"
    r"|\{(?P<name>[A-Za-z_]\w*)(?:(?P<operator>:?-)(?P<default>[^{}$]*))?\}|(?P<invalid>))"
)


@dataclass(frozen=True, slots=True)
class Definition:
    """Where the services are described."""

    compose_file: Path
    services_folder: Path


@dataclass(frozen=True, slots=True)
class Service:
    """One service, its variables filled in.

    `entrypoint` is what replaces the image's own command, empty where nothing does; `mounts` maps
    folders and files of the container to those of this machine; `hostnames` are the names by which
    containers would reach it; `address` is where it listens here, and `others` says the same of
    the names of other nodes (`local.nodes`).
    """

    name: str
    kind: str
    image: str
    version: str
    entrypoint: tuple[str, ...]
    environment: Mapping[str, str]
    ports: tuple[int, ...]
    mounts: Mapping[str, Path]
    hostnames: frozenset[str]
    start_seconds: float
    stop_grace_seconds: float
    address: str = LOOPBACK
    others: Mapping[str, str] = field(default_factory=dict)


def find_definition() -> Definition:
    """The project's own docker-compose.yml and services/, else the copy inside the wheel."""
    checkout = Path(__file__).resolve().parents[2]
    bundle = Path(str(resources.files("iot_pipeline").joinpath("_bundle")))
    for folder in (project_root(), bundle, checkout):
        definition = Definition(folder / "docker-compose.yml", folder / "services")
        if definition.compose_file.is_file() and definition.services_folder.is_dir():
            return definition
    raise ConfigurationError(
        f"no docker-compose.yml with a services/ folder in {Path.cwd()} or above it, and none in "
        "the installed package: install iot-pipeline again"
    )


def read_compose(
    path: Path, variables: Mapping[str, str], volumes_folder: Path
) -> dict[str, Service]:
    """Read the services of a compose file, in its order.

    Args:
        path: the file; relative mounts start at its folder.
        variables: what `${NAME:-default}` sees; nothing else is looked at.
        volumes_folder: named volumes become folders in here (nothing is created).

    Raises:
        ConfigurationError: names the first key, value, image or variable that this reader
            would not carry out as Docker Compose does.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except yaml.YAMLError as exc:
        raise ConfigurationError(f"{path}: {exc}") from exc
    reader = _Reader(path, variables, volumes_folder)
    return reader.read(document)


class _StrictLoader(yaml.SafeLoader):
    """YAML as Compose reads it: `on`, 22:22 and 012 stay text, no key appears twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own way to say it)
        first: [(tag, pattern) for tag, pattern in entries if tag == "tag:yaml.org,2002:null"]
        for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"{key.value}: given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Unquoted(str):
    """Text that Compose would read as a number or a truth value: 1.10 becomes 1.1 there."""

    __slots__ = ()


def _construct_text(loader: _StrictLoader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    return _Unquoted(text) if node.style is None and _NOT_TEXT.fullmatch(text) else text


_StrictLoader.add_constructor("tag:yaml.org,2002:str", _construct_text)


class _Reader:
    def __init__(self, path: Path, variables: Mapping[str, str], volumes_folder: Path) -> None:
        self._path = path
        self._variables = variables
        self._volumes_folder = volumes_folder
        self._published: dict[int, str] = {}

    def read(self, document: object) -> dict[str, Service]:
        top = self._mapping(document, "", _TOP_KEYS)
        for name, options in self._mapping(top.get("volumes"), "volumes").items():
            self._mapping(options, f"volumes.{name}", set())
        self._volumes = set(self._mapping(top.get("volumes"), "volumes"))
        services = self._mapping(top.get("services"), "services")
        return {name: self._service(name, value) for name, value in services.items()}

    def _service(self, name: str, value: object) -> Service:
        at = f"services.{name}"
        keys = self._mapping(value, at, _SERVICE_KEYS)
        image = self._text(keys.get("image"), f"{at}.image")
        repository, _, version = image.partition(":")
        if repository not in IMAGES:
            self._refuse(f"{at}.image", f"{image}: `iot up` knows {' and '.join(IMAGES)} only")
        if not EXACT_VERSION.fullmatch(version):
            self._refuse(f"{at}.image", f"{image}: expected an exact version such as 1.2.3")
        hostname = self._text(keys.get("hostname", name), f"{at}.hostname")
        return Service(
            name=name,
            kind=IMAGES[repository],
            image=image,
            version=version,
            entrypoint=tuple(
                self._text(word, f"{at}.entrypoint")
                for word in self._list(keys.get("entrypoint"), f"{at}.entrypoint")
            ),
            environment=self._environment(keys.get("environment"), f"{at}.environment"),
            ports=tuple(self._ports(keys.get("ports"), name, f"{at}.ports")),
            mounts=dict(self._mounts(keys.get("volumes"), f"{at}.volumes")),
            hostnames=frozenset({name, hostname}),
            start_seconds=self._start_seconds(keys.get("healthcheck"), f"{at}.healthcheck"),
            stop_grace_seconds=self._seconds(
                keys.get("stop_grace_period", "10s"), f"{at}.stop_grace_period"
            ),
        )

    def _environment(self, value: object, at: str) -> dict[str, str]:
        variables = self._mapping(value, at)
        for name, item in variables.items():
            if isinstance(item, _Unquoted):
                self._refuse(f"{at}.{name}", f"{item}: expected quotes around it")
        return {name: self._text(item, f"{at}.{name}") for name, item in variables.items()}

    def _ports(self, value: object, service: str, at: str) -> Iterator[int]:
        for item in self._list(value, at):
            text = self._text(item, at)
            match = re.fullmatch(r"127\.0\.0\.1:(\d{1,5}):(\d{1,5})", text)
            if not match or match[1] != match[2]:
                self._refuse(at, f"{text}: expected 127.0.0.1:N:N, one number inside and outside")
            port = int(match[1])
            if port in self._published:
                self._refuse(at, f"{port} is already published by {self._published[port]}")
            self._published[port] = service
            yield port

    def _mounts(self, value: object, at: str) -> Iterator[tuple[str, Path]]:
        for item in self._list(value, at):
            text = self._text(item, at)
            source, _, rest = text.partition(":")
            target, _, mode = rest.partition(":")
            if not target.startswith("/"):
                self._refuse(at, f"{text}: expected SOURCE:/TARGET or SOURCE:/TARGET:ro")
            if source.startswith("."):
                if mode != "ro":
                    self._refuse(at, f"{text}: a file of the project is mounted read-only (:ro)")
                yield target, (self._path.parent / source).resolve()
            elif source in self._volumes:
                if mode:
                    self._refuse(at, f"{text}: expected no mode on a named volume")
                yield target, self._volumes_folder / source
            else:
                self._refuse(at, f"{text}: expected a ./path, or a volume listed under `volumes`")

    def _start_seconds(self, value: object, at: str) -> float:
        # The command itself is not run here (it is bash in the container): `iot up` asks for an
        # answer in the server's own protocol, which is stricter, for as long as Docker would.
        keys = self._mapping(value, at, _HEALTH_KEYS)
        test = self._list(keys.get("test"), f"{at}.test")
        if not test or test[0] != "CMD":
            self._refuse(f"{at}.test", "expected a list that starts with CMD")
        interval = self._seconds(keys.get("interval", "30s"), f"{at}.interval")
        self._seconds(keys.get("timeout", "30s"), f"{at}.timeout")
        start = self._seconds(keys.get("start_period", "0s"), f"{at}.start_period")
        retries = self._text(keys.get("retries", "3"), f"{at}.retries")
        if not retries.isdecimal():
            self._refuse(f"{at}.retries", f"{retries}: expected a number")
        return start + interval * int(retries)

    def _seconds(self, value: object, at: str) -> float:
        text = self._text(value, at)
        match = _DURATION.fullmatch(text)
        if not text or not match:
            self._refuse(at, f"{text!r}: expected a duration such as 30s or 1m30s")
        return int(match[1] or 0) * 60 + int(match[2] or 0)

    def _mapping(self, value: object, at: str, known: set[str] | None = None) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._refuse(at or "the file", "expected a mapping")
        for key in value:
            if known is not None and key not in known:
                self._refuse(f"{at}.{key}".lstrip("."), "not understood by `iot up`")
        return value

    def _list(self, value: object, at: str) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            self._refuse(at, "expected a list")
        return value

    def _text(self, value: object, at: str) -> str:
        if not isinstance(value, str):
            self._refuse(at, f"{value!r}: expected text")
        return _VARIABLE.sub(self._substitute(value, at), value)

    def _substitute(self, text: str, at: str) -> Callable[[re.Match[str]], str]:
        def substitute(match: re.Match[str]) -> str:
            if match["escaped"]:
                return "$"
            name = match["plain"] or match["name"]
            if name is None:
                self._refuse(at, f"{text!r}: expected $NAME, ${{NAME}} or ${{NAME:-default}}")
            value = self._variables.get(name)
            if match["operator"] and (value is None or (value == "" and ":" in match["operator"])):
                return match["default"]
            if value is None:
                self._refuse(at, f"the variable {name} is not set and has no default")
            return value

        return substitute

    def _refuse(self, at: str, why: str) -> NoReturn:
        raise ConfigurationError(f"{self._path.name}: {at}: {why}")
