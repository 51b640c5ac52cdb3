"""How Kafka's clients reach the brokers: what a person may set, and what is refused.

The settings are librdkafka's properties under their own names: `sasl.mechanism` is
IOT_KAFKA_SASL_MECHANISM. Any other property is IOT_KAFKA__<PROPERTY>, with two underscores, or a
line of IOT_KAFKA_PROPERTIES_FILE. Nothing here is sent anywhere: `clients.kafka` makes the
clients' configurations of it.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, SecretStr

from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings_sources import read_properties, unreadable_files

_OURS = "iot_pipeline sets it itself, and memory and speed stand on it"
_FOREVER = "records would be skipped, or read twice, without a word"
_ORDER = "a device's readings would change their order, or be lost, on the way to Kafka"

# Property -> why nobody may set it. A test walks what our clients set: all of it is here.
REFUSED: Mapping[str, str] = {
    "isolation.level": "records of aborted transactions would be stored",
    "auto.offset.reset": _FOREVER,
    "enable.auto.commit": "the checkpoint is in Cassandra; offsets are mirrored after it",
    "enable.auto.offset.store": "the checkpoint is in Cassandra; offsets are mirrored after it",
    "auto.commit.enable": "the checkpoint is in Cassandra; offsets are mirrored after it",
    "offset.store.method": "the checkpoint is in Cassandra; offsets are mirrored after it",
    "enable.partition.eof": "the end of a range that is a hole would never be found",
    "check.crcs": "damaged records would be stored",
    "group.id": "a consumer group is named after its topic, and nothing ever joins it",
    "group.instance.id": "nothing ever joins a consumer group",
    "group.protocol": "nothing ever joins a consumer group",
    "acks": "a reading or a dead letter would count as sent before it is safe",
    "request.required.acks": "a reading or a dead letter would count as sent before it is safe",
    "enable.idempotence": _ORDER,
    "enable.gapless.guarantee": _ORDER,
    "max.in.flight": _ORDER,
    "max.in.flight.requests.per.connection": _ORDER,
    "retries": _ORDER,
    "message.send.max.retries": _ORDER,
    "partitioner": "a device's readings would change their Kafka partition",
    "transactional.id": "dead letters would wait for a transaction that nobody ends",
    "message.timeout.ms": "iot_pipeline gives each delivery its own time",
    "delivery.timeout.ms": "iot_pipeline gives each delivery its own time",
    "message.max.bytes": "a dead letter is larger than its record, and must be deliverable",
    "enable.ssl.certificate.verification": (
        "anything that listens at the address would be given the password; "
        "IOT_KAFKA_SSL_CA_LOCATION names the authority to trust"
    ),
    "test.mock.num.brokers": "a broker that exists only inside the client would be read",
    **dict.fromkeys(
        (
            *("fetch.queue.backoff.ms", "fetch.wait.max.ms", "queued.max.messages.kbytes"),
            *("max.partition.fetch.bytes", "fetch.message.max.bytes", "fetch.max.bytes"),
            *(
                "session.timeout.ms",
                "reconnect.backoff.max.ms",
                "linger.ms",
                "queue.buffering.max.ms",
                "batch.size",
            ),
            *("compression.type", "compression.codec", "queue.buffering.max.kbytes"),
            *("on_delivery", "on_commit", "error_cb", "logger", "log_cb", "stats_cb"),
            *("throttle_cb", "oauth_cb"),
            "sasl.oauthbearer.method",
        ),
        _OURS,
    ),
    # Java's, which people have in the same file.
    "sasl.jaas.config": (
        "it is Java's; IOT_KAFKA_SASL_USERNAME and IOT_KAFKA_SASL_PASSWORD say the same"
    ),
    "sasl.login.callback.handler.class": (
        "it is Java's; IOT_KAFKA_SASL_MECHANISM=AWS_MSK_IAM or OAUTHBEARER say the same"
    ),
    "sasl.client.callback.handler.class": (
        "it is Java's; IOT_KAFKA_SASL_MECHANISM=AWS_MSK_IAM or OAUTHBEARER say the same"
    ),
    **dict.fromkeys(
        ("ssl.truststore.location", "ssl.truststore.password", "ssl.truststore.type"),
        "it is Java's; IOT_KAFKA_SSL_CA_LOCATION is the authority's certificate as PEM",
    ),
}
# Other names of what has a setting.
_ALIASES = {
    "sasl.mechanisms": "sasl.mechanism",
    "metadata.broker.list": "bootstrap.servers",
}
_PASSWORD_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class KafkaSettings(BaseModel):
    """The door to Kafka. `Settings` checks it as a whole."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """how Kafka is spoken to: encrypted (SSL), with a login (SASL), both, or neither"""
    kafka_ssl_ca_location: str = ""
    """PEM file of the authority that signed the brokers' certificates; empty: the system's"""
    kafka_ssl_certificate_location: str = ""
    """PEM file of our own certificate, where brokers ask for one"""
    kafka_ssl_key_location: str = ""
    """PEM file of its key"""
    kafka_ssl_key_password: SecretStr = SecretStr("")
    """password of the key; IOT_KAFKA_SSL_KEY_PASSWORD_FILE names a file that holds it"""
    kafka_sasl_mechanism: Literal[
        "", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI", "AWS_MSK_IAM"
    ] = ""
    """how we log in to Kafka"""
    kafka_sasl_username: str = ""
    """user of PLAIN and SCRAM"""
    kafka_sasl_password: SecretStr = SecretStr("")
    """its password; IOT_KAFKA_SASL_PASSWORD_FILE names a file that holds it"""
    kafka_sasl_oauthbearer_client_id: str = ""
    """client of OAUTHBEARER, as the token endpoint knows it"""
    kafka_sasl_oauthbearer_client_secret: SecretStr = SecretStr("")
    """its secret; IOT_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE names a file that holds it"""
    kafka_sasl_oauthbearer_token_endpoint_url: str = ""
    """where OAUTHBEARER gets its tokens (OIDC, client credentials)"""
    kafka_sasl_oauthbearer_scope: str = ""
    """scope that a token is asked for, where the endpoint wants one"""
    kafka_sasl_oauthbearer_extensions: str = ""
    """extensions that brokers want beside a token: name=value, comma-separated"""
    kafka_aws_region: str = ""
    """region of AWS_MSK_IAM's cluster, such as eu-central-1"""
    kafka_properties_file: str = ""
    """file with librdkafka's properties, such as a client.properties; settings win over it"""

    @property
    def kafka_has_sasl(self) -> bool:
        return self.kafka_security_protocol.startswith("SASL_")

    @property
    def kafka_has_tls(self) -> bool:
        return self.kafka_security_protocol.endswith("SSL")


