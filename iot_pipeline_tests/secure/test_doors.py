"""What a person reads before a door that stays shut, on real servers; and that ours opens."""

import dataclasses
import re
import shutil
import ssl
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from iot_pipeline.clients.kafka import client_config
from iot_pipeline.clients.kafka_raw import RawKafka
from iot_pipeline.connections import open_connections
from iot_pipeline.local.certificates import ANY_NAME, make_certificate
from iot_pipeline.local.secure import SecureServers
from iot_pipeline.settings import Settings
from iot_pipeline_tests.load import produce
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.secure.administrator import admin_config
from iot_pipeline_tests.secure.forwarder import OTHER_ADDRESS, forwarded
from iot_pipeline_tests.servers import OwnServices

pytestmark = pytest.mark.services

WRONG = "hunter2-is-no-password"
EXPIRED = timedelta(days=-1)
NO_LOGIN = {
    "IOT_KAFKA_SASL_MECHANISM": "",
    "IOT_KAFKA_SASL_USERNAME": "",
    "IOT_KAFKA_SASL_PASSWORD_FILE": "",
}
PLAIN_KAFKA = {
    **NO_LOGIN,
    "IOT_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    "IOT_KAFKA_SSL_CA_LOCATION": "",
}
PLAIN_CASSANDRA = {"IOT_CASSANDRA_SSL": "false", "IOT_CASSANDRA_SSL_CA_LOCATION": ""}
NOBODY = {"IOT_CASSANDRA_USERNAME": "", "IOT_CASSANDRA_PASSWORD_FILE": ""}


def refused(pipeline: Pipeline, env: Mapping[str, str], *command: str, exit_code: int = 2) -> str:
    """What a command says that is not let in: one line, no traceback, no secret."""
    elsewhere = dataclasses.replace(pipeline, env={**pipeline.env, **env})
    said = str(elsewhere.iot(*(command or ("lag",)), exit_code=exit_code))
    assert "Traceback" not in said
    assert WRONG not in said
    (line,) = [line for line in said.splitlines() if line.startswith("iot: ")]
    assert "ry again" not in line
    return line


def test_readings_pass_over_tls_with_a_login_on_both_sides(secure_pipeline: Pipeline) -> None:
    said = secure_pipeline.iot("simulate", "--devices", "5", "--count", "500", "--rate", "max")
    assert "acknowledged 500" in str(said)
    assert "500 offsets = 500 stored" in str(secure_pipeline.iot("drain"))
    assert "all 500 offsets are proven" in str(secure_pipeline.iot("audit", "--all"))
    produce(
        secure_pipeline.brokers,
        secure_pipeline.topic,
        [(b"device_1", b"no reading")],
        **client_config(secure_pipeline.settings),
    )
    assert "1 rejected" in str(secure_pipeline.iot("drain")), "its letter went through the door"


def test_the_client_for_what_cannot_be_read_passes_the_same_door(
    secure_pipeline: Pipeline,
) -> None:
    raw = RawKafka(secure_pipeline.settings, 10)
    try:
        assert raw.producers(secure_pipeline.topic, [0]).keys() == {0}
    finally:
        raw.close()


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (
            {"IOT_KAFKA_SASL_PASSWORD_FILE": "", "IOT_KAFKA_SASL_PASSWORD": WRONG},
            "it does not let us in; IOT_KAFKA_SASL_USERNAME and IOT_KAFKA_SASL_PASSWORD are",
        ),
        (
            {"IOT_KAFKA_SASL_MECHANISM": "PLAIN"},
            "it does not take IOT_KAFKA_SASL_MECHANISM=PLAIN; it takes SCRAM-SHA-512, SCRAM-SHA-2",
        ),
        (
            PLAIN_KAFKA,
            "it wants TLS; set IOT_KAFKA_SECURITY_PROTOCOL=SSL",
        ),
        (
            {**NO_LOGIN, "IOT_KAFKA_SECURITY_PROTOCOL": "SSL"},
            "it asks for a login (SCRAM-SHA-512, SCRAM-SHA-256, OAUTHBEARER); set IOT_KAFKA_SECUR",
        ),
        (
            {"IOT_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "IOT_KAFKA_SSL_CA_LOCATION": ""},
            "it wants TLS; set IOT_KAFKA_SECURITY_PROTOCOL=SASL_SSL",
        ),
        (
            {"IOT_KAFKA_SSL_CA_LOCATION": ""},
            "signed by an authority that this system does not trust; set IOT_KAFKA_SSL_CA_LOCATION",
        ),
    ],
    ids=["password", "mechanism", "TLS", "login", "TLS under a login", "no authority"],
)
def test_kafkas_door_stays_shut_and_says_why(
    secure_pipeline: Pipeline, env: Mapping[str, str], words: str
) -> None:
    assert f"{secure_pipeline.brokers}: " in (said := refused(secure_pipeline, env))
    assert words in said


