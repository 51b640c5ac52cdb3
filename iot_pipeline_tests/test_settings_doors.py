"""Doors in the settings: what belongs together, what is refused; a secret is told nowhere."""

import ast
import sys
import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

import iot_pipeline.clients
from iot_pipeline.clients.kafka import NOTICES_SOON, check_config, client_config, raw_config
from iot_pipeline.connections import open_connections
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline.settings_kafka import REFUSED
from iot_pipeline.settings_words import explain

SECRET = "hunter2-nobody-may-read-this"
SCRAM = {
    "IOT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "IOT_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
    "IOT_KAFKA_SASL_USERNAME": "iot",
    "IOT_KAFKA_SASL_PASSWORD": SECRET,
}
OIDC = {
    "IOT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "IOT_KAFKA_SASL_MECHANISM": "OAUTHBEARER",
    "IOT_KAFKA_SASL_OAUTHBEARER_CLIENT_ID": "iot",
    "IOT_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": SECRET,
    "IOT_KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": "https://login.example.com/token",
}
TLS = {"IOT_CASSANDRA_SSL": "true"}
REGISTRY = {"IOT_REGISTRY_URL": "https://registry:8081"}
LOGIN = {"IOT_REGISTRY_USERNAME": "iot", "IOT_REGISTRY_PASSWORD": SECRET}
TWO = {"IOT_KEYSPACE_REPLICATION": "dc1:3,dc2:3"}


