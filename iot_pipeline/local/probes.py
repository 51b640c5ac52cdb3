"""Ask a server in its own protocol whether it serves; the smallest question each one has.

A port that accepts connections says little: a server that is stopped (SIGSTOP) or full still
accepts. An answer says that it works. No drivers: those belong to `clients`, and take longer.
"""

import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import ExitStack

PROBE_TIMEOUT_SECONDS = 2.0
MAX_ANSWER_BYTES = 1_000_000

_KAFKA_API_VERSIONS = 18
_CORRELATION_ID = 7
_CQL_OPTIONS = 5
_CQL_SUPPORTED = 6

Probe = Callable[[str, int, ssl.SSLContext | None], bool]


def kafka_answers(host: str, port: int, tls: ssl.SSLContext | None = None) -> bool:
    """Whether ApiVersions gets an answer without an error; False for anything else.

    Asked before any login, as OPTIONS of Cassandra is.
    """
    # Version 0 of the request, without a client id (length -1).
    request = struct.pack(">ihhih", 10, _KAFKA_API_VERSIONS, 0, _CORRELATION_ID, -1)
    answer = _ask(host, port, tls, request, ">iih")
    if answer is None:
        return False
    length, correlation_id, error = answer
    return 6 <= length <= MAX_ANSWER_BYTES and (correlation_id, error) == (_CORRELATION_ID, 0)


def cassandra_answers(host: str, port: int, tls: ssl.SSLContext | None = None) -> bool:
    """Whether OPTIONS gets SUPPORTED; False for anything else. Asked before any login."""
    request = struct.pack(">BBhBi", 4, 0, 0, _CQL_OPTIONS, 0)
    answer = _ask(host, port, tls, request, ">BBhBi")
    return answer is not None and (answer[0], answer[3]) == (0x84, _CQL_SUPPORTED)


PROBES: dict[str, Probe] = {"kafka": kafka_answers, "cassandra": cassandra_answers}


def _ask(
    host: str, port: int, tls: ssl.SSLContext | None, request: bytes, form: str
) -> tuple[int, ...] | None:
    """The beginning of the answer; None when there is none."""
    try:
        with ExitStack() as stack:
            connection = stack.enter_context(
                socket.create_connection((host, port), PROBE_TIMEOUT_SECONDS)
            )
            if tls is not None:
                wrapped = tls.wrap_socket(connection, server_hostname=host)
                connection = stack.enter_context(wrapped)
            connection.sendall(request)
            answer = stack.enter_context(connection.makefile("rb"))
            return struct.unpack(form, answer.read(struct.calcsize(form)))
    except (OSError, struct.error):
        return None
