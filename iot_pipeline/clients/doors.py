"""Why a server that listens does not let us in, found out by knocking once more.

Both drivers say "certificate verify failed" or "the connection was closed" and try again for
ever; here one connection is made and what it meets is put into words. Nothing secret is sent.
"""

import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from iot_pipeline.errors import ConfigurationError, PermanentError, PipelineError
from iot_pipeline.settings import Settings
from iot_pipeline.tls import Tls, tls_context

# For one step of a connection; and for all doors together, however many of them hang.
_SECONDS = 3.0
_ALL_SECONDS = 6.0
_LEAST_SECONDS = 0.05
_CORRELATION_ID = 7
_SASL_HANDSHAKE = 17
_NO_SASL_HERE, _OTHER_MECHANISM = 34, 33

# How a TLS server answers what is no TLS.
_ALERT = b"\x15\x03"
# OpenSSL's X509_V_ERR_...
_EXPIRED, _NOT_YET_VALID = 10, 9
_OTHER_NAME = (62, 64)
_UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)


@dataclass(frozen=True, slots=True)
class _Door:
    """One address, and how it is spoken to."""

    host: str
    port: int
    tls: Tls | None
    request: bytes
    # What to set where it speaks TLS and we do not, and the other way round.
    to_encrypt: str
    to_stop: str
    # When to give up, in monotonic seconds.
    until: float

    @property
    def left(self) -> float:
        """Seconds that the next step may take."""
        return max(_LEAST_SECONDS, min(_SECONDS, self.until - time.monotonic()))

    @property
    def at(self) -> str:
        return f"{self.host}:{self.port}"


def why_kafka_is_shut(settings: Settings) -> PipelineError | None:
    """Why no broker takes what the settings say; None where a wait may help, or nothing is wrong.

    A password is not tried: the broker's own words about one are `Heard`.
    """
    sasl = "SASL_" if settings.kafka_has_sasl else ""
    to_encrypt = f"IOT_KAFKA_SECURITY_PROTOCOL={sasl}SSL"
    if not sasl:
        to_encrypt += ", or SASL_SSL where it asks for a login too"
    mechanism = settings.kafka_sasl_mechanism.replace("AWS_MSK_IAM", "OAUTHBEARER").encode()
    body = struct.pack(">hhih", _SASL_HANDSHAKE, 1, _CORRELATION_ID, -1)
    body += struct.pack(">h", len(mechanism)) + mechanism

    def judge(door: _Door, answer: bytes) -> PipelineError | None:
        if len(answer) < 14 or struct.unpack_from(">i", answer, 4)[0] != _CORRELATION_ID:
            return ConfigurationError(
                f"{door.at}: what answers there is not Kafka; IOT_BOOTSTRAP_SERVERS is where it is"
            )
        (error,) = struct.unpack_from(">h", answer, 8)
        if error == _NO_SASL_HERE and settings.kafka_has_sasl:
            return ConfigurationError(
                f"{door.at}: it asks for no login there; set IOT_KAFKA_SECURITY_PROTOCOL="
                f"{'SSL' if door.tls else 'PLAINTEXT'} and no IOT_KAFKA_SASL_..., or use the port "
                "that has a login"
            )
        if error == _OTHER_MECHANISM and settings.kafka_has_sasl:
            return ConfigurationError(
                f"{door.at}: it does not take IOT_KAFKA_SASL_MECHANISM="
                f"{settings.kafka_sasl_mechanism}; it takes {', '.join(_strings(answer, 10))}"
            )
        if error == _OTHER_MECHANISM:
            return ConfigurationError(
                f"{door.at}: it asks for a login ({', '.join(_strings(answer, 10))}); set "
                f"IOT_KAFKA_SECURITY_PROTOCOL={'SASL_SSL' if door.tls else 'SASL_PLAINTEXT'} and "
                "IOT_KAFKA_SASL_MECHANISM"
            )
        return None

    until = time.monotonic() + _ALL_SECONDS
    pairs = (part.strip().rpartition(":") for part in settings.bootstrap_servers.split(","))
    doors = (
        _Door(
            host.strip("[]"),
            int(port),
            settings.kafka_tls,
            struct.pack(">i", len(body)) + body,
            to_encrypt,
            f"IOT_KAFKA_SECURITY_PROTOCOL={sasl or ''}PLAINTEXT",
            until,
        )
        for host, _, port in pairs
    )
    return _first_refusal(doors, judge)


def why_cassandra_is_shut(settings: Settings) -> PipelineError | None:
    """The same for Cassandra's nodes; its driver says itself what is wrong with a login.

    Behind Astra's bundle stands a proxy, which is not asked.
    """
    if settings.cassandra_secure_connect_bundle:
        return None
    until = time.monotonic() + _ALL_SECONDS
    doors = (
        _Door(
            host.strip("[]"),
            settings.cassandra_port,
            settings.cassandra_tls,
            struct.pack(">BBhBi", 4, 0, 0, 5, 0),  # OPTIONS
            "IOT_CASSANDRA_SSL=true",
            "IOT_CASSANDRA_SSL=false",
            until,
        )
        for host in settings.contact_points
    )

    def judge(door: _Door, answer: bytes) -> PipelineError | None:
        if answer[:1] in (b"\x83", b"\x84", b"\x85"):
            return None
        return ConfigurationError(
            f"{door.at}: what answers there is not Cassandra; IOT_CONTACT_POINTS and "
            "IOT_CASSANDRA_PORT are where it is"
        )

    return _first_refusal(doors, judge)