def refusal(env: dict[str, str]) -> str:
    """What is said against these settings; no secret in it, nor in the traceback."""
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env(env)
    whole = "".join(traceback.format_exception(refused.value))
    assert SECRET not in whole
    assert refused.value.__context__ is None, "pydantic's error prints what it was given"
    return str(refused.value)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"IOT_KAFKA_SECURITY_PROTOCOL": "TLS"}, "'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or"),
        (
            {"IOT_KAFKA_SASL_PASSWORD": SECRET},
            "IOT_KAFKA_SASL_PASSWORD is set, and IOT_KAFKA_SECURITY_PROTOCOL=PLAINTEXT logs in "
            "nowhere: set IOT_KAFKA_SECURITY_PROTOCOL=SASL_SSL",
        ),
        (
            {"IOT_KAFKA_SSL_CA_LOCATION": __file__},
            "IOT_KAFKA_SSL_CA_LOCATION is set, and IOT_KAFKA_SECURITY_PROTOCOL=PLAINTEXT does not "
            "encrypt: set IOT_KAFKA_SECURITY_PROTOCOL=SSL",
        ),
        ({**SCRAM, "IOT_KAFKA_SASL_MECHANISM": ""}, "logs in: set IOT_KAFKA_SASL_MECHANISM"),
        ({**SCRAM, "IOT_KAFKA_SASL_USERNAME": ""}, "SCRAM-SHA-256 needs IOT_KAFKA_SASL_USERNAME"),
        (
            {**SCRAM, "IOT_KAFKA_SASL_PASSWORD": ""},
            "needs IOT_KAFKA_SASL_PASSWORD (or IOT_KAFKA_SASL_PASSWORD_FILE)",
        ),
        (
            {**OIDC, "IOT_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": ""},
            "needs IOT_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET (or",
        ),
        (
            {**OIDC, "IOT_KAFKA_SASL_USERNAME": "iot"},
            "IOT_KAFKA_SASL_USERNAME is set, and IOT_KAFKA_SASL_MECHANISM=OAUTHBEARER does not use",
        ),
        (
            {"IOT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "IOT_KAFKA_SASL_MECHANISM": "AWS_MSK_IAM"},
            "IOT_KAFKA_SASL_MECHANISM=AWS_MSK_IAM needs IOT_KAFKA_AWS_REGION",
        ),
        (
            {"IOT_KAFKA_SECURITY_PROTOCOL": "SSL", "IOT_KAFKA_SSL_CA_LOCATION": "/no/such.pem"},
            "IOT_KAFKA_SSL_CA_LOCATION=/no/such.pem: no such file or directory",
        ),
        (
            {"IOT_KAFKA_SECURITY_PROTOCOL": "SSL", "IOT_KAFKA_SSL_KEY_LOCATION": __file__},
            "IOT_KAFKA_SSL_KEY_LOCATION needs IOT_KAFKA_SSL_CERTIFICATE_LOCATION",
        ),
        ({**SCRAM, "IOT_KAFKA_SASL_PASSWORD_FILE": __file__}, "are both set: expected one"),
        (
            {"IOT_KAFKA_SASL_PASSWORD_FILE": "/no/such"},
            "IOT_KAFKA_SASL_PASSWORD_FILE=/no/such: no such file or directory",
        ),
        # As a variable is read that is not UTF-8.
        (
            {**SCRAM, "IOT_KAFKA_SASL_PASSWORD": f"{SECRET}\udcff"},
            "IOT_KAFKA_SASL_PASSWORD: expected UTF-8",
        ),
        ({"IOT_KAFKA__SASL_PASSWORD": SECRET}, "set IOT_KAFKA_SASL_PASSWORD instead"),
        ({"IOT_KAFKA__ISOLATION_LEVEL": "x"}, "cannot be set: records of aborted transactions"),
        ({"IOT_KAFKA_SASL_PASWORD": SECRET}, "IOT_KAFKA_SASL_PASWORD: no such setting"),
        (
            {"IOT_CASSANDRA_USERNAME": "iot"},
            "IOT_CASSANDRA_USERNAME=iot needs IOT_CASSANDRA_PASSWORD",
        ),
        ({"IOT_CASSANDRA_PASSWORD": SECRET}, "IOT_CASSANDRA_PASSWORD needs IOT_CASSANDRA_USERNAME"),
        (
            {"IOT_CASSANDRA_SSL_CA_LOCATION": __file__},
            "IOT_CASSANDRA_SSL_CA_LOCATION is set, and nothing is encrypted: set IOT_CASSANDRA_SSL",
        ),
        (
            {**TLS, "IOT_CASSANDRA_SSL_CERTIFICATE_LOCATION": __file__},
            "IOT_CASSANDRA_SSL_CERTIFICATE_LOCATION needs IOT_CASSANDRA_SSL_KEY_LOCATION",
        ),
        ({"IOT_WRITE_CONSISTENCY": "ONE"}, "refused: one replica would do: its disk is lost"),
        ({"IOT_READ_CONSISTENCY": "TWO"}, "a read would miss what a write stored"),
        ({"IOT_KEYSPACE_REPLICATION": "0"}, "greater than or equal to 1"),
        ({"IOT_KEYSPACE_REPLICATION": "dc1:3,dc1:3"}, "expected a number, or datacenters such as"),
        (
            {"IOT_REGISTRY_PASSWORD": SECRET},
            "IOT_REGISTRY_PASSWORD needs IOT_REGISTRY_URL",
        ),
        ({"IOT_REGISTRY_URL": "registry:8081"}, "IOT_REGISTRY_URL: expected such as https://"),
        (
            {"IOT_REGISTRY_URL": f"https://iot:{SECRET}@registry:8081"},
            "IOT_REGISTRY_URL: expected no login in it; set IOT_REGISTRY_USERNAME",
        ),
        (
            {**REGISTRY, "IOT_REGISTRY_USERNAME": "iot"},
            "IOT_REGISTRY_USERNAME needs IOT_REGISTRY_PASSWORD (or IOT_REGISTRY_PASSWORD_FILE)",
        ),
        (
            {**REGISTRY, **LOGIN, "IOT_REGISTRY_TOKEN": SECRET},
            "IOT_REGISTRY_USERNAME and IOT_REGISTRY_TOKEN are both set",
        ),
        (
            {"IOT_REGISTRY_URL": "http://registry:8081", **LOGIN},
            "IOT_REGISTRY_URL=http://registry:8081 does not encrypt, and a login would be readable",
        ),
        (
            {"IOT_REGISTRY_URL": "http://registry:8081", "IOT_REGISTRY_CA_LOCATION": __file__},
            "IOT_REGISTRY_CA_LOCATION is set, and IOT_REGISTRY_URL is not https",
        ),
        (
            {**REGISTRY, "IOT_REGISTRY_CERTIFICATE_LOCATION": __file__},
            "IOT_REGISTRY_CERTIFICATE_LOCATION needs IOT_REGISTRY_KEY_LOCATION",
        ),
        (
            {**TWO, "IOT_WRITE_CONSISTENCY": "QUORUM"},
            "a read can miss an acknowledged row, and the audit would call it lost",
        ),
    ],
)
def test_what_cannot_work_together_is_said_before_anything_is_contacted(env, words):
    assert words in refusal(env)


def test_all_that_is_wrong_with_a_door_is_said_at_once():
    said = refusal({"IOT_KAFKA_SASL_PASSWORD": SECRET, "IOT_CASSANDRA_PASSWORD": SECRET})
    assert "IOT_KAFKA_SASL_PASSWORD is set" in said
    assert "IOT_CASSANDRA_PASSWORD needs" in said


