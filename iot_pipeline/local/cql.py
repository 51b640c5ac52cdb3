"""As much of CQL's protocol as it takes to log in and to run a statement, without a driver.

Drivers belong to `clients`. This is for `iot up --secure`, which gives a new node its first user.
"""

import socket
import ssl
import struct
from collections.abc import Sequence

from iot_pipeline.errors import ServiceError

_HEADER = struct.Struct(">BBhBi")
_VERSION = 4
_ERROR, _STARTUP, _READY, _AUTHENTICATE, _QUERY = 0x00, 0x01, 0x02, 0x03, 0x07
_AUTH_RESPONSE, _AUTH_SUCCESS = 0x0F, 0x10
_BAD_CREDENTIALS = 0x0100
_LOCAL_QUORUM = 6
_SECONDS = 15.0


class LoginRefusedError(ServiceError):
    """No such user, or another password."""


def run_as(
    address: tuple[str, int],
    tls: ssl.SSLContext,
    user: str,
    password: str,
    statements: Sequence[str] = (),
) -> None:
    """Log in over TLS, then run each statement; without any, only the login is tried.

    Raises:
        LoginRefusedError: the node answers, and not to this user.
        ServiceError: a statement was refused; its text, which may hold a password, is not told.
        OSError: the node does not answer.
    """
    with (
        socket.create_connection(address, _SECONDS) as plain,
        tls.wrap_socket(plain, server_hostname=address[0]) as connection,
    ):
        options = struct.pack(">H", 1) + _short("CQL_VERSION") + _short("3.0.0")
        opcode, body = _ask(connection, _STARTUP, options)
        if opcode == _AUTHENTICATE:
            token = f"\0{user}\0{password}".encode()
            opcode, body = _ask(connection, _AUTH_RESPONSE, struct.pack(">i", len(token)) + token)
        if opcode == _ERROR and struct.unpack_from(">i", body)[0] == _BAD_CREDENTIALS:
            raise LoginRefusedError(f"cassandra does not let {user} in: {_said(body)}")
        if opcode not in (_READY, _AUTH_SUCCESS):
            raise ServiceError(f"logging in to cassandra as {user}: {_said(body)}")
        for statement in statements:
            text = statement.encode()
            query = struct.pack(">i", len(text)) + text + struct.pack(">HB", _LOCAL_QUORUM, 0)
            opcode, body = _ask(connection, _QUERY, query)
            if opcode == _ERROR:
                raise ServiceError(f"making the users of cassandra: {_said(body)}")


def _ask(connection: ssl.SSLSocket, opcode: int, body: bytes) -> tuple[int, bytes]:
    connection.sendall(_HEADER.pack(_VERSION, 0, 0, opcode, len(body)) + body)
    with connection.makefile("rb") as answer:
        _, _, _, opcode, length = _HEADER.unpack(answer.read(_HEADER.size) or b"\0" * _HEADER.size)
        return opcode, answer.read(length)


def _short(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def _said(body: bytes) -> str:
    if len(body) < 6:
        return "the connection was closed"
    (length,) = struct.unpack_from(">H", body, 4)
    return body[6 : 6 + length].decode(errors="replace")
