"""As much of Kafka's protocol as it takes to grant rights, without a driver.

Drivers belong to `clients`. This is for `iot up --secure`, which comes in by the broker's own
certificate, as no user may.
"""

import socket
import ssl
import struct
from collections.abc import Sequence

from iot_pipeline.core.rights import grants
from iot_pipeline.core.rights.grants import KafkaGrant
from iot_pipeline.errors import ServiceError

_CREATE_ACLS, _VERSION, _CORRELATION_ID = 30, 1, 7
# Kafka's ResourceType, AclOperation, PatternType LITERAL, AclPermissionType ALLOW.
_KINDS = {grants.TOPIC: 2, grants.GROUP: 3, grants.TRANSACTIONAL_ID: 5}
_OPERATIONS = {
    grants.READ: 3,
    grants.WRITE: 4,
    grants.CREATE: 5,
    grants.DESCRIBE: 8,
    grants.DESCRIBE_CONFIGS: 10,
}
_LITERAL, _ALLOW = 3, 3
_SECONDS = 15.0


def grant_on_kafka(
    address: tuple[str, int], tls: ssl.SSLContext, user: str, granted: Sequence[KafkaGrant]
) -> None:
    """Let a user do these; what it may do already stays so.

    Raises:
        ServiceError: Kafka refused it.
        OSError: it does not answer.
    """
    body = struct.pack(">i", len(granted)) + b"".join(
        struct.pack(">b", _KINDS[grant.kind])
        + _string(grant.name)
        + struct.pack(">b", _LITERAL)
        + _string(f"User:{user}")
        + _string("*")
        + struct.pack(">bb", _OPERATIONS[grant.operation], _ALLOW)
        for grant in granted
    )
    header = struct.pack(">hhih", _CREATE_ACLS, _VERSION, _CORRELATION_ID, -1)
    with (
        socket.create_connection(address, _SECONDS) as plain,
        tls.wrap_socket(plain, server_hostname=address[0]) as connection,
        connection.makefile("rb") as answer,
    ):
        connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        size = answer.read(4)
        said = answer.read(struct.unpack(">i", size)[0]) if len(size) == 4 else b""
    _check(said, user)


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text.encode())) + text.encode()


def _check(said: bytes, user: str) -> None:
    """Correlation id, throttle time, then an error and its text for each right."""
    if len(said) < 12:
        raise ServiceError(f"granting rights to {user}: kafka closed the connection")
    (count,) = struct.unpack_from(">i", said, 8)
    at = 12
    for _ in range(count):
        error, length = struct.unpack_from(">hh", said, at)
        at += 4
        text = said[at : at + max(0, length)].decode(errors="replace")
        at += max(0, length)
        if error:
            raise ServiceError(f"granting rights to {user}: kafka says {text or f'error {error}'}")
