"""Who may do everything on the locked servers: makes users, grants and takes away."""

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from pydantic import SecretStr

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.core.rights import grants
from iot_pipeline.core.rights.grants import CassandraGrant, KafkaGrant
from iot_pipeline.local.secure import ADMIN
from iot_pipeline.settings import Settings
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.servers import OwnServices

_KINDS = {
    grants.TOPIC: ResourceType.TOPIC,
    grants.GROUP: ResourceType.GROUP,
    grants.TRANSACTIONAL_ID: ResourceType.TRANSACTIONAL_ID,
}
_OPERATIONS = {
    grants.READ: AclOperation.READ,
    grants.WRITE: AclOperation.WRITE,
    grants.CREATE: AclOperation.CREATE,
    grants.DESCRIBE: AclOperation.DESCRIBE,
    grants.DESCRIBE_CONFIGS: AclOperation.DESCRIBE_CONFIGS,
}


def admin_config(servers: OwnServices) -> dict[str, Any]:
    """Into Kafka by the broker's own certificate."""
    folder = servers.local.secure.folder
    return {
        "bootstrap.servers": f"127.0.0.1:{servers.env['IOT_KAFKA_INTERNAL_PORT']}",
        "security.protocol": "SSL",
        "ssl.ca.location": str(folder / "ca.pem"),
        "ssl.certificate.location": str(folder / "kafka.pem"),
        "ssl.key.location": str(folder / "kafka.pem"),
    }


class Administrator:
    """Of both servers, who has a user of one name on both."""

    def __init__(self, servers: OwnServices) -> None:
        self.config = admin_config(servers)
        self.kafka = AdminClient(self.config)
        password = (servers.local.secure.folder / "cassandra-admin.password").read_text()
        settings = Settings.from_env(servers.env).model_copy(
            update={"cassandra_username": ADMIN, "cassandra_password": SecretStr(password)}
        )
        self.cassandra = CassandraClient(settings, request_timeout_seconds=60)

    def close(self) -> None:
        del self.kafka  # which would go on trying to connect
        self.cassandra.close()

    def cql(self, statement: str) -> list[Any]:
        return self.cassandra.execute(statement, doing="as an administrator")

    def make_user(self, name: str) -> dict[str, str]:
        """A user who may log in and do nothing; returns the settings that say who it is."""
        password = secrets.token_urlsafe(12)
        login = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        made = UserScramCredentialUpsertion(name, login, password.encode())
        for future in self.kafka.alter_user_scram_credentials([made]).values():
            future.result(20)
        self.cql(f"CREATE ROLE {name} WITH PASSWORD = '{password}' AND LOGIN = true")
        return {
            "IOT_KAFKA_SASL_USERNAME": name,
            "IOT_KAFKA_SASL_PASSWORD": password,
            "IOT_KAFKA_SASL_PASSWORD_FILE": "",
            "IOT_CASSANDRA_USERNAME": name,
            "IOT_CASSANDRA_PASSWORD": password,
            "IOT_CASSANDRA_PASSWORD_FILE": "",
        }

    def allow_kafka(self, user: str, wanted: Iterable[KafkaGrant]) -> None:
        """These rights on Kafka and no other; returns when the broker knows."""
        bindings = {
            AclBinding(
                _KINDS[grant.kind],
                grant.name,
                ResourcePatternType.LITERAL,
                f"User:{user}",
                "*",
                _OPERATIONS[grant.operation],
                AclPermissionType.ALLOW,
            )
            for grant in wanted
        }
        has = self._acls_of(user)
        if has - bindings:
            for future in self.kafka.delete_acls([_all_of(user)]).values():
                future.result(20)
            has = set()
        if missing := list(bindings - has):
            for future in self.kafka.create_acls(missing).values():
                future.result(20)
        _wait(lambda: self._acls_of(user) == bindings)

    def _acls_of(self, user: str) -> set[Any]:
        """As the broker's authorizer has them."""
        return set(self.kafka.describe_acls(_all_of(user)).result(20))

    def rights_on_kafka(self, user: str) -> set[KafkaGrant]:
        kinds = {there: kind for kind, there in _KINDS.items()}
        operations = {there: operation for operation, there in _OPERATIONS.items()}
        return {
            KafkaGrant(operations[acl.operation], kinds[acl.restype], acl.name)
            for acl in self._acls_of(user)
        }

    def allow_cassandra(self, user: str, wanted: Iterable[CassandraGrant]) -> None:
        """These rights on Cassandra and no other; its caches are off here."""
        wanted = set(wanted)
        has = {
            CassandraGrant(row.permission, _resource(row.resource))
            for row in self.cql(f"LIST ALL PERMISSIONS OF {user}")
            # Of who makes a keyspace; there are none.
            if "functions" not in row.resource
        }
        for grant in has - wanted:
            self.cql(f"REVOKE {grant} FROM {user}")
        for grant in wanted - has:
            self.cql(grant.line(user))


def _all_of(user: str) -> AclBindingFilter:
    return AclBindingFilter(
        ResourceType.ANY,
        None,
        ResourcePatternType.ANY,
        f"User:{user}",
        None,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )


def _resource(listed: str) -> str:
    """`<table k.t>`, as it is listed, in the words of a grant."""
    kind, _, name = listed.strip("<>").partition(" ")
    return grants.ALL_KEYSPACES if listed == "<all keyspaces>" else f"{kind.upper()} {name}"


def _wait(is_so: Callable[[], bool]) -> None:
    deadline = until(20)
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
