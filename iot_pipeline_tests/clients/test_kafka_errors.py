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
    exc = KafkaException(KafkaError(KafkaError._TRANSPORT, "no route"))
    translated = translate(exc, "asking for iot_data")
    assert isinstance(translated, KafkaUnavailableError)
    assert "no route" in str(translated)


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
