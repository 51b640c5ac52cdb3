"""What a TLS client trusts and shows, and the context of Python's own TLS that does so."""

import json
import ssl
import tempfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from iot_pipeline.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files by their paths, empty where there is none; `settings` begins their variables.

    An empty `ca` trusts what the system trusts. The server's certificate is always checked, and
    that it names the host unless `check_hostname` is False.
    """

    settings: str
    ca: str = ""
    certificate: str = ""
    key: str = ""
    key_password: str = field(default="", repr=False)
    check_hostname: bool = True


def tls_context(tls: Tls | None) -> ssl.SSLContext | None:
    """The context; None for None.

    Raises:
        ConfigurationError: a file is no PEM, or the key's password is another.
    """
    if tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
    except ssl.SSLError:
        raise ConfigurationError(
            f"{tls.settings}_CA_LOCATION={tls.ca}: expected certificates as PEM"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = tls.check_hostname
    if tls.certificate:
        # A function, so that an encrypted key without a password never asks on the terminal.
        try:
            context.load_cert_chain(tls.certificate, tls.key, lambda: tls.key_password)
        except (ssl.SSLError, ValueError):
            raise ConfigurationError(
                f"{tls.settings}_CERTIFICATE_LOCATION={tls.certificate}: expected a certificate as "
                f"PEM, its key in {tls.settings}_KEY_LOCATION={tls.key}, and the key's password in "
                f"{tls.settings}_KEY_PASSWORD where it has one"
            ) from None
    return context


# What Cassandra's driver takes out of a secure connect bundle; it ignores the rest.
_BUNDLE_FILES = ("config.json", "ca.crt", "cert", "key")
_LARGEST_BUNDLED_BYTES = 65_536


def why_no_bundle(path: str) -> str:
    """Why a file is no secure connect bundle, in few words; empty when it is one.

    Nothing is contacted, and nothing of what it holds is told.
    """
    try:
        with zipfile.ZipFile(path) as bundle:
            sizes = {item.filename: item.file_size for item in bundle.infolist()}
            if missing := [name for name in _BUNDLE_FILES if name not in sizes]:
                return f"expected {', '.join(missing)} in it, as Astra's bundles have"
            if max(sizes[name] for name in _BUNDLE_FILES) > _LARGEST_BUNDLED_BYTES:
                return "a file in it is too large for one of a bundle"
            content = {name: bundle.read(name) for name in _BUNDLE_FILES}
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error):
        # In order: no zip, or a broken one; with a password; packed in a way Python does not know.
        return "expected a zip file that can be unpacked"
    try:
        config = json.loads(content["config.json"])
        is_place = isinstance(config["host"], str) and 0 < int(config["port"]) < 65_536
    except (ValueError, KeyError, TypeError):
        is_place = False
    if not is_place:
        return "expected host and port in its config.json"
    return _why_no_certificates(content)


def _why_no_certificates(content: dict[str, bytes]) -> str:
    # OpenSSL reads a key from a file alone; the folder is the owner's, and gone at once.
    with tempfile.TemporaryDirectory() as folder:
        for name in _BUNDLE_FILES[1:]:
            (Path(folder) / name).write_bytes(content[name])
        ca, certificate, key = (str(Path(folder) / name) for name in _BUNDLE_FILES[1:])
        try:
            context = ssl.create_default_context(cafile=ca)
            context.load_cert_chain(certificate, key, lambda: "")
        except (ssl.SSLError, ValueError):
            return "expected certificates and a key as PEM in its ca.crt, cert and key"
    return ""
