"""How every Kafka client of ours reaches the brokers; what else it is told is its own module's."""

import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from confluent_kafka import Consumer, KafkaException

from iot_pipeline.clients.doors import why_kafka_is_shut
from iot_pipeline.core.rights.grants import UNKNOWN_USER, KafkaGrant, kafka_line
from iot_pipeline.errors import ConfigurationError, PipelineError
from iot_pipeline.settings import Settings
from iot_pipeline.settings_kafka import PROPERTIES

_WRONG_PROPERTY = re.compile(
    r'(?P<why>No such|Invalid value\b.*?) configuration property:? "(?P<name>[^"]+)"'
)


# How long a client waits for a broker that has stopped answering, before it asks who leads the
# partition now. By default that is a minute, and half of one for what is written: one frozen broker
# of three stopped ingestion for all of it, or, where it led the topic of dead letters, for the 20 s
# that a letter has. IOT_KAFKA__SOCKET_TIMEOUT_MS and IOT_KAFKA__REQUEST_TIMEOUT_MS are for a
# connection over which 8 MB take longer.
# And how often it asks that without any trouble, by default every five minutes: a leader that was
# cut off from the other brokers, but not from us, answers as before, and has nothing new for ever.
# It asks a broker that it is connected to, which by default may be that one alone: so all are.
NOTICES_SOON = {
    "socket.timeout.ms": "6000",
    "socket.connection.setup.timeout.ms": "6000",
    "request.timeout.ms": "6000",
    "topic.metadata.refresh.interval.ms": "3000",
    "enable.sparse.connections": "false",
}


def client_config(settings: Settings) -> dict[str, Any]:
    """Where the brokers are, and what they want of a client that connects, in librdkafka's words.

    It holds secrets: give it to `open_client`, and to nothing that prints.
    """
    config: dict[str, Any] = NOTICES_SOON | settings.kafka_properties
    for name, setting in PROPERTIES.items():
        value = getattr(settings, setting)
        value = value.get_secret_value() if hasattr(value, "get_secret_value") else value
        if value:
            config[name] = value
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        config["sasl.oauthbearer.method"] = "oidc"
    elif settings.kafka_sasl_mechanism == "AWS_MSK_IAM":
        from iot_pipeline.clients.kafka_tokens import msk_signer

        sign = msk_signer(settings.kafka_aws_region)
        config["sasl.mechanism"] = "OAUTHBEARER"
        config["oauth_cb"] = lambda _: sign()
    return config


def each_server(config: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The configuration of a client that asks one of the brokers alone, for each that is named."""
    servers = str(config["bootstrap.servers"]).split(",")
    alone = {**config, "enable.sparse.connections": "true"}
    return [(name, {**alone, "bootstrap.servers": name}) for name in map(str.strip, servers)]


def open_client(kind: Callable[..., Any], config: Mapping[str, Any], logger: Any) -> Any:
    """A Consumer, Producer or AdminClient; it connects in the background.

    Raises:
        ConfigurationError: librdkafka does not take the configuration.
    """
    try:
        return kind(dict(config), logger=logger)
    except KafkaException as exc:
        why = _refusal(exc)
    # Raised here: the client's own error may quote what it was given.
    raise ConfigurationError(why)


def lacking(config: Mapping[str, Any], operation: str, kind: str, name: str) -> str:
    """What to say where Kafka denies a right; `config` is `client_config`'s."""
    user = config.get("sasl.username") or UNKNOWN_USER
    line = kafka_line([KafkaGrant(operation, kind, name)], user, config["bootstrap.servers"])
    who = "our user" if user == UNKNOWN_USER else f"user {user}"
    return f"Kafka does not let {who} {operation} {kind} {name}; this grants it: `{line}`"


def check_config(settings: Settings) -> None:
    """Have librdkafka look at the configuration without contacting anything.

    Raises:
        ConfigurationError: it does not take it.
    """
    config = client_config(settings) | {"group.id": "iot_pipeline.check"}
    # No name to look up, no address to connect to, no token to wait for.
    del config["bootstrap.servers"]
    if config.get("sasl.mechanism") == "OAUTHBEARER":
        config["security.protocol"] = config["security.protocol"].removeprefix("SASL_")
        for name in [n for n in config if n.startswith("sasl.") or n == "oauth_cb"]:
            del config[name]
    open_client(Consumer, config, SILENT).close()


def _refusal(exc: KafkaException) -> str:
    said = exc.args[0].str()
    found = _WRONG_PROPERTY.search(said)
    if found is not None:
        name = found["name"]
        is_unknown = found["why"].startswith("No such")
        what = "librdkafka has no such property" if is_unknown else "not a value that it can have"
        return f"IOT_KAFKA__{name.replace('.', '_').upper()} (librdkafka's {name}): {what}"
    if "No provider for SASL mechanism GSSAPI" in said:
        return (
            "IOT_KAFKA_SASL_MECHANISM=GSSAPI: this librdkafka was built without Kerberos. Install "
            "one that has it: `pip install --no-binary confluent-kafka confluent-kafka`, with "
            "librdkafka-dev and libsasl2-modules-gssapi-mit from your system"
        )
    if "OAuth token not set" in said:
        return (
            "IOT_KAFKA_SASL_MECHANISM=AWS_MSK_IAM: no token within 10 seconds; are there AWS "
            "credentials here, and is IOT_KAFKA_AWS_REGION right?"
        )
    for name in ("ca", "certificate", "key"):
        if f"ssl.{name}.location failed" in said:
            return f"IOT_KAFKA_SSL_{name.upper()}_LOCATION: expected a file as PEM" + (
                ", and its password in IOT_KAFKA_SSL_KEY_PASSWORD" if name == "key" else ""
            )
    return f"Kafka's client does not take its configuration: {said.splitlines()[0][:300]}"


# kafka-python's words for librdkafka's properties.
_RAW_WORDS = {
    "client.id": "client_id",
    "ssl.crl.location": "ssl_crlfile",
    "sasl.kerberos.service.name": "sasl_kerberos_service_name",
}


def raw_config(settings: Settings) -> dict[str, Any]:
    """The same in the words of kafka-python.

    Raises:
        ConfigurationError: a property that opens a door has no word there.
    """
    servers = settings.bootstrap_servers.split(",")
    config: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in servers],
        "security_protocol": settings.kafka_security_protocol,
    }
    others = settings.kafka_properties
    config |= {word: others[name] for name, word in _RAW_WORDS.items() if name in others}
    if (tls := settings.kafka_tls) is not None:
        config |= {
            "ssl_check_hostname": tls.check_hostname,
            "ssl_cafile": tls.ca or None,
            "ssl_certfile": tls.certificate or None,
            "ssl_keyfile": tls.key or None,
            "ssl_password": tls.key_password or None,
        }
    unknown = sorted(
        name
        for name in others
        if name.startswith(("ssl.", "sasl."))
        and name not in (*_RAW_WORDS, "ssl.endpoint.identification.algorithm")
        and not name.startswith("sasl.kerberos.")
    )
    if unknown:
        raise ConfigurationError(
            f"{', '.join(unknown)}: only librdkafka understands it, and what cannot be read is "
            "looked at with another client. IOT_KAFKA_SSL_... and IOT_KAFKA_SASL_... are for both"
        )
    if settings.kafka_has_sasl:
        config |= _raw_login(settings)
    return config


