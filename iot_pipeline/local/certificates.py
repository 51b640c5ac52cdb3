"""Certificates for the servers of this machine: an authority of their own, made on the spot."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from iot_pipeline.files import write_private

AUTHORITY_DAYS = 3650
# Made again whenever a server is started.
CERTIFICATE_DAYS = 365

# Each node of a cluster has an address of its own (`local.nodes`), and all have one certificate.
ANY_NAME = ("localhost", "127.0.0.1", "127.0.0.2", "127.0.0.3")


def make_authority(folder: Path, name: str = "iot_pipeline local servers") -> None:
    """Write `ca.pem`, and `ca.key`, which only the owner may read."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), _named(name)
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    certificate = (
        _begun(subject, subject, key, timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    write_private(folder / "ca.key", _pem_of(key))
    (folder / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))


def make_certificate(
    folder: Path,
    name: str,
    *,
    hosts: tuple[str, ...] = ANY_NAME,
    lives: timedelta = timedelta(days=CERTIFICATE_DAYS),
) -> Path:
    """Write `<name>.pem`, signed by the authority in `folder`: a key, its certificate, the CA's.

    Kafka and Cassandra take this one file; only the owner may read it. A `lives` below zero makes
    a certificate that has expired.
    """
    authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    ca_key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = (
        _begun(_named(name), authority.subject, key, lives)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(map(_host, hosts)), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .add_extension(issuer, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    chain = [part.public_bytes(Encoding.PEM) for part in (certificate, authority)]
    write_private(path, b"".join([_pem_of(key), *chain]))
    return path


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lives: timedelta
) -> x509.CertificateBuilder:
    # An hour back: a container's clock may be behind.
    until = datetime.now(UTC) + lives
    since = min(datetime.now(UTC), until) - timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
