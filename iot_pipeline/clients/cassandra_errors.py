"""The one place where the Cassandra driver's errors become ours, sorted by remedy."""

from cassandra import (
    AuthenticationFailed,
    CoordinationFailure,
    DriverException,
    OperationTimedOut,
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

from iot_pipeline.errors import (
    CassandraUnavailableError,
    ConfigurationError,
    PermanentError,
    PipelineError,
    RowsRefusedError,
    SchemaMismatchError,
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
DRIVER_ERRORS = (*_TRANSIENT, *_PERMANENT)

_NO_TABLE = ("unconfigured table", "does not exist", "undefined column name", "unknown identifier")


def translate(exc: BaseException, doing: str) -> PipelineError:
    """Our error for a driver's, with what was being done; raise it `from exc`.

    Args:
        exc: any of `DRIVER_ERRORS`.
        doing: attempt and coordinates, such as `writing iot_data.sensor_data`.
    """
    # A request that no host answered hides what each host said; one bad password is no outage.
    if isinstance(exc, NoHostAvailable):
        # By host what it said; where a session finds none of them alive, a list of their addresses.
        said = exc.errors.values() if isinstance(exc.errors, dict) else ()
        inner = [error for error in said if isinstance(error, BaseException)]
        for error in inner:
            if isinstance(error, (AuthenticationFailed, Unauthorized, ProtocolVersionUnsupported)):
                return translate(error, doing)
        told = "; ".join(sorted({_first_line(error) for error in inner})) or _first_line(exc)
        return CassandraUnavailableError(f"{doing}: no Cassandra node answered ({told})")
    if isinstance(exc, (AuthenticationFailed, Unauthorized)):
        return ConfigurationError(
            f"{doing}: Cassandra refused us ({_first_line(exc)}); check the user, the password and "
            "what the role may do"
        )
    if isinstance(exc, UnresolvableContactPoints):
        return ConfigurationError(
            f"{doing}: IOT_CONTACT_POINTS names no host that can be resolved ({_first_line(exc)})"
        )
    if isinstance(exc, ProtocolVersionUnsupported):
        return ConfigurationError(f"{doing}: this server is not Cassandra 4 or 5 ({exc})")
    if isinstance(exc, _TRANSIENT):
        return CassandraUnavailableError(f"{doing}: {type(exc).__name__}: {_first_line(exc)}")
    text = _first_line(exc)
    if any(words in text.lower() for words in _NO_TABLE):
        return SchemaMismatchError(f"{doing}: {text}; `iot setup` makes what is missing")
    if isinstance(exc, (RequestValidationException, ErrorMessage)):
        return RowsRefusedError(f"{doing}: Cassandra refused it: {text}")
    return PermanentError(f"{doing}: {type(exc).__name__}: {text}")


def _first_line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:500] if lines else type(exc).__name__
