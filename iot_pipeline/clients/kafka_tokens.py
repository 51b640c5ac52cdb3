"""Tokens of OAUTHBEARER, where librdkafka does not fetch them itself.

It does so for its own clients (OIDC). kafka-python, which looks at what cannot be read, is given
the same token by the same endpoint; AWS's are signed by Amazon's own library.
"""

import base64
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from kafka.net.sasl.oauth import AbstractTokenProvider

from iot_pipeline.errors import ConfigurationError, KafkaUnavailableError, PermanentError
from iot_pipeline.settings import Settings
from iot_pipeline.tls import Tls, tls_context

_SECONDS = 10.0
# A token is asked for again this long before it ends.
_SPARE_SECONDS = 30.0
_REFUSED = (400, 401, 403)


def msk_signer(region: str) -> Callable[[], tuple[str, float]]:
    """What makes a token for Amazon MSK (IAM), and says when it ends, in seconds since 1970.

    Raises:
        ConfigurationError: Amazon's library is not installed.
    """
    try:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
    except ImportError:
        raise ConfigurationError(
            "IOT_KAFKA_SASL_MECHANISM=AWS_MSK_IAM needs Amazon's library: "
            "pip install 'iot-pipeline[msk]'"
        ) from None

    def sign() -> tuple[str, float]:
        token, ends_ms = MSKAuthTokenProvider.generate_auth_token(region)
        return str(token), ends_ms / 1000

    return sign


class _Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """Gives kafka-python one token until it ends, then another."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._token, self._ends_at = "", 0.0

    def token(self) -> str:
        if time.time() > self._ends_at - _SPARE_SECONDS:
            if self._settings.kafka_sasl_mechanism == "AWS_MSK_IAM":
                self._token, self._ends_at = msk_signer(self._settings.kafka_aws_region)()
            else:
                self._token, self._ends_at = _fetch(self._settings)
        return self._token

    def extensions(self) -> dict[str, str]:
        pairs = self._settings.kafka_sasl_oauthbearer_extensions.split(",")
        return dict(pair.strip().split("=", 1) for pair in pairs if "=" in pair)


def token_provider(settings: Settings) -> Any:
    """What kafka-python asks for tokens; the first is there.

    kafka-python takes any trouble with one for a broker that does not answer, so it is met here.

    Raises:
        ConfigurationError: the endpoint refuses the client.
        KafkaUnavailableError: the endpoint does not answer.
    """
    tokens = _Tokens(settings)
    tokens.token()
    return tokens


def _fetch(settings: Settings) -> tuple[str, float]:
    """A token by the client's credentials (OAuth 2.0), and when it ends.

    Raises:
        ConfigurationError: the endpoint refuses the client.
        KafkaUnavailableError: the endpoint does not answer.
    """
    url = settings.kafka_sasl_oauthbearer_token_endpoint_url
    secret = settings.kafka_sasl_oauthbearer_client_secret.get_secret_value()
    doing = f"getting a token from {url}"
    form = {"grant_type": "client_credentials"}
    if settings.kafka_sasl_oauthbearer_scope:
        form["scope"] = settings.kafka_sasl_oauthbearer_scope
    name = f"{settings.kafka_sasl_oauthbearer_client_id}:{secret}"
    request = urllib.request.Request(
        url,
        urllib.parse.urlencode(form).encode(),
        {"Authorization": f"Basic {base64.b64encode(name.encode()).decode()}"},
    )
    # The property of librdkafka's that says whom to trust there.
    ca = settings.kafka_properties.get("https.ca.location", "")
    context = tls_context(Tls("IOT_KAFKA__HTTPS", ca))
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS, context=context) as answer:
            found = json.loads(answer.read(1_000_000))
        return str(found["access_token"]), time.time() + float(found.get("expires_in", 60))
    except urllib.error.HTTPError as exc:
        if exc.code in _REFUSED:
            raise ConfigurationError(
                f"{doing}: refused ({exc.code}); look at IOT_KAFKA_SASL_OAUTHBEARER_CLIENT_ID and "
                "IOT_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET"
            ) from None
        raise KafkaUnavailableError(f"{doing}: it answers {exc.code}. Try again") from None
    except OSError as exc:
        raise KafkaUnavailableError(f"{doing}: {exc}. Try again") from None
    except (ValueError, KeyError, TypeError):
        raise PermanentError(f"{doing}: what it answers is no token") from None