@pytest.mark.parametrize("write", ["LOCAL_QUORUM", "EACH_QUORUM", "ALL"])
def test_levels_that_meet_in_two_datacenters_are_taken(write):
    settings = Settings.from_env({**TWO, "IOT_WRITE_CONSISTENCY": write})
    assert settings.keyspace_replication == {"dc1": 3, "dc2": 3}
    assert {row[0]: row[1] for row in settings.rows()}["IOT_KEYSPACE_REPLICATION"] == (
        "dc1:3,dc2:3"
    )


def test_a_secret_is_hidden_in_what_settings_are_shown_as():
    settings = Settings.from_env({**SCRAM, "IOT_KAFKA__SSL_KEYSTORE_PASSWORD": SECRET})
    shown = {row[0]: row[1] for row in settings.rows()}
    assert shown["IOT_KAFKA_SASL_PASSWORD"] == "********"
    assert shown["IOT_KAFKA__SSL_KEYSTORE_PASSWORD"] == "********"
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump()} {list(settings.rows())}"
    assert SECRET not in f"{settings.kafka_tls!r}"


def test_a_secret_that_is_malformed_is_not_quoted():
    with pytest.raises(ValidationError) as found:
        Settings.model_validate({"kafka_sasl_password": [SECRET]})
    said = explain(found.value, Settings)
    assert "IOT_KAFKA_SASL_PASSWORD=********: Input should be" in said


def test_a_secret_may_stand_in_a_file_and_its_last_newline_is_the_editors(tmp_path):
    (tmp_path / "password").write_text(f"{SECRET}\n")
    env = {**SCRAM, "IOT_KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "password")}
    del env["IOT_KAFKA_SASL_PASSWORD"]
    settings = Settings.from_env(env)
    assert client_config(settings)["sasl.password"] == SECRET
    assert {row[0]: row[3] for row in settings.rows()}["IOT_KAFKA_SASL_PASSWORD"] == (
        "IOT_KAFKA_SASL_PASSWORD_FILE"
    )


@pytest.fixture
def properties(tmp_path):
    """A client.properties as a provider of Kafka hands it out."""
    path = tmp_path / "client.properties"
    path.write_text(
        "# of the cluster\n"
        "bootstrap.servers=broker.example.com:9092\n"
        "security.protocol=SASL_SSL\nsasl.mechanisms=PLAIN\n"
        f"sasl.username = key\nsasl.password={SECRET}\n\nsocket.keepalive.enable=true\n"
    )
    return path


def test_a_properties_file_sets_what_the_environment_does_not(properties):
    env = {"IOT_KAFKA_PROPERTIES_FILE": str(properties), "IOT_KAFKA_SASL_USERNAME": "mine"}
    settings = Settings.from_env(env)
    config = client_config(settings)
    assert config == {
        "bootstrap.servers": "broker.example.com:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "mine",
        "sasl.password": SECRET,
        "socket.keepalive.enable": "true",
        **NOTICES_SOON,
    }
    origins = {row[0]: row[3] for row in settings.rows()}
    assert origins["IOT_KAFKA_SASL_PASSWORD"] == "IOT_KAFKA_PROPERTIES_FILE"
    assert origins["IOT_KAFKA_SASL_USERNAME"] == "environment"
    assert origins["IOT_KAFKA__SOCKET_KEEPALIVE_ENABLE"] == "IOT_KAFKA_PROPERTIES_FILE"


def test_a_variable_wins_over_the_same_property_of_the_file(properties):
    env = {
        "IOT_KAFKA_PROPERTIES_FILE": str(properties),
        "IOT_KAFKA__SOCKET_KEEPALIVE_ENABLE": "false",
    }
    settings = Settings.from_env(env)
    assert client_config(settings)["socket.keepalive.enable"] == "false"
    origins = {row[0]: row[3] for row in settings.rows()}
    assert origins["IOT_KAFKA__SOCKET_KEEPALIVE_ENABLE"] == "environment"


def test_how_long_a_silent_broker_is_waited_for_may_be_set():
    assert client_config(Settings())["socket.timeout.ms"] == "6000"
    slow = Settings.from_env({"IOT_KAFKA__SOCKET_TIMEOUT_MS": "60000"})
    assert client_config(slow)["socket.timeout.ms"] == "60000"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("acks=1", ": acks cannot be set: a reading or a dead letter would count as sent before"),
        ("sasl.jaas.config=x", ": sasl.jaas.config cannot be set: it is Java's; IOT_KAFKA_SASL_US"),
        (SECRET, ": line 9: expected name=value on one line"),
    ],
)
def test_a_line_of_the_file_that_is_refused_is_named_without_its_value(properties, line, words):
    properties.write_text(f"{properties.read_text()}{line}\n")
    assert words in refusal({"IOT_KAFKA_PROPERTIES_FILE": str(properties)})


