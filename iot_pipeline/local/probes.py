"""Ask a server in its own protocol whether it serves; the smallest question each one has.

A port that accepts connections says little: a server that is stopped (SIGSTOP) or full still
accepts. An answer says that it works. No drivers: those belong to `clients`, and take longer.
"""

import socket
import struct
from collections.abc import Callable

PROBE_TIMEOUT_SECONDS = 2.0
MAX_ANSWER_BYTES = 1_000_000

_KAFKA_API_VERSIONS = 18
_CORRELATION_ID = 7
_CQL_OPTIONS = 5
_CQL_SUPPORTED = 6

Probe = Callable[[str, int], bool]


def kafka_answers(host: str, port: int) -> bool:
    """Whether ApiVersions gets an answer without an error; False for anything else."""
    # Version 0 of the request, without a client id (length -1).
    request = struct.pack(">ihhih", 10, _KAFKA_API_VERSIONS, 0, _CORRELATION_ID, -1)
    try:
        with socket.create_connection((host, port), PROBE_TIMEOUT_SECONDS) as connection:
            connection.sendall(request)
            (length,) = struct.unpack(">i", _receive(connection, 4))
            if not 6 <= length <= MAX_ANSWER_BYTES:
                return False
            correlation_id, error = struct.unpack(">ih", _receive(connection, 6))
    except OSError:
        return False
    return bool(correlation_id == _CORRELATION_ID and error == 0)


def cassandra_answers(host: str, port: int) -> bool:
    """Whether OPTIONS gets SUPPORTED; False for anything else. Asked before any login."""
    try:
        with socket.create_connection((host, port), PROBE_TIMEOUT_SECONDS) as connection:
            connection.sendall(struct.pack(">BBhBi", 4, 0, 0, _CQL_OPTIONS, 0))
            version, _, _, operation, _ = struct.unpack(">BBhBi", _receive(connection, 9))
    except OSError:
        return False
    return bool(version == 0x84 and operation == _CQL_SUPPORTED)


PROBES: dict[str, Probe] = {"kafka": kafka_answers, "cassandra": cassandra_answers}


def _receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise ConnectionError("closed before it had answered")
        received += part
    return received