@pytest.mark.parametrize("command", [("setup",), ("simulate", "--count", "1"), ("drain",)])
def test_each_way_in_is_told_of_a_wrong_password(
    secure_pipeline: Pipeline, command: tuple[str, ...]
) -> None:
    wrong = {"IOT_KAFKA_SASL_PASSWORD_FILE": "", "IOT_KAFKA_SASL_PASSWORD": WRONG}
    assert "it does not let us in" in refused(secure_pipeline, wrong, *command)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (
            {"IOT_CASSANDRA_PASSWORD_FILE": "", "IOT_CASSANDRA_PASSWORD": WRONG},
            "Cassandra does not let us in (",
        ),
        (NOBODY, "Cassandra asks for a login; set IOT_CASSANDRA_USERNAME and"),
        (PLAIN_CASSANDRA, "it wants TLS; set IOT_CASSANDRA_SSL=true"),
        (
            {"IOT_CASSANDRA_SSL_CA_LOCATION": ""},
            "this system does not trust; set IOT_CASSANDRA_SSL_CA_LOCATION",
        ),
    ],
    ids=["password", "login", "TLS", "no authority"],
)
def test_cassandras_door_stays_shut_and_says_why(
    secure_pipeline: Pipeline, env: Mapping[str, str], words: str
) -> None:
    assert words in refused(secure_pipeline, env)


@pytest.mark.parametrize("which", ["KAFKA", "CASSANDRA"])
def test_another_authority_is_not_the_one_that_signed(
    secure_pipeline: Pipeline, another_authority: Path, which: str
) -> None:
    variable = f"IOT_{which}_SSL_CA_LOCATION"
    said = refused(secure_pipeline, {variable: str(another_authority)})
    assert f"signed by an authority that {variable}={another_authority} does not hold" in said


def test_a_certificate_for_another_name_is_refused(secure_pipeline: Pipeline) -> None:
    settings = secure_pipeline.settings
    port = int(settings.bootstrap_servers.rpartition(":")[2])
    with forwarded(port):
        said = refused(secure_pipeline, {"IOT_BOOTSTRAP_SERVERS": f"{OTHER_ADDRESS}:{port}"})
    assert f"its certificate is for another name than {OTHER_ADDRESS}" in said
    with forwarded(settings.cassandra_port):
        said = refused(secure_pipeline, {"IOT_CONTACT_POINTS": OTHER_ADDRESS})
        assert f"its certificate is for another name than {OTHER_ADDRESS}" in said
        lenient = {"IOT_CASSANDRA_SSL_CHECK_HOSTNAME": "false"}
        env = {**secure_pipeline.env, "IOT_CONTACT_POINTS": OTHER_ADDRESS, **lenient}
        with open_connections(Settings.from_env(env)) as connections:
            assert connections.tables.local_datacenter() == "datacenter1"


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (
            {
                "IOT_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "IOT_KAFKA_SASL_MECHANISM": "PLAIN",
                "IOT_KAFKA_SASL_USERNAME": "iot",
                "IOT_KAFKA_SASL_PASSWORD": WRONG,
            },
            "it asks for no login there; set IOT_KAFKA_SECURITY_PROTOCOL=PLAINTEXT",
        ),
        (
            {"IOT_KAFKA_SECURITY_PROTOCOL": "SSL"},
            "it speaks no TLS there; set IOT_KAFKA_SECURITY_PROTOCOL=PLAINTEXT",
        ),
        ({"IOT_CASSANDRA_SSL": "true"}, "it speaks no TLS there; set IOT_CASSANDRA_SSL=false"),
    ],
    ids=["login", "TLS", "TLS of Cassandra"],
)
def test_an_open_door_is_not_knocked_at_with_a_key(
    pipeline: Pipeline, env: Mapping[str, str], words: str
) -> None:
    assert words in refused(pipeline, env)


