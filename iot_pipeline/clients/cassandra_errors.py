"""The one place where the Cassandra driver's errors become ours, sorted by remedy."""

import errno
import re

from cassandra import (
    AuthenticationFailed,
    CoordinationFailure,
    DriverException,
    OperationTimedOut,
    ReadTimeout,
    RequestExecutionException,
    RequestValidationException,
    Timeout,
    Unauthorized,
    Unavailable,
    UnresolvableContactPoints,
)
from cassandra.cluster import NoHostAvailable, QueryExhausted, TraceUnavailable
from cassandra.connection import (
    ConnectionBusy,
    ConnectionException,
    CrcException,
    ProtocolError,
    ProtocolVersionUnsupported,
)
from cassandra.pool import NoConnectionsAvailable
from cassandra.protocol import (
    ErrorMessage,
    InternalError,
    IsBootstrappingErrorMessage,
    NotSupportedError,
    OverloadedErrorMessage,
    ServerError,
)

from iot_pipeline.core.rights.grants import read_refusal
from iot_pipeline.errors import (
    CassandraSlowError,
    CassandraUnavailableError,
    ConfigurationError,
    MissingRightError,
    PermanentError,
    PipelineError,
    RowsRefusedError,
    SchemaMismatchError,
    TooManyTombstonesError,
)

_TRANSIENT = (
    ConnectionBusy,
    ConnectionException,
    CoordinationFailure,
    CrcException,
    IsBootstrappingErrorMessage,
    NoConnectionsAvailable,
    NoHostAvailable,
    OperationTimedOut,
    OverloadedErrorMessage,
    QueryExhausted,
    RequestExecutionException,
    # A node that is stopping or out of memory answers so, and it says nothing about the data:
    # taken for a refusal, good readings would become dead letters.
    ServerError,
    Timeout,
    TraceUnavailable,
    Unavailable,
)
_PERMANENT = (
    DriverException,
    ErrorMessage,
    InternalError,
    NotSupportedError,
    ProtocolError,
    RequestValidationException,
)
_ERRNO = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "the connection was closed",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network is unreachable",
    errno.ETIMEDOUT: "no answer in time",
}
DRIVER_ERRORS = (*_TRANSIENT, *_PERMANENT)

# What a replica gives up at, though it is well: the same request will not do better later.
# Protocol 4 tells it in words alone.
_TOMBSTONES, _READ_SIZE = "READ_TOO_MANY_TOMBSTONES", "READ_SIZE"

# The driver's own words, and the server's inside them.
_WANTS_LOGIN = "Remote end requires authentication"
_QUOTED = re.compile(r'message="([^"]+)"')

_NO_METADATA = "metadata service at"

_NO_TABLE = (
    "unconfigured table",
    "does not exist",
    "no keyspace has been specified",
    "undefined column name",
    "unknown identifier",
)


