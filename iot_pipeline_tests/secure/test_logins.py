"""Each way of logging in to Kafka opens the door, for both clients."""

import dataclasses
import sys
import time
import types
from collections.abc import Mapping

import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from iot_pipeline.clients.kafka_log import KafkaLog
from iot_pipeline.clients.kafka_raw import RawKafka
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.secure.administrator import admin_config
from iot_pipeline_tests.secure.test_doors import NO_LOGIN
from iot_pipeline_tests.secure.token_endpoint import (
    CLIENT_ID,
    CLIENT_SECRET,
    token_endpoint,
    unsigned_token,
)
from iot_pipeline_tests.servers import OwnServices

pytestmark = pytest.mark.services


def assert_lets_in(pipeline: Pipeline, env: Mapping[str, str]) -> None:
    settings = Settings.from_env({**pipeline.env, **env})
    log, raw = KafkaLog(settings), RawKafka(settings, 10)
    try:
        assert log.topic_id(settings.topic) == pipeline.log.topic_id(settings.topic)
        assert raw.producers(settings.topic, [0]).keys() == {0}
    finally:
        raw.close()
        log.close()


def with_token(url: str, secret: str) -> dict[str, str]:
    return {
        **NO_LOGIN,
        "IOT_KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "IOT_KAFKA_SASL_OAUTHBEARER_CLIENT_ID": CLIENT_ID,
        "IOT_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": secret,
        "IOT_KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": url,
    }


def test_a_password_by_the_shorter_scram(
    secure_pipeline: Pipeline, secure_servers: OwnServices
) -> None:
    admin = AdminClient(admin_config(secure_servers))
    kind = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    user = UserScramCredentialUpsertion("iot", kind, b"another-password")
    admin.alter_user_scram_credentials([user])["iot"].result(20)
    env = {
        "IOT_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "IOT_KAFKA_SASL_PASSWORD_FILE": "",
        "IOT_KAFKA_SASL_PASSWORD": "another-password",
    }
    assert_lets_in(secure_pipeline, env)


def test_a_certificate_of_ours(secure_pipeline: Pipeline, secure_servers: OwnServices) -> None:
    pem = str(secure_servers.local.secure.folder / "kafka.pem")
    env = {
        **NO_LOGIN,
        "IOT_BOOTSTRAP_SERVERS": f"127.0.0.1:{secure_servers.env['IOT_KAFKA_INTERNAL_PORT']}",
        "IOT_KAFKA_SECURITY_PROTOCOL": "SSL",
        "IOT_KAFKA_SSL_CERTIFICATE_LOCATION": pem,
        "IOT_KAFKA_SSL_KEY_LOCATION": pem,
    }
    assert_lets_in(secure_pipeline, env)


def test_a_missing_certificate_of_ours_is_named(
    secure_pipeline: Pipeline, secure_servers: OwnServices
) -> None:
    env = {
        **NO_LOGIN,
        "IOT_BOOTSTRAP_SERVERS": f"127.0.0.1:{secure_servers.env['IOT_KAFKA_INTERNAL_PORT']}",
        "IOT_KAFKA_SECURITY_PROTOCOL": "SSL",
    }
    log = KafkaLog(Settings.from_env({**secure_pipeline.env, **env}))
    wanted = pytest.raises(ConfigurationError, match="it wants a certificate of ours; set IOT_KAF")
    with wanted:
        log.topic_id(secure_pipeline.topic)
    log.close()


def test_a_token_from_an_endpoint(secure_pipeline: Pipeline) -> None:
    with token_endpoint() as url:
        assert_lets_in(secure_pipeline, with_token(url, CLIENT_SECRET))


def test_a_client_that_the_endpoint_does_not_know_is_told_so(secure_pipeline: Pipeline) -> None:
    with token_endpoint() as url:
        env = {**secure_pipeline.env, **with_token(url, "another-secret")}
        settings = Settings.from_env(env)
        log, raw = KafkaLog(settings), RawKafka(settings, 10)
        for ask in (lambda: log.topic_id(settings.topic), lambda: raw.producers("x", [0])):
            with pytest.raises(ConfigurationError, match="IOT_KAFKA_SASL_OAUTHBEARER_CLIENT_ID"):
                ask()
        raw.close()
        log.close()


def test_a_token_that_amazons_library_signs(
    secure_pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it but AWS: in its place stands a signer whose token this broker takes."""
    asked = []

    class Signer:
        @staticmethod
        def generate_auth_token(region: str) -> tuple[str, int]:
            asked.append(region)
            return unsigned_token(), int(time.time() + 900) * 1000

    library = types.SimpleNamespace(MSKAuthTokenProvider=Signer)
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", library)
    env = {
        **NO_LOGIN,
        "IOT_KAFKA_SASL_MECHANISM": "AWS_MSK_IAM",
        "IOT_KAFKA_AWS_REGION": "eu-central-1",
    }
    assert_lets_in(secure_pipeline, env)
    whole = dataclasses.replace(secure_pipeline, env={**secure_pipeline.env, **env})
    assert "acknowledged 7" in whole.iot("simulate", "--count", "7", "--rate", "max")
    assert "7 stored" in whole.iot("drain")
    assert set(asked) == {"eu-central-1"}