def _property_of(name: str) -> str:
    return name.removeprefix("kafka_").replace("_", ".")


# Property -> the setting that is it.
PROPERTIES: Mapping[str, str] = {
    _property_of(name): name
    for name in KafkaSettings.model_fields
    if name.startswith(("kafka_security_", "kafka_ssl_", "kafka_sasl_"))
} | {"bootstrap.servers": "bootstrap_servers"}


def take_properties(given: dict[str, str]) -> tuple[dict[str, SecretStr], dict[str, str]]:
    """Take IOT_KAFKA__<PROPERTY> and the properties file out of what was set.

    A property of the file that has a setting of its own becomes that setting, unless it is set.

    Returns:
        The other properties (librdkafka's name -> value), and what came from the file: setting or
        property -> IOT_KAFKA_PROPERTIES_FILE.

    Raises:
        ConfigurationError: a property that may not be set, with the reason; no value is told.
    """
    others: dict[str, SecretStr] = {}
    origins: dict[str, str] = {}
    file_variable = "IOT_KAFKA_PROPERTIES_FILE"
    if path := given.get("kafka_properties_file", ""):
        for name, value in read_properties(file_variable, path).items():
            known = _ALIASES.get(name, name)
            _refuse(known, f"{file_variable}={path}: {name}")
            if known not in PROPERTIES:
                others[known] = SecretStr(value)
                origins[known] = file_variable
            elif not (given.get(PROPERTIES[known]) or given.get(f"{PROPERTIES[known]}_file")):
                given[PROPERTIES[known]] = value
                origins[PROPERTIES[known]] = file_variable
    for key in [name for name in given if name.startswith("kafka__")]:
        name = key.removeprefix("kafka__").replace("_", ".")
        known = _ALIASES.get(name, name)
        variable = f"IOT_{key.upper()}"
        if known in PROPERTIES:
            raise ConfigurationError(f"{variable}: set IOT_{PROPERTIES[known].upper()} instead")
        _refuse(known, variable)
        others[known] = SecretStr(given.pop(key))
        origins.pop(known, None)
    return others, origins


