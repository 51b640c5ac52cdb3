import pytest
from confluent_kafka import KafkaError, KafkaException

from iot_pipeline.clients.kafka_errors import is_mapped, translate
from iot_pipeline.errors import (
    KafkaUnavailableError,
    OffsetsExpiredError,
    PermanentError,
    PipelineError,
    SchemaMismatchError,
    TopicChangedError,
)

CODES = sorted(
    (getattr(KafkaError, name), name)
    for name in dir(KafkaError)
    if isinstance(getattr(KafkaError, name), int) and name.strip("_").isupper()
)


def test_there_are_codes_to_walk():
    assert len(CODES) > 150


@pytest.mark.parametrize(("code", "name"), CODES, ids=[name for _, name in CODES])
def test_somebody_decided_what_this_code_means(code, name):
    assert is_mapped(code), f"sort {name} into a group of clients/kafka_errors.py"
    translated = translate(KafkaError(code), "producing to iot_data")
    assert isinstance(translated, PipelineError)
    assert isinstance(translated, (KafkaUnavailableError, PermanentError))
    assert str(translated).startswith("producing to iot_data: ")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError._TRANSPORT, KafkaUnavailableError),
        (KafkaError._ALL_BROKERS_DOWN, KafkaUnavailableError),
        (KafkaError._MSG_TIMED_OUT, KafkaUnavailableError),
        (KafkaError._NOENT, KafkaUnavailableError),
        (KafkaError.NOT_ENOUGH_REPLICAS, KafkaUnavailableError),
        (KafkaError.LEADER_NOT_AVAILABLE, KafkaUnavailableError),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, SchemaMismatchError),
        (KafkaError._UNKNOWN_TOPIC, SchemaMismatchError),
        (KafkaError.OFFSET_OUT_OF_RANGE, OffsetsExpiredError),
        (KafkaError.UNKNOWN_TOPIC_ID, TopicChangedError),
        (KafkaError.SASL_AUTHENTICATION_FAILED, PermanentError),
        (KafkaError.MSG_SIZE_TOO_LARGE, PermanentError),
        (999_999, PermanentError),
    ],
)
def test_the_remedy_decides_the_kind(code, kind):
    assert type(translate(KafkaError(code), "asking")) is kind


def test_an_exception_is_its_error():
    exc = KafkaException(KafkaError(KafkaError._TRANSPORT, "x"))
    translated = translate(exc, "asking for iot_data")
    assert isinstance(translated, KafkaUnavailableError)
    assert str(translated).startswith("asking for iot_data: Kafka does not answer. ")


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        (
            "_TRANSPORT",
            "127.0.0.1:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed: Connection refused "
            "(after 0ms in state CONNECT)",
            "Kafka at h:9092 does not answer (connection refused).",
        ),
        (
            "_TIMED_OUT",
            "Failed while waiting for controller: Local: Timed out",
            "Kafka at h:9092 does not answer.",
        ),
        ("_RESOLVE", "Local: Host resolution failure", "Kafka at h:9092 has a host name that "),
        ("_NOENT", "No leaders found", "Kafka at h:9092 is starting or moving: "),
        ("NOT_ENOUGH_REPLICAS", "Broker: x", "Kafka at h:9092 has fewer replicas in sync than "),
        ("UNKNOWN_TOPIC_OR_PART", "Broker: Unknown topic", "Kafka at h:9092: Unknown topic ("),
    ],
)
def test_an_outage_is_told_in_one_plain_line(code, text, said):
    error = KafkaError(getattr(KafkaError, code), text)
    message = str(translate(error, "describing topic iot_data", at="h:9092"))
    assert message.startswith(f"describing topic iot_data: {said}")
    assert "\n" not in message
    assert "ipv4#" not in message


def test_a_fatal_error_is_permanent_whatever_its_code():
    error = KafkaError(KafkaError._TRANSPORT, "x", fatal=True)
    assert type(translate(error, "asking")) is PermanentError


def test_an_error_that_says_it_is_retriable_is_transient_whatever_its_code():
    error = KafkaError(KafkaError.INVALID_TXN_STATE, "x", retriable=True)
    assert type(translate(error, "asking")) is KafkaUnavailableError


def test_a_full_queue_is_transient():
    assert isinstance(translate(BufferError("full"), "producing"), KafkaUnavailableError)


def test_the_advice_of_the_caller_replaces_the_general_one():
    message = str(translate(KafkaError(KafkaError._TRANSPORT), "asking", "Run `iot up`."))
    assert message.endswith("Run `iot up`.")


def test_an_exception_without_a_kafka_error_is_permanent():
    translated = translate(KafkaException("no such property"), "starting")
    assert isinstance(translated, PermanentError)
    assert "no such property" in str(translated)
