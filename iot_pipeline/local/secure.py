"""The same servers behind locked doors: `iot up --secure`.

Kafka with TLS, SCRAM and an authorizer, Cassandra with TLS, passwords and roles. Certificates and
passwords are made here, once per data folder, into files that only their owner may read; what
clients are told names those files and holds no secret. Their user may do what the commands of
`iot` need, and nothing else; an administrator stands beside it.
"""

import base64
import hashlib
import secrets
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from iot_pipeline.core.rights.grants import Names
from iot_pipeline.core.rights.needed import COMMANDS, JOBS, SETUP, needs_of_role, together
from iot_pipeline.errors import ConfigurationError, ServiceError
from iot_pipeline.files import write_private
from iot_pipeline.local.acls import grant_on_kafka
from iot_pipeline.local.compose import Service
from iot_pipeline.local.cql import LoginRefusedError, run_as
from iot_pipeline.local.launch import Launch

USER = "iot"
# Of Cassandra; of Kafka it is the broker's own certificate.
ADMIN = "admin"
# Cassandra makes its first user, cassandra/cassandra, some time after it answers.
_FIRST_USER = "cassandra"
_FIRST_USER_SECONDS = 60.0
_ADMINS = "cassandra-admin"
_SCRAM = "SCRAM-SHA-512"
_ITERATIONS = 8192
_YAML = "/etc/iot/cassandra.yaml"


