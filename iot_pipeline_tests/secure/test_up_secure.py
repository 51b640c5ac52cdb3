"""`iot up --secure` and the demo on it: new servers only, and what lets a person in."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from iot_pipeline.errors import ServiceError
from iot_pipeline.local.cql import LoginRefusedError, run_as
from iot_pipeline.local.secure import USER, SecureServers
from iot_pipeline.local.servers import LocalServices
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks.machinery.registry import checks_of
from iot_pipeline_tests.pipeline import IOT
from iot_pipeline_tests.servers import OwnServices, clean_environment, free_ports


def without_doors(servers: OwnServices) -> dict[str, str]:
    """The settings of a person who has not been told yet how to get in."""
    doors = servers.local.secure.environment()
    return {name: value for name, value in servers.env.items() if name not in doors}


def iot(folder: Path, env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [IOT, *arguments],
        cwd=folder,
        env=clean_environment(env),
        capture_output=True,
        text=True,
        check=False,
    )


def test_servers_that_were_open_are_not_locked_afterwards(tmp_path: Path) -> None:
    (tmp_path / "services" / "volumes").mkdir(parents=True)
    services = LocalServices(Settings(data_dir=tmp_path), lambda _: None)
    with pytest.raises(ServiceError, match="were made without --secure"):
        services.up(secure=True)
    assert not services.secure.is_there


def test_wiped_doors_are_named_where_env_still_leads_to_them(tmp_path: Path) -> None:
    doors = SecureServers((tmp_path / "data" / "services" / "secure").resolve())
    doors.make()
    lines = doors.environment()
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    wiped = iot(tmp_path, {}, "down", "--wipe", "--yes")
    assert wiped.returncode == 0, wiped
    (said,) = [line for line in wiped.stderr.splitlines() if line.startswith("take these")]
    assert said.endswith(", ".join(lines))
    assert "IOT_KAFKA_SASL_PASSWORD_FILE" in said
    (tmp_path / ".env").unlink()
    again = iot(tmp_path, {}, "down", "--wipe", "--yes")
    assert "take these" not in again.stderr


def test_secrets_are_made_once_and_only_their_owner_may_read_them(tmp_path: Path) -> None:
    doors = SecureServers(tmp_path / "secure")
    before = os.umask(0)
    try:
        doors.make()
    finally:
        os.umask(before)
    assert doors.folder.stat().st_mode & 0o077 == 0
    kept = {path: path.read_bytes() for path in doors.folder.iterdir()}
    assert {path.name for path in kept} == {
        "ca.key",
        "ca.pem",
        "cassandra-admin.password",
        "cassandra.password",
        "kafka.password",
    }
    assert all(path.suffix == ".pem" or path.stat().st_mode & 0o077 == 0 for path in kept)
    doors.make()
    assert kept == {path: path.read_bytes() for path in doors.folder.iterdir()}
    secrets = list(doors.folder.glob("*.password"))
    assert not {path.read_text() for path in secrets} & set(doors.environment().values())


@pytest.mark.services
def test_up_says_how_to_get_in_until_it_is_set(secure_servers: OwnServices, tmp_path: Path) -> None:
    outside = without_doors(secure_servers)
    said = iot(tmp_path, outside, "up")
    assert said.returncode == 0, said.stderr
    assert "kafka 127.0.0.1:" in said.stdout
    lines = [line for line in said.stdout.splitlines() if line.startswith("IOT_")]
    assert dict(line.split("=", 1) for line in lines) == secure_servers.local.secure.environment()
    (tmp_path / ".env").write_text("\n".join(lines))
    assert "IOT_" not in iot(tmp_path, outside, "up").stdout
    assert iot(tmp_path, outside, "status").returncode == 0
    assert iot(tmp_path, outside, "setup").returncode == 0


@pytest.mark.services
def test_servers_that_speak_tls_are_recognized_from_elsewhere(
    secure_servers: OwnServices, tmp_path: Path
) -> None:
    env = {**secure_servers.env, "IOT_DATA_DIR": str(tmp_path)}
    states = [s.state for s in LocalServices(Settings.from_env(env), lambda _: None).status()]
    assert states == ["elsewhere", "elsewhere"]
    outside = {**without_doors(secure_servers), "IOT_DATA_DIR": str(tmp_path)}
    states = [s.state for s in LocalServices(Settings.from_env(outside), lambda _: None).status()]
    assert states == ["stopped", "stopped"]


@pytest.mark.services
def test_the_user_that_everybody_knows_is_locked_out(secure_servers: OwnServices) -> None:
    doors = secure_servers.local.secure
    address = ("127.0.0.1", secure_servers.cassandra_port)
    with pytest.raises(LoginRefusedError):
        run_as(address, doors.tls, "cassandra", "cassandra")
    with pytest.raises(LoginRefusedError):
        run_as(address, doors.tls, USER, "iot")
    password = (doors.folder / "cassandra.password").read_text()
    run_as(address, doors.tls, USER, password, ("SELECT key FROM system.local",))


@pytest.mark.services
def test_a_demo_on_them_finds_its_way_in_by_itself(
    secure_servers: OwnServices, tmp_path: Path
) -> None:
    port = str(free_ports(1)[0])
    said = iot(tmp_path, without_doors(secure_servers), "demo", "--once", "--port", port)
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"all {len(checks_of())} checks passed" in said.stdout + said.stderr