def test_every_property_that_a_client_of_ours_sets_is_refused_from_outside():
    """Else a setting would be overridden without a word, or override what correctness needs."""
    ours: dict[str, str] = {}
    for path in Path(iot_pipeline.clients.__path__[0]).glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            is_open = isinstance(call, ast.Call) and getattr(call.func, "id", "") == "open_client"
            for part in ast.walk(call) if is_open else ():
                if isinstance(part, ast.Dict):
                    keys = [key.value for key in part.keys if isinstance(key, ast.Constant)]
                    ours |= dict.fromkeys(map(str, keys), path.name)
    assert len(ours) > 15, "the test reads nothing any more"
    missing = {name: file for name, file in ours.items() if name not in REFUSED}
    assert missing == {"client.id": "kafka_producer.py"}, "a name in the broker's log may be set"


def test_the_second_client_is_given_the_same_door(tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_text("x")
    raw = raw_config(Settings.from_env({**SCRAM, "IOT_KAFKA_SSL_CA_LOCATION": str(ca)}))
    assert raw["security_protocol"] == "SASL_SSL"
    assert (raw["ssl_cafile"], raw["ssl_check_hostname"]) == (str(ca), True)
    assert (raw["sasl_mechanism"], raw["sasl_plain_username"]) == ("SCRAM-SHA-256", "iot")
    assert raw["sasl_plain_password"] == SECRET


def test_a_door_that_only_librdkafka_opens_is_said_when_the_second_client_is_needed():
    settings = Settings.from_env({**SCRAM, "IOT_KAFKA__SSL_CA_PEM": SECRET})
    with pytest.raises(ConfigurationError, match=r"ssl\.ca\.pem: only librdkafka") as refused:
        raw_config(settings)
    assert SECRET not in str(refused.value)


def test_kerberos_without_its_library_is_a_sentence_in_both_clients():
    env = {"IOT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "IOT_KAFKA_SASL_MECHANISM": "GSSAPI"}
    settings = Settings.from_env({**env, "IOT_KAFKA__SASL_KERBEROS_SERVICE_NAME": "kafka"})
    with pytest.raises(ConfigurationError, match="this librdkafka was built without Kerberos"):
        check_config(settings)
    with pytest.raises(ConfigurationError, match="pip install gssapi"):
        raw_config(settings)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"IOT_KAFKA__NO_SUCH": SECRET}, "librdkafka's no.such): librdkafka has no such property"),
        ({"IOT_KAFKA__SOCKET_TIMEOUT_MS": SECRET}, "socket.timeout.ms): not a value that it can"),
        (
            {"IOT_KAFKA_SECURITY_PROTOCOL": "SSL", "IOT_KAFKA_SSL_CA_LOCATION": __file__},
            "IOT_KAFKA_SSL_CA_LOCATION: expected a file as PEM",
        ),
        (
            {
                "IOT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "IOT_KAFKA_SASL_MECHANISM": "AWS_MSK_IAM",
                "IOT_KAFKA_AWS_REGION": "eu-central-1",
            },
            "needs Amazon's library: pip install 'iot-pipeline[msk]'",
        ),
        (
            {**TLS, "IOT_CASSANDRA_SSL_CA_LOCATION": __file__},
            f"IOT_CASSANDRA_SSL_CA_LOCATION={__file__}: expected certificates as PEM",
        ),
    ],
)
def test_what_only_a_client_can_judge_is_judged_before_anything_is_contacted(
    env, words, monkeypatch
):
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", None)
    # Port 1 answers nobody: were it contacted, that would be the error.
    addresses = {"IOT_BOOTSTRAP_SERVERS": "127.0.0.1:1", "IOT_CASSANDRA_PORT": "2"}
    settings = Settings.from_env({**addresses, **env})
    with pytest.raises(ConfigurationError) as refused, open_connections(settings):
        pass
    assert words in str(refused.value)
    assert SECRET not in "".join(traceback.format_exception(refused.value))