def show_certificate(servers: OwnServices, path: Path | None) -> None:
    """Have Kafka show clients this certificate; None: the one it started with."""
    kind = AlterConfigOpType.DELETE if path is None else AlterConfigOpType.SET
    values = {"location": str(path), "type": "PEM"} if path else {"location": "", "type": ""}
    entries = [
        ConfigEntry(f"listener.name.host.ssl.keystore.{name}", value, incremental_operation=kind)
        for name, value in values.items()
    ]
    broker = ConfigResource(ResourceType.BROKER, "1", incremental_configs=entries)
    host, _, port = servers.bootstrap_servers.rpartition(":")
    before = ssl.get_server_certificate((host, int(port)))
    admin = AdminClient(admin_config(servers))
    admin.incremental_alter_configs([broker])[broker].result(20)
    # The broker hears of it from the controller, a moment later.
    deadline = until(20)
    while ssl.get_server_certificate((host, int(port))) == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_expired_certificate_of_kafka_is_told_as_such(
    secure_servers: OwnServices, secure_pipeline: Pipeline, tmp_path: Path
) -> None:
    for name in ("ca.pem", "ca.key"):
        shutil.copy(secure_servers.local.secure.folder / name, tmp_path)
    # A broker takes no certificate for fewer names than it has.
    names = (*ANY_NAME, "kafka")
    expired = make_certificate(tmp_path, "kafka", hosts=names, lives=EXPIRED)
    show_certificate(secure_servers, expired)
    try:
        for command in (("lag",), ("simulate", "--count", "1")):
            said = refused(secure_pipeline, {}, *command, exit_code=1)
            assert f"{secure_pipeline.brokers}: its certificate has expired" in said
    finally:
        show_certificate(secure_servers, None)
    secure_pipeline.iot("lag")


def restart_cassandra(servers: OwnServices, look: ssl.SSLContext) -> None:
    """As it would start now; `look` is how its readiness is seen."""
    servers.down("cassandra")
    servers.local.secure.__dict__["tls"] = look
    servers.up("cassandra")


def test_cassandras_certificate_and_ours(
    secure_servers: OwnServices, secure_pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expired one is told and the next start makes a new one; ours is asked for, and taken."""
    doors = secure_servers.local.secure
    trusting, blind = doors.tls, ssl.create_default_context()
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    pem = str(doors.folder / "kafka.pem")

    def certify(self: SecureServers, kind: str) -> None:
        make_certificate(self.folder, kind, lives=EXPIRED)

    with monkeypatch.context() as patched:
        patched.setattr(SecureServers, "certify", certify)
        restart_cassandra(secure_servers, blind)
    said = refused(secure_pipeline, {}, "readings", "device_1", exit_code=1)
    assert re.search(r"connecting: 127\.0\.0\.1:\d+: its certificate has expired", said)

    blind.load_cert_chain(pem)
    shipped = SecureServers.of_cassandra

    def asking(self: SecureServers) -> dict[str, Any]:
        options = shipped(self)
        options["client_encryption_options"]["require_client_auth"] = True
        return options

    with monkeypatch.context() as patched:
        patched.setattr(SecureServers, "of_cassandra", asking)
        restart_cassandra(secure_servers, blind)
    said = refused(secure_pipeline, {}, "readings", "device_1")
    assert "it wants a certificate of ours; set IOT_CASSANDRA_SSL_CERTIFICATE_LOCATION" in said
    ours = {
        "IOT_CASSANDRA_SSL_CERTIFICATE_LOCATION": pem,
        "IOT_CASSANDRA_SSL_KEY_LOCATION": pem,
    }
    with open_connections(Settings.from_env({**secure_pipeline.env, **ours})) as connections:
        assert connections.tables.local_datacenter() == "datacenter1"

    restart_cassandra(secure_servers, trusting)
    secure_pipeline.iot("lag")