def _refuse(name: str, where: str) -> None:
    if why := REFUSED.get(name):
        raise ConfigurationError(f"{where} cannot be set: {why}")


def wrong_with(settings: KafkaSettings) -> Iterator[str]:
    """A sentence for each thing that cannot work, though every value alone is well formed."""
    protocol = f"IOT_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}"
    mechanism = settings.kafka_sasl_mechanism
    named = f"IOT_KAFKA_SASL_MECHANISM={mechanism}"
    with_tls = "SASL_SSL" if _set(settings, "kafka_sasl_") else "SSL"
    with_sasl = "SASL_SSL" if settings.kafka_has_tls else "SASL_SSL (or SASL_PLAINTEXT)"
    for name in _set(settings, "kafka_ssl_"):
        if not settings.kafka_has_tls:
            yield (
                f"IOT_{name.upper()} is set, and {protocol} does not encrypt: "
                f"set IOT_KAFKA_SECURITY_PROTOCOL={with_tls}"
            )
    for name in (*_set(settings, "kafka_sasl_"), *_set(settings, "kafka_aws_")):
        if not settings.kafka_has_sasl:
            yield (
                f"IOT_{name.upper()} is set, and {protocol} logs in nowhere: set "
                f"IOT_KAFKA_SECURITY_PROTOCOL={with_sasl}"
            )
    yield from unreadable_files(
        (name, getattr(settings, name))
        for name in _set(settings, "kafka_ssl_")
        if name.endswith("_location")
    )
    yield from half_of_a_pair(settings, "kafka_ssl")
    if not settings.kafka_has_sasl:
        return
    if not mechanism:
        yield (
            f"{protocol} logs in: set IOT_KAFKA_SASL_MECHANISM (PLAIN, SCRAM-SHA-256, "
            "SCRAM-SHA-512, OAUTHBEARER, GSSAPI or AWS_MSK_IAM)"
        )
        return
    needed: tuple[str, ...] = ()
    if mechanism in _PASSWORD_MECHANISMS:
        needed = ("kafka_sasl_username", "kafka_sasl_password")
    elif mechanism == "OAUTHBEARER":
        needed = tuple(
            f"kafka_sasl_oauthbearer_{what}"
            for what in ("client_id", "client_secret", "token_endpoint_url")
        )
    elif mechanism == "AWS_MSK_IAM":
        needed = ("kafka_aws_region",)
        if not settings.kafka_has_tls:
            yield f"{named} works with IOT_KAFKA_SECURITY_PROTOCOL=SASL_SSL only"
    for name in needed:
        if name not in _set(settings, "kafka_"):
            also = f" (or IOT_{name.upper()}_FILE)" if is_secret(settings, name) else ""
            yield f"{named} needs IOT_{name.upper()}{also}"
    used = {"kafka_sasl_mechanism", *needed}
    if mechanism == "OAUTHBEARER":
        used |= {"kafka_sasl_oauthbearer_scope", "kafka_sasl_oauthbearer_extensions"}
    for name in (*_set(settings, "kafka_sasl_"), *_set(settings, "kafka_aws_")):
        if name not in used:
            yield f"IOT_{name.upper()} is set, and {named} does not use it: leave it out"


def half_of_a_pair(settings: BaseModel, prefix: str) -> Iterator[str]:
    """What is wrong with a client's certificate and its key, of which each needs the other."""
    certificate, key, password = (
        f"{prefix}_{what}" for what in ("certificate_location", "key_location", "key_password")
    )
    there = _set(settings, f"{prefix}_")
    for one, other in ((certificate, key), (key, certificate), (password, key)):
        if one in there and other not in there:
            yield f"IOT_{one.upper()} needs IOT_{other.upper()}"


def is_secret(settings: BaseModel | type[BaseModel], name: str) -> bool:
    """Whether a setting's value is shown nowhere."""
    kind = settings if isinstance(settings, type) else type(settings)
    return kind.model_fields[name].annotation is SecretStr


def _set(settings: BaseModel, prefix: str) -> list[str]:
    """The settings of these names that have a value."""
    found = []
    for name in type(settings).model_fields:
        if name.startswith(prefix):
            value = getattr(settings, name)
            if value.get_secret_value() if isinstance(value, SecretStr) else value:
                found.append(name)
    return found