def translate(exc: BaseException, doing: str) -> PipelineError:
    """Our error for a driver's, with what was being done; raise it `from exc`.

    Args:
        exc: any of `DRIVER_ERRORS`.
        doing: attempt and coordinates, such as `writing iot_data.sensor_data`.
    """
    # A request that no host answered hides what each host said; one bad password is no outage.
    if isinstance(exc, NoHostAvailable):
        said = _by_node(exc)
        for error in said.values():
            if isinstance(error, (AuthenticationFailed, Unauthorized, ProtocolVersionUnsupported)):
                return translate(error, doing)
        return CassandraUnavailableError(f"{doing}: {_no_answer(said)}")
    if isinstance(exc, Unauthorized):
        return MissingRightError(f"{doing}: {_lacking(_message(exc))}")
    if isinstance(exc, AuthenticationFailed):
        words = _message(exc)
        if _WANTS_LOGIN in words:
            return ConfigurationError(
                f"{doing}: Cassandra asks for a login; set IOT_CASSANDRA_USERNAME and "
                "IOT_CASSANDRA_PASSWORD (or IOT_CASSANDRA_PASSWORD_FILE)"
            )
        quoted = _QUOTED.search(words)
        return ConfigurationError(
            f"{doing}: Cassandra does not let us in ({quoted[1] if quoted else words}); "
            "IOT_CASSANDRA_USERNAME and IOT_CASSANDRA_PASSWORD are the login"
        )
    if isinstance(exc, UnresolvableContactPoints):
        return ConfigurationError(f"{doing}: no host that IOT_CONTACT_POINTS names can be resolved")
    if _NO_METADATA in _message(exc):
        return CassandraUnavailableError(
            f"{doing}: Astra's metadata service does not answer. Is the "
            "database paused, or the bundle (IOT_CASSANDRA_SECURE_CONNECT_BUNDLE) of another one?"
        )
    if isinstance(exc, ProtocolVersionUnsupported):
        return ConfigurationError(f"{doing}: this server is not Cassandra 4 or 5")
    if isinstance(exc, CoordinationFailure) and _TOMBSTONES in str(exc):
        return TooManyTombstonesError(
            f"{doing}: Cassandra gave up at more deleted or expired cells than its "
            "tombstone_failure_threshold allows. They stay until gc_grace_seconds after they died "
            "and a compaction then: ask for a shorter time, or raise the threshold"
        )
    if isinstance(exc, CoordinationFailure) and _READ_SIZE in str(exc):
        return PermanentError(
            f"{doing}: Cassandra gave up at an answer larger than its read size limit: ask for a "
            "shorter time"
        )
    if isinstance(exc, (OperationTimedOut, ReadTimeout)):
        return CassandraSlowError(f"{doing}: Cassandra {_in_words(exc)}")
    if isinstance(exc, _TRANSIENT):
        return CassandraUnavailableError(f"{doing}: Cassandra {_in_words(exc)}")
    text = _message(exc)
    if any(words in text.lower() for words in _NO_TABLE):
        return SchemaMismatchError(f"{doing}: {text}; `iot setup` makes what is missing")
    if isinstance(exc, (RequestValidationException, ErrorMessage)):
        return RowsRefusedError(f"{doing}: Cassandra refused it: {text}")
    return PermanentError(f"{doing}: {type(exc).__name__}: {text}")


def _lacking(said: str) -> str:
    found = read_refusal(said)
    if found is None:
        return f"our role lacks a right: {said}"
    role, grant = found
    return (
        f"Cassandra does not let role {role} {grant.permission} there; this grants it: "
        f"`{grant.line(role)}`"
    )


def _by_node(exc: NoHostAvailable) -> dict[str, BaseException]:
    """Address -> what that node said; where a session finds none alive there is nothing said."""
    if not isinstance(exc.errors, dict):
        return {str(address): NoConnectionsAvailable() for address in exc.errors or ()}
    return {
        # A host's text carries its data center, an endpoint's does not.
        str(getattr(node, "endpoint", node)): error
        for node, error in exc.errors.items()
        if isinstance(error, BaseException)
    }


def _no_answer(said: dict[str, BaseException]) -> str:
    nodes = [f"{address} ({_cause(error)})" for address, error in sorted(said.items())]
    if not nodes:
        return "no Cassandra node answers"
    if len(nodes) == 1:
        return f"Cassandra at {nodes[0].replace(' (', ' does not answer (', 1)}"
    return f"none of {len(nodes)} Cassandra nodes answers: {', '.join(nodes)}"


def _cause(error: BaseException) -> str:
    """Why one node did not answer, in few words and without addresses."""
    if isinstance(error, OSError) and error.errno in _ERRNO:
        return _ERRNO[error.errno]
    if isinstance(error, (OperationTimedOut, TimeoutError)):
        return "no answer in time"
    if isinstance(error, NoConnectionsAvailable):
        return "not connected"
    if isinstance(error, ConnectionBusy):
        return "too many requests on their way"
    if isinstance(error, ConnectionException):
        return "the connection was closed"
    return _message(error)


def _in_words(exc: BaseException) -> str:
    """What a cluster that can be reached did with a request, after the word `Cassandra`."""
    if isinstance(exc, Unavailable):
        return (
            f"has too few replicas alive: {exc.alive_replicas} of the {exc.required_replicas} "
            "that this request needs"
        )
    if isinstance(exc, Timeout):
        return (
            f"did not answer in time: {exc.received_responses} of the {exc.required_responses} "
            "replicas that this request needs did"
        )
    if isinstance(exc, OperationTimedOut):
        return "did not answer in time"
    if isinstance(exc, (OverloadedErrorMessage, IsBootstrappingErrorMessage, ServerError)):
        return f"could not do it now: {_message(exc)}"
    return f"could not be asked: {_cause(exc)}"


def _message(exc: BaseException) -> str:
    """The server's own sentence where there is one, else the first line of the text."""
    said = getattr(exc, "message", None)
    lines = str(said if isinstance(said, str) and said.strip() else exc).strip().splitlines()
    return lines[0][:500] if lines else type(exc).__name__
