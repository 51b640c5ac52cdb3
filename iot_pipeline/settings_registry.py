"""How a schema registry is reached. Nothing here is sent anywhere: `clients.registry` asks."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from iot_pipeline.settings_kafka import half_of_a_pair
from iot_pipeline.settings_sources import unreadable_files
from iot_pipeline.tls import Tls

_HERE = ("localhost", "127.0.0.1", "::1")


class RegistrySettings(BaseModel):
    """The door to a schema registry. `Settings` checks it as a whole."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    registry_url: str = ""
    """schema registry with Confluent's REST API, such as https://registry:8081; empty: none"""
    registry_ca_location: str = ""
    """PEM file of the authority that signed the registry's certificate; empty: the system's"""
    registry_certificate_location: str = ""
    """PEM file of our own certificate, where the registry asks for one"""
    registry_key_location: str = ""
    """PEM file of its key"""
    registry_key_password: SecretStr = SecretStr("")
    """password of the key; IOT_REGISTRY_KEY_PASSWORD_FILE names a file that holds it"""
    registry_username: str = ""
    """user of the registry (HTTP Basic), or an API key; empty: no login"""
    registry_password: SecretStr = SecretStr("")
    """its password; IOT_REGISTRY_PASSWORD_FILE names a file that holds it"""
    registry_token: SecretStr = SecretStr("")
    """bearer token instead of a user; IOT_REGISTRY_TOKEN_FILE names a file that holds it"""

    @property
    def registry_tls(self) -> Tls | None:
        """What the registry's client trusts and shows; None where nothing is encrypted."""
        if not self.registry_url.startswith("https:"):
            return None
        return Tls(
            "IOT_REGISTRY",
            self.registry_ca_location,
            self.registry_certificate_location,
            self.registry_key_location,
            self.registry_key_password.get_secret_value(),
        )


def wrong_with(settings: RegistrySettings) -> Iterator[str]:
    """A sentence for each thing that cannot work, though every value alone is well formed."""
    there = []
    for name in RegistrySettings.model_fields:
        value = getattr(settings, name)
        if value.get_secret_value() if isinstance(value, SecretStr) else value:
            there.append(name)
    if not settings.registry_url:
        for name in there:
            yield f"IOT_{name.upper()} needs IOT_REGISTRY_URL"
        return
    try:
        url = urlsplit(settings.registry_url)
        is_address = url.scheme in ("http", "https") and url.hostname and (url.port or 1)
    except ValueError:
        is_address = False
    if not is_address or url.query or url.fragment:
        yield "IOT_REGISTRY_URL: expected such as https://registry:8081, or with a path behind it"
        return
    if url.username is not None or url.password is not None:
        # It is shown by `iot settings`, so the value is not repeated here.
        yield (
            "IOT_REGISTRY_URL: expected no login in it; set IOT_REGISTRY_USERNAME and "
            "IOT_REGISTRY_PASSWORD (or IOT_REGISTRY_PASSWORD_FILE)"
        )
    password, token = "registry_password" in there, "registry_token" in there
    if settings.registry_username and not password:
        yield "IOT_REGISTRY_USERNAME needs IOT_REGISTRY_PASSWORD (or IOT_REGISTRY_PASSWORD_FILE)"
    if password and not settings.registry_username:
        yield "IOT_REGISTRY_PASSWORD needs IOT_REGISTRY_USERNAME"
    if settings.registry_username and token:
        yield "IOT_REGISTRY_USERNAME and IOT_REGISTRY_TOKEN are both set: expected one of them"
    if url.scheme == "http":
        if (password or token) and url.hostname not in _HERE:
            yield (
                f"IOT_REGISTRY_URL={settings.registry_url} does not encrypt, and a login would be "
                "readable on the way: expected https"
            )
        for name in there:
            if name.endswith("_location"):
                yield f"IOT_{name.upper()} is set, and IOT_REGISTRY_URL is not https"
    locations = [name for name in there if name.endswith("_location")]
    yield from unreadable_files((name, getattr(settings, name)) for name in locations)
    yield from half_of_a_pair(settings, "registry")
