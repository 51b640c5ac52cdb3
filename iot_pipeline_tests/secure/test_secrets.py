"""Commands and runs with secrets leave them nowhere: not on the screen, not on disk."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from iot_pipeline.defs.instance import prepare_instance
from iot_pipeline_tests.defs.dev_server import dagster_dev
from iot_pipeline_tests.pipeline import IOT, Pipeline
from iot_pipeline_tests.servers import OwnServices, clean_environment, free_ports

pytestmark = pytest.mark.services

# Never right; what was tried is not told either.
WRONG = "hunter2-is-no-password"
ATTEMPTS: tuple[tuple[dict[str, str], str], ...] = (
    ({}, "SUCCESS"),
    ({"IOT_KAFKA_SASL_PASSWORD": WRONG}, "FAILURE"),
)


@pytest.fixture
def told(secure_pipeline: Pipeline, secure_servers: OwnServices) -> dict[str, str]:
    """The settings, with the secrets themselves in variables instead of the names of files."""
    env = dict(secure_pipeline.env)
    for kind, name in (("kafka", "KAFKA_SASL_PASSWORD"), ("cassandra", "CASSANDRA_PASSWORD")):
        file = Path(env.pop(f"IOT_{name}_FILE"))
        env[f"IOT_{name}"] = file.read_text()
        assert file == secure_servers.local.secure.folder / f"{kind}.password"
    # A property that hurts nothing, and whose value is a secret as far as anybody knows.
    return env | {"IOT_KAFKA__SSL_KEYSTORE_PASSWORD": "whose-keystore-is-not-there"}


def secrets_of(env: Mapping[str, str]) -> list[str]:
    return [value for name, value in env.items() if "PASSWORD" in name] + [WRONG]


def assert_untold(text: str | bytes, secrets: list[str], where: object) -> None:
    content = text.encode() if isinstance(text, str) else text
    for secret in secrets:
        assert secret.encode() not in content, f"a secret is in {where}"


def look_through(folder: Path, secrets: list[str], but_for: Path | None = None) -> int:
    """Read every file below, and each name; returns how many there were."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        if but_for is None or but_for not in path.parents:
            assert_untold(path.read_bytes(), secrets, path)
    return len(files)


def test_commands_tell_no_secret(told: dict[str, str], tmp_path: Path) -> None:
    # Which would be shown beside it, were it printed.
    (tmp_path / ".env").write_text(
        "".join(f"{name}={value}\n" for name, value in told.items() if "PASSWORD" in name)
    )
    rest = {name: value for name, value in told.items() if "PASSWORD" not in name}
    wrong = {"IOT_KAFKA_SASL_PASSWORD": WRONG}
    commands: list[tuple[tuple[str, ...], dict[str, str], int]] = [
        (("settings",), {}, 0),
        (("settings", "--json"), {}, 0),
        (("-v", "simulate", "--count", "50", "--rate", "max"), {}, 0),
        (("-v", "drain"), {}, 0),
        (("-v", "lag"), {}, 0),
        (("-v", "lag"), wrong, 2),
        (("-v", "lag"), {"IOT_CASSANDRA_PASSWORD": WRONG}, 2),
        (("lag",), {"IOT_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}, 2),
        (("lag",), {**wrong, "IOT_PARTITIONS": "many"}, 2),
    ]
    for command, more, code in commands:
        done = subprocess.run(
            [IOT, *command],
            cwd=tmp_path,
            env=clean_environment({**rest, **more}),
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert_untold(done.stdout + done.stderr, secrets_of(told), command)
        assert b"Traceback" not in done.stderr


def test_runs_of_dagster_keep_no_secret(told: dict[str, str], tmp_path: Path) -> None:
    home = prepare_instance(tmp_path / "dagster")
    env = told | {"IOT_DATA_DIR": str(tmp_path / "data"), "IOT_INGEST_MODE": "drain"}
    secrets = secrets_of(told)
    for wrong, status in ATTEMPTS:
        log = tmp_path / f"{status}.log"
        with dagster_dev(home, free_ports(1)[0], {**env, **wrong}, log) as dev:
            run = dev.launch("ingest")
            assert dev.finish(run, 120)["status"] == status, dev.messages(run)[-8:]
            said = str(dev.messages(run))
            assert_untold(said, secrets, "the run's log")
            for process in (dev.process.pid, *_children(dev.process.pid)):
                assert_untold(" ".join(psutil.Process(process).cmdline()), secrets, "arguments")
    assert look_through(tmp_path, secrets) > 10
    # Read the same way, so what was looked for would have been found.
    kept = [path for path in home.rglob("*") if path.is_file()]
    assert any(b"it does not let us in" in path.read_bytes() for path in kept)


def test_the_servers_keep_their_secrets_in_one_folder(
    secure_servers: OwnServices, told: dict[str, str]
) -> None:
    doors = secure_servers.local.secure.folder
    folder = secure_servers.local.folder
    assert look_through(folder, secrets_of(told), but_for=doors) > 10
    for path in doors.iterdir():
        is_for_all = path.name in ("ca.pem", "cassandra.yaml")
        assert is_for_all or path.stat().st_mode & 0o077 == 0, path
    for name in ("kafka", "cassandra"):
        arguments = psutil.Process(secure_servers.pid(name)).cmdline()
        assert_untold(" ".join(arguments), secrets_of(told), f"the arguments of {name}")


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]
