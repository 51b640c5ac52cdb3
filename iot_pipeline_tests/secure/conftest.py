"""Kafka and Cassandra behind locked doors: TLS, users, passwords; one set for these tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from iot_pipeline.connections import open_connections
from iot_pipeline.local.certificates import make_authority
from iot_pipeline.local.secure import SecureServers
from iot_pipeline.local.servers import LocalServices
from iot_pipeline.settings import Settings
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import OwnServices, start_secure_services

# More ways to log in than `iot up --secure` opens: a cluster of somebody else's has them.
_HOST = "KAFKA_LISTENER_NAME_HOST"
MORE_LOGINS = {
    f"{_HOST}_SASL_ENABLED_MECHANISMS": "SCRAM-SHA-512,SCRAM-SHA-256,OAUTHBEARER",
    f"{_HOST}_SCRAM___SHA___256_SASL_JAAS_CONFIG": (
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    ),
    # Takes tokens that nobody signed.
    f"{_HOST}_OAUTHBEARER_SASL_JAAS_CONFIG": (
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="iot";'
    ),
}


@pytest.fixture(scope="package")
def secure_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServices]:
    folder = tmp_path_factory.mktemp("secure")
    with pytest.MonkeyPatch.context() as patched:
        shipped = SecureServers.of_kafka
        patched.setattr(SecureServers, "of_kafka", lambda self: shipped(self) | MORE_LOGINS)
        started = start_secure_services(folder)
        try:
            yield started
        finally:
            started.stop()


@pytest.fixture(scope="package")
def secure_pipeline(
    secure_servers: OwnServices, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """Topics and tables on them, set up."""
    data = str(tmp_path_factory.mktemp("data"))
    env = secure_servers.environment(keyspace="behind_doors", IOT_DATA_DIR=data)
    settings = Settings.from_env(env)
    # Topic and group are not those that the servers were started with.
    folder = {"IOT_DATA_DIR": secure_servers.env["IOT_DATA_DIR"]}
    LocalServices(Settings.from_env({**env, **folder}), print).up()
    with open_connections(settings) as connections:
        connections.set_up()
        yield Pipeline(settings, env, connections)


@pytest.fixture
def another_authority(tmp_path: Path) -> Path:
    """The certificate of an authority that signed nothing here."""
    make_authority(tmp_path)
    return tmp_path / "ca.pem"