@dataclass(frozen=True)
class SecureServers:
    """The folder with the certificates and passwords of one set of servers."""

    folder: Path

    @property
    def is_there(self) -> bool:
        return (self.folder / "ca.pem").is_file()

    def make(self) -> None:
        """An authority and the passwords, unless they are there."""
        if self.is_there:
            return
        # 60 ms that no other command should pay.
        from iot_pipeline.local.certificates import make_authority

        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for kind in ("kafka", "cassandra", _ADMINS):
            write_private(self._password_file(kind), secrets.token_urlsafe(24).encode())
        make_authority(self.folder)

    def environment(self) -> dict[str, str]:
        """The settings that lead a client in: paths and names, no secret."""
        authority = str(self.folder / "ca.pem")
        return {
            "IOT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "IOT_KAFKA_SSL_CA_LOCATION": authority,
            "IOT_KAFKA_SASL_MECHANISM": _SCRAM,
            "IOT_KAFKA_SASL_USERNAME": USER,
            "IOT_KAFKA_SASL_PASSWORD_FILE": str(self._password_file("kafka")),
            "IOT_CASSANDRA_SSL": "true",
            "IOT_CASSANDRA_SSL_CA_LOCATION": authority,
            "IOT_CASSANDRA_USERNAME": USER,
            "IOT_CASSANDRA_PASSWORD_FILE": str(self._password_file("cassandra")),
        }

    def secured(self, service: Service) -> Service:
        """The service with its doors locked; nothing else about it is changed."""
        if service.kind == "kafka":
            return replace(service, environment={**service.environment, **self.of_kafka()})
        return replace(service, mounts={**service.mounts, _YAML: self._yaml(service.mounts)})

    def launched(self, service: Service, launch: Launch) -> Launch:
        """The launch, with the first user of Kafka, who is made with its storage."""
        if service.kind != "kafka":
            return launch
        salt = secrets.token_bytes(16)
        password = self._password("kafka").encode()
        salted = base64.b64encode(hashlib.pbkdf2_hmac("sha512", password, salt, _ITERATIONS))
        user = (
            f'{_SCRAM}=[name={USER},iterations={_ITERATIONS},salt="'
            f'{base64.b64encode(salt).decode()}",saltedpassword="{salted.decode()}"]'
        )
        return replace(launch, format_arguments=(*launch.format_arguments, "--add-scram", user))

    def certify(self, kind: str) -> None:
        """A new certificate for a server that is about to start."""
        from iot_pipeline.local.certificates import ANY_NAME, make_certificate

        # In a container it is called as its kind is.
        make_certificate(self.folder, kind, hosts=(*ANY_NAME, kind))

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """What trusts these servers, and no other."""
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))

    @property
    def admin_tls(self) -> ssl.SSLContext:
        """That, with the broker's own certificate, by which it knows an administrator."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        context.load_cert_chain(self.folder / "kafka.pem")
        return context

    def let_in_to_kafka(self, address: tuple[str, int], names: Names) -> None:
        """Let our user do all that commands and jobs do with these names.

        Args:
            address: of the listener for the broker's certificate.
        """
        needs = together([*COMMANDS.values(), *JOBS.values()]).named(names)
        granted = [right.grant for right in needs.kafka]
        grant_on_kafka(address, self.admin_tls, USER, granted)

    def run_as_admin(self, address: tuple[str, int], *statements: str) -> None:
        """Run CQL as Cassandra's administrator."""
        run_as(address, self.tls, ADMIN, self._password(_ADMINS), statements)

    def let_in_to_cassandra(self, address: tuple[str, int]) -> None:
        """Make our users where there are none yet, and lock out the one everybody knows.

        Who makes a keyspace may do everything in it, so ours needs no more than to make one.

        Raises:
            ServiceError: there is neither our administrator nor the first user.
        """
        grants = [right.grant.line(USER) for right in needs_of_role(SETUP).cassandra]
        statements = (
            f"ALTER ROLE {_FIRST_USER} WITH SUPERUSER = false AND LOGIN = false",
            f"CREATE ROLE IF NOT EXISTS {USER} WITH PASSWORD = '{self._password('cassandra')}' "
            "AND LOGIN = true",
            *grants,
        )
        give_up_at = time.monotonic() + _FIRST_USER_SECONDS
        while True:
            try:
                self.run_as_admin(address, *statements)
                return
            except LoginRefusedError as refused:
                if time.monotonic() > give_up_at:
                    raise ServiceError(
                        f"{refused}. These servers' data is older than {self.folder}: `iot down "
                        "--wipe` deletes both"
                    ) from None
            made = f"'{self._password(_ADMINS)}' AND SUPERUSER = true AND LOGIN = true"
            try:
                run_as(
                    address,
                    self.tls,
                    _FIRST_USER,
                    _FIRST_USER,
                    (f"CREATE ROLE IF NOT EXISTS {ADMIN} WITH PASSWORD = {made}",),
                )
            except LoginRefusedError:
                time.sleep(0.2)  # not made yet

    def _password_file(self, kind: str) -> Path:
        return self.folder / f"{kind}.password"

    def _password(self, kind: str) -> str:
        return self._password_file(kind).read_text(encoding="utf-8")

    def of_kafka(self) -> dict[str, str]:
        """The variables of Kafka's container that lock its doors."""
        # Brokers and controllers show each other certificates; clients log in with a password.
        return {
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:SSL,HOST:SASL_SSL,INTERNAL:SSL",
            "KAFKA_SSL_KEYSTORE_TYPE": "PEM",
            "KAFKA_SSL_KEYSTORE_LOCATION": str(self.folder / "kafka.pem"),
            "KAFKA_SSL_TRUSTSTORE_TYPE": "PEM",
            "KAFKA_SSL_TRUSTSTORE_LOCATION": str(self.folder / "ca.pem"),
            "KAFKA_LISTENER_NAME_INTERNAL_SSL_CLIENT_AUTH": "required",
            "KAFKA_LISTENER_NAME_CONTROLLER_SSL_CLIENT_AUTH": "required",
            "KAFKA_LISTENER_NAME_HOST_SASL_ENABLED_MECHANISMS": _SCRAM,
            "KAFKA_LISTENER_NAME_HOST_SCRAM___SHA___512_SASL_JAAS_CONFIG": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "KAFKA_AUTHORIZER_CLASS_NAME": (
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
            ),
            "KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND": "false",
            "KAFKA_SUPER_USERS": "User:CN=kafka",
        }

    def of_cassandra(self) -> dict[str, Any]:
        """The options of cassandra.yaml that lock its doors."""
        return {
            "authenticator": {"class_name": "PasswordAuthenticator"},
            "authorizer": {"class_name": "CassandraAuthorizer"},
            "client_encryption_options": {
                "enabled": True,
                "optional": False,
                "require_client_auth": False,
                "ssl_context_factory": {
                    "class_name": "org.apache.cassandra.security.PEMBasedSslContextFactory"
                },
                "keystore": str(self.folder / "cassandra.pem"),
                "truststore": str(self.folder / "ca.pem"),
            },
        }

    def _yaml(self, mounts: Mapping[str, Path]) -> Path:
        """The mounted cassandra.yaml with locked doors, as a file beside the keys."""
        if _YAML not in mounts:
            raise ConfigurationError(f"services.cassandra.volumes: expected a file at {_YAML}")
        options = yaml.safe_load(mounts[_YAML].read_text(encoding="utf-8")) | self.of_cassandra()
        path = self.folder / "cassandra.yaml"
        path.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")
        return path
