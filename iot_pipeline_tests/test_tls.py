"""What a TLS client trusts and shows is read before anything is contacted."""

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from iot_pipeline.clients.kafka import check_config
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.local.certificates import make_authority, make_certificate
from iot_pipeline.settings import Settings
from iot_pipeline.tls import Tls, tls_context

PASSWORD = "hunter2"


@pytest.fixture
def encrypted(tmp_path: Path) -> tuple[str, str, str]:
    """An authority, a certificate, and its key under PASSWORD."""
    make_authority(tmp_path)
    pem = make_certificate(tmp_path, "client")
    key = load_pem_private_key(pem.read_bytes(), None)
    kind = BestAvailableEncryption(PASSWORD.encode())
    (tmp_path / "client.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, kind)
    )
    return str(tmp_path / "ca.pem"), str(pem), str(tmp_path / "client.key")


def test_without_tls_there_is_no_context() -> None:
    assert tls_context(None) is None


def test_a_server_is_always_checked(encrypted: tuple[str, str, str]) -> None:
    context = tls_context(Tls("IOT_X_SSL", encrypted[0]))
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    lenient = tls_context(Tls("IOT_X_SSL", encrypted[0], check_hostname=False))
    assert lenient is not None
    assert (lenient.verify_mode, lenient.check_hostname) == (ssl.CERT_REQUIRED, False)


@pytest.mark.parametrize("password", ["", "another"])
def test_a_key_under_another_password_is_a_sentence(
    encrypted: tuple[str, str, str], password: str
) -> None:
    assert tls_context(Tls("IOT_X_SSL", *encrypted, PASSWORD)) is not None
    with pytest.raises(ConfigurationError, match="in IOT_X_SSL_KEY_PASSWORD where it has one"):
        tls_context(Tls("IOT_X_SSL", *encrypted, password))


@pytest.mark.parametrize("password", ["", "another", PASSWORD])
def test_librdkafka_says_the_same_of_a_key(encrypted: tuple[str, str, str], password: str) -> None:
    ca, certificate, key = encrypted
    settings = Settings.from_env(
        {
            "IOT_KAFKA_SECURITY_PROTOCOL": "SSL",
            "IOT_KAFKA_SSL_CA_LOCATION": ca,
            "IOT_KAFKA_SSL_CERTIFICATE_LOCATION": certificate,
            "IOT_KAFKA_SSL_KEY_LOCATION": key,
            "IOT_KAFKA_SSL_KEY_PASSWORD": password,
        }
    )
    if password == PASSWORD:
        check_config(settings)
        return
    with pytest.raises(ConfigurationError, match="and its password in IOT_KAFKA_SSL_KEY_PASSWORD"):
        check_config(settings)