def _raw_login(settings: Settings) -> dict[str, Any]:
    mechanism = settings.kafka_sasl_mechanism
    if mechanism in ("OAUTHBEARER", "AWS_MSK_IAM"):
        from iot_pipeline.clients.kafka_tokens import token_provider

        provider = token_provider(settings)
        return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": provider}
    if mechanism == "GSSAPI" and find_spec("gssapi") is None:
        raise ConfigurationError(
            "IOT_KAFKA_SASL_MECHANISM=GSSAPI: what cannot be read is looked at with a client that "
            "needs Python's gssapi: pip install gssapi"
        )
    return {
        "sasl_mechanism": mechanism,
        "sasl_plain_username": settings.kafka_sasl_username or None,
        "sasl_plain_password": settings.kafka_sasl_password.get_secret_value() or None,
    }


# What a consumer holds that was not asked for yet; and what an answer of a broker brings, packed,
# of one partition and of all of them. By default that is 50 MB, which unpacks to ten times as much
# where hundreds of partitions have a backlog: the client needs 442 bytes more for each message.
BOUNDED_MEMORY = {
    "queued.max.messages.kbytes": 16_384,
    "max.partition.fetch.bytes": 524_288,
    "fetch.max.bytes": 8_388_608,
}


class _Silent:
    """librdkafka's own log lines say every reconnect; our messages say what it means."""

    def log(self, *_: object) -> None:
        return


SILENT = _Silent()

# What librdkafka logs where no wait will help, and what it means.
_NEVER = (
    (
        re.compile(r"Failed to resolve '(?P<at>[^']+)': Name or service not known"),
        "no such host name; IOT_BOOTSTRAP_SERVERS is where Kafka is",
    ),
    (
        re.compile(r"(?P<at>\S+)/bootstrap: SASL authentication error: "),
        "it does not let us in; IOT_KAFKA_SASL_USERNAME and IOT_KAFKA_SASL_PASSWORD are the login",
    ),
    (
        re.compile(r"Failed to retrieve OIDC token from \"(?P<at>[^\"]+)\": .*\(?\b40[013]\b"),
        "it gives us no token; IOT_KAFKA_SASL_OAUTHBEARER_CLIENT_ID and "
        "IOT_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET are who we are there",
    ),
)


class Heard:
    """As SILENT, but remembers what the client last complained about, where it matters."""

    def __init__(self) -> None:
        self._why = ""

    def log(self, _level: int, _form: str, *words: object) -> None:
        line = str(words[-1]) if words else ""
        for pattern, meaning in _NEVER:
            found = pattern.search(line)
            if found is not None:
                self._why = f"{found['at'].removeprefix(_scheme_of(found['at']))}: {meaning}"

    def why_never(self, settings: Settings) -> PipelineError | None:
        """Address and reason, where the complaint cannot pass by itself; else None."""
        return ConfigurationError(self._why) if self._why else why_kafka_is_shut(settings)


def _scheme_of(address: str) -> str:
    """The `sasl_ssl://` that librdkafka puts in front of a broker's address."""
    return found[0] if (found := re.match(r"(sasl_)?(ssl|plaintext)://", address)) else ""


def refuse_shut_door(settings: Settings, heard: Heard, doing: str) -> None:
    """Say why no broker has answered, where no wait can help; else nothing.

    Raises:
        ConfigurationError: a setting is wrong: an address, a password, whom to trust.
        PermanentError: the brokers' certificate is.
    """
    why = heard.why_never(settings)
    if why is not None:
        raise type(why)(f"{doing}: {why}")
