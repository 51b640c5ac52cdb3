"""What a TLS client trusts and shows, and the context of Python's own TLS that does so."""

import ssl
from dataclasses import dataclass, field

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