def _first_refusal(
    doors: Iterable[_Door], judge: Callable[[_Door, bytes], PipelineError | None]
) -> PipelineError | None:
    """The first door's that says something; None where each is only away, or fine."""
    for door in doors:
        if time.monotonic() > door.until:
            return None
        if (why := _knock(door, judge)) is not None:
            return why
    return None


def _knock(
    door: _Door, judge: Callable[[_Door, bytes], PipelineError | None]
) -> PipelineError | None:
    context = tls_context(door.tls)
    try:
        answer = _ask(door, context)
    except ssl.SSLCertVerificationError as exc:
        return _of_certificate(door, exc)
    except TimeoutError:
        return None  # it hangs, or is far away
    except OSError as exc:
        if context is None:
            answer = b""
        elif alert := _alert_of(exc) or _alert_of_older_tls(door):
            return _of_alert(door, alert)
        elif _speaks_plain(door):
            return ConfigurationError(
                f"{door.at}: it speaks no TLS there; set {door.to_stop}, or use the port that does"
            )
        else:
            return None
    if not answer or answer[:2] == _ALERT:
        if context is None and _speaks_tls(door):
            return ConfigurationError(f"{door.at}: it wants TLS; set {door.to_encrypt}")
        return None
    return judge(door, answer)


def _ask(door: _Door, context: ssl.SSLContext | None) -> bytes:
    """The first bytes of the answer, none where the connection is closed."""
    with ExitStack() as stack:
        address = (door.host, door.port)
        connection = stack.enter_context(socket.create_connection(address, door.left))
        connection.settimeout(door.left)
        if context is not None:
            wrapped = context.wrap_socket(connection, server_hostname=door.host)
            connection = stack.enter_context(wrapped)
        connection.settimeout(door.left)
        connection.sendall(door.request)
        return connection.recv(4096)


def _speaks_plain(door: _Door) -> bool:
    try:
        answer = _ask(door, None)
    except OSError:
        return False
    return bool(answer) and answer[:2] != _ALERT


def _speaks_tls(door: _Door) -> bool:
    try:
        with (
            socket.create_connection((door.host, door.port), door.left) as plain,
            _anything().wrap_socket(plain, server_hostname=door.host),
        ):
            return True
    except ssl.SSLError as exc:
        return bool(_alert_of(exc))
    except OSError:
        return False


def _anything() -> ssl.SSLContext:
    """Trusts anything: for asking whether TLS is spoken, and never for more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _alert_of(exc: OSError) -> str:
    """What the server complained about in TLS's own words; empty when it did not."""
    reason = str(getattr(exc, "reason", "") or "")
    return reason.lower().replace("_", " ") if "ALERT" in reason else ""


def _alert_of_older_tls(door: _Door) -> str:
    """The alert for want of our certificate, as TLS 1.2 tells it within its handshake.

    In TLS 1.3 it comes behind the handshake, and is lost when we write before we read it.
    """
    context = tls_context(door.tls)
    assert context is not None
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        _ask(door, context)
    except OSError as exc:
        said = _alert_of(exc)
        return said if "handshake failure" in said or "certificate" in said else ""
    return ""


def _of_certificate(door: _Door, exc: ssl.SSLCertVerificationError) -> PipelineError:
    assert door.tls is not None
    if exc.verify_code == _EXPIRED:
        return PermanentError(
            f"{door.at}: its certificate has expired; it needs a new one, and nothing here helps"
        )
    if exc.verify_code == _NOT_YET_VALID:
        return PermanentError(
            f"{door.at}: its certificate is not valid yet; is the clock right, here and there?"
        )
    if exc.verify_code in _OTHER_NAME:
        return ConfigurationError(
            f"{door.at}: its certificate is for another name than {door.host}; use a name that it "
            "has, or have it made again with this one"
        )
    if exc.verify_code in _UNKNOWN_AUTHORITY:
        trusted = f"{door.tls.settings}_CA_LOCATION"
        held = (
            f"{trusted}={door.tls.ca} does not hold"
            if door.tls.ca
            else "this system does not trust"
        )
        return ConfigurationError(
            f"{door.at}: its certificate was signed by an authority that {held}; set {trusted} to "
            "the certificate of the right one, if this is the right server"
        )
    return ConfigurationError(f"{door.at}: its certificate is refused: {exc.verify_message}")


def _of_alert(door: _Door, alert: str) -> PipelineError:
    assert door.tls is not None
    ours = f"{door.tls.settings}_CERTIFICATE_LOCATION"
    if door.tls.certificate:
        return ConfigurationError(
            f"{door.at}: it does not take our certificate, {ours}={door.tls.certificate} ({alert})"
        )
    return ConfigurationError(
        f"{door.at}: it wants a certificate of ours; set {ours} and "
        f"{door.tls.settings}_KEY_LOCATION"
    )


def _strings(answer: bytes, at: int) -> list[str]:
    (count,) = struct.unpack_from(">i", answer, at)
    found, at = [], at + 4
    for _ in range(max(0, min(count, 50))):
        (length,) = struct.unpack_from(">h", answer, at)
        found.append(answer[at + 2 : at + 2 + length].decode(errors="replace"))
        at += 2 + length
    return found
