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
    answer = _ask(host, port, request, ">iih")
    if answer is None:
        return False
    length, correlation_id, error = answer
    return 6 <= length <= MAX_ANSWER_BYTES and (correlation_id, error) == (_CORRELATION_ID, 0)


def cassandra_answers(host: str, port: int) -> bool:
    """Whether OPTIONS gets SUPPORTED; False for anything else. Asked before any login."""
    answer = _ask(host, port, struct.pack(">BBhBi", 4, 0, 0, _CQL_OPTIONS, 0), ">BBhBi")
    return answer is not None and (answer[0], answer[3]) == (0x84, _CQL_SUPPORTED)


PROBES: dict[str, Probe] = {"kafka": kafka_answers, "cassandra": cassandra_answers}


def _ask(host: str, port: int, request: bytes, form: str) -> tuple[int, ...] | None:
    """The beginning of the answer; None when there is none."""
    try:
        with socket.create_connection((host, port), PROBE_TIMEOUT_SECONDS) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as answer:
                return struct.unpack(form, answer.read(struct.calcsize(form)))
    except (OSError, struct.error):
        return None
