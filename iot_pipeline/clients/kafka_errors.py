"""Kafka's errors in our words, sorted by what the caller can do about them.

Every code of librdkafka is in one group below, and a test walks them all: a release that brings a
new one fails there, not at night. At run time an unknown code is permanent: retrying an
error that is not understood hides it.
"""

import re

from confluent_kafka import KafkaError, KafkaException

from iot_pipeline.errors import (
    KafkaUnavailableError,
    MissingRightError,
    OffsetsExpiredError,
    PermanentError,
    PipelineError,
    SchemaMismatchError,
    TopicChangedError,
)

# The same call may succeed later: a broker is away, moving, starting or overloaded. _NOENT is what
# asking for offsets says of partitions that have no leader yet (librdkafka 2.16).
_TRANSIENT = """
_TRANSPORT _RESOLVE _ALL_BROKERS_DOWN _TIMED_OUT _MSG_TIMED_OUT _TIMED_OUT_QUEUE _QUEUE_FULL
_ISR_INSUFF _NODE_UPDATE _WAIT_COORD _WAIT_CACHE _IN_PROGRESS _PREV_IN_PROGRESS _INTR _RETRY
_PARTIAL _OUTDATED _DESTROY_BROKER _UNKNOWN_BROKER _MAX_POLL_EXCEEDED _ASSIGNMENT_LOST _NO_OFFSET
_PURGE_QUEUE _PURGE_INFLIGHT _NOENT
UNKNOWN LEADER_NOT_AVAILABLE NOT_LEADER_FOR_PARTITION REQUEST_TIMED_OUT BROKER_NOT_AVAILABLE
REPLICA_NOT_AVAILABLE STALE_CTRL_EPOCH NETWORK_EXCEPTION COORDINATOR_LOAD_IN_PROGRESS
COORDINATOR_NOT_AVAILABLE NOT_COORDINATOR NOT_ENOUGH_REPLICAS NOT_ENOUGH_REPLICAS_AFTER_APPEND
ILLEGAL_GENERATION UNKNOWN_MEMBER_ID REBALANCE_IN_PROGRESS NOT_CONTROLLER CONCURRENT_TRANSACTIONS
OPERATION_NOT_ATTEMPTED KAFKA_STORAGE_ERROR LOG_DIR_NOT_FOUND REASSIGNMENT_IN_PROGRESS
FETCH_SESSION_ID_NOT_FOUND INVALID_FETCH_SESSION_EPOCH LISTENER_NOT_FOUND FENCED_LEADER_EPOCH
UNKNOWN_LEADER_EPOCH STALE_BROKER_EPOCH OFFSET_NOT_AVAILABLE MEMBER_ID_REQUIRED
PREFERRED_LEADER_NOT_AVAILABLE ELIGIBLE_LEADERS_NOT_AVAILABLE UNSTABLE_OFFSET_COMMIT
THROTTLING_QUOTA_EXCEEDED FENCED_MEMBER_EPOCH STALE_MEMBER_EPOCH UNRELEASED_INSTANCE_ID
UNKNOWN_CONTROLLER_ID TRANSACTION_ABORTABLE SHARE_SESSION_NOT_FOUND INVALID_SHARE_SESSION_EPOCH
SHARE_SESSION_LIMIT_REACHED REBOOTSTRAP_REQUIRED
"""
# The topic is not there, or not as `iot setup` makes it.
_SCHEMA = "_UNKNOWN_TOPIC _UNKNOWN_PARTITION UNKNOWN_TOPIC_OR_PART TOPIC_EXCEPTION"
_EXPIRED = "OFFSET_OUT_OF_RANGE _AUTO_OFFSET_RESET"
_TOPIC_CHANGED = "UNKNOWN_TOPIC_ID INCONSISTENT_TOPIC_ID _LOG_TRUNCATION"
# What our user may not do: the caller knows which right that takes.
_LACKING = """
TOPIC_AUTHORIZATION_FAILED GROUP_AUTHORIZATION_FAILED CLUSTER_AUTHORIZATION_FAILED
TRANSACTIONAL_ID_AUTHORIZATION_FAILED
"""
# Credentials: the message says so, for no wait and no setup will help.
_DENIED = """
_SSL _AUTHENTICATION UNSUPPORTED_SASL_MECHANISM ILLEGAL_SASL_STATE
SECURITY_DISABLED SASL_AUTHENTICATION_FAILED
DELEGATION_TOKEN_AUTH_DISABLED DELEGATION_TOKEN_NOT_FOUND DELEGATION_TOKEN_OWNER_MISMATCH
DELEGATION_TOKEN_REQUEST_NOT_ALLOWED DELEGATION_TOKEN_AUTHORIZATION_FAILED
DELEGATION_TOKEN_EXPIRED INVALID_PRINCIPAL_TYPE UNACCEPTABLE_CREDENTIAL
PRINCIPAL_DESERIALIZATION_FAILURE
"""
# A defect of ours, of a configuration or of data: a person has to look.
_PERMANENT = """
NO_ERROR
_BAD_MSG _BAD_COMPRESSION _DESTROY _FAIL _CRIT_SYS_RESOURCE _PARTITION_EOF _FS _INVALID_ARG
_UNKNOWN_GROUP _EXISTING_SUBSCRIPTION _ASSIGN_PARTITIONS _REVOKE_PARTITIONS _CONFLICT _STATE
_UNKNOWN_PROTOCOL _NOT_IMPLEMENTED _UNSUPPORTED_FEATURE _KEY_SERIALIZATION _VALUE_SERIALIZATION
_KEY_DESERIALIZATION _VALUE_DESERIALIZATION _READ_ONLY _UNDERFLOW _INVALID_TYPE _FATAL
_INCONSISTENT _GAPLESS_GUARANTEE _NOT_CONFIGURED _FENCED _APPLICATION _NOOP
_INVALID_DIFFERENT_RECORD
INVALID_MSG INVALID_MSG_SIZE MSG_SIZE_TOO_LARGE OFFSET_METADATA_TOO_LARGE RECORD_LIST_TOO_LARGE
INVALID_REQUIRED_ACKS INCONSISTENT_GROUP_PROTOCOL INVALID_GROUP_ID INVALID_SESSION_TIMEOUT
INVALID_COMMIT_OFFSET_SIZE INVALID_TIMESTAMP UNSUPPORTED_VERSION TOPIC_ALREADY_EXISTS
INVALID_PARTITIONS INVALID_REPLICATION_FACTOR INVALID_REPLICA_ASSIGNMENT INVALID_CONFIG
INVALID_REQUEST UNSUPPORTED_FOR_MESSAGE_FORMAT POLICY_VIOLATION OUT_OF_ORDER_SEQUENCE_NUMBER
DUPLICATE_SEQUENCE_NUMBER INVALID_PRODUCER_EPOCH INVALID_TXN_STATE INVALID_PRODUCER_ID_MAPPING
INVALID_TRANSACTION_TIMEOUT TRANSACTION_COORDINATOR_FENCED UNKNOWN_PRODUCER_ID NON_EMPTY_GROUP
GROUP_ID_NOT_FOUND TOPIC_DELETION_DISABLED UNSUPPORTED_COMPRESSION_TYPE GROUP_MAX_SIZE_REACHED
FENCED_INSTANCE_ID ELECTION_NOT_NEEDED NO_REASSIGNMENT_IN_PROGRESS GROUP_SUBSCRIBED_TO_TOPIC
INVALID_RECORD PRODUCER_FENCED RESOURCE_NOT_FOUND DUPLICATE_RESOURCE INCONSISTENT_VOTER_SET
INVALID_UPDATE_VERSION FEATURE_UPDATE_FAILED UNSUPPORTED_ASSIGNOR MISMATCHED_ENDPOINT_TYPE
UNSUPPORTED_ENDPOINT_TYPE UNKNOWN_SUBSCRIPTION_ID TELEMETRY_TOO_LARGE INVALID_REGISTRATION
INVALID_RECORD_STATE FENCED_STATE_EPOCH INVALID_VOTER_KEY DUPLICATE_VOTER VOTER_NOT_FOUND
INVALID_REGULAR_EXPRESSION STREAMS_INVALID_TOPOLOGY STREAMS_INVALID_TOPOLOGY_EPOCH
STREAMS_TOPOLOGY_FENCED
"""

# What a person reads instead of the library's text, which names sockets, states and codes.
_PLAIN: tuple[tuple[str, str], ...] = (
    (
        "_TRANSPORT _ALL_BROKERS_DOWN _TIMED_OUT _TIMED_OUT_QUEUE _WAIT_COORD BROKER_NOT_AVAILABLE "
        "NETWORK_EXCEPTION REQUEST_TIMED_OUT",
        "does not answer",
    ),
    ("_MSG_TIMED_OUT", "did not acknowledge in time"),
    ("_RESOLVE", "has a host name that cannot be resolved"),
    (
        "_NOENT LEADER_NOT_AVAILABLE NOT_LEADER_FOR_PARTITION ELIGIBLE_LEADERS_NOT_AVAILABLE "
        "COORDINATOR_NOT_AVAILABLE COORDINATOR_LOAD_IN_PROGRESS NOT_COORDINATOR",
        "is starting or moving: a partition has no leader yet",
    ),
    (
        "_ISR_INSUFF NOT_ENOUGH_REPLICAS NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        "has fewer replicas in sync than a write needs",
    ),
)
# The part of the library's text that says more than ours.
_CAUSE = re.compile(
    r"connection (?:refused|reset|timed out)|no route to host|network is unreachable"
    r"|name or service not known|temporary failure in name resolution",
    re.IGNORECASE,
)

_Remedy = tuple[type[PipelineError], str]
_GROUPS: tuple[tuple[str, _Remedy], ...] = (
    (_TRANSIENT, (KafkaUnavailableError, "try again; `iot status` says what runs here")),
    (_SCHEMA, (SchemaMismatchError, "`iot setup` makes the topic")),
    (_EXPIRED, (OffsetsExpiredError, "the log has no such offset any more; `iot lag` shows both")),
    (_TOPIC_CHANGED, (TopicChangedError, "the topic was recreated or truncated")),
    (_LACKING, (MissingRightError, "`iot rights` prints what each command needs")),
    (_DENIED, (PermanentError, "the broker refuses these credentials")),
    (_PERMANENT, (PermanentError, "a retry will not change this")),
)
_REMEDIES: dict[int, _Remedy] = {
    getattr(KafkaError, name): remedy
    for names, remedy in _GROUPS
    for name in names.split()
    # A library older or newer than the pinned one may lack a code; the test names the extra ones.
    if hasattr(KafkaError, name)
}
_WORDS: dict[int, str] = {
    getattr(KafkaError, name): words
    for names, words in _PLAIN
    for name in names.split()
    if hasattr(KafkaError, name)
}
_UNKNOWN_CODE: _Remedy = (PermanentError, "this code is not known here; a person has to look")


def is_mapped(code: int) -> bool:
    """Whether a group above holds this code; others get `translate`'s last resort."""
    return code in _REMEDIES


def is_denied(error: KafkaError) -> bool:
    """Whether our user lacks a right."""
    return _REMEDIES.get(error.code(), _UNKNOWN_CODE)[0] is MissingRightError


def translate(
    cause: KafkaException | KafkaError | BufferError,
    doing: str,
    advice: str = "",
    at: str = "",
    right: str = "",
) -> PipelineError:
    """Make one of our errors out of one of Kafka's; the caller raises it `from` the cause.

    Args:
        cause: what the library raised or reported.
        doing: the attempt and its coordinates, such as "producing to iot_data".
        advice: what to do next, instead of the general one of this kind of error.
        at: the brokers' addresses, where the caller knows them.
        right: which right this takes, and what grants it, for where Kafka denies it.

    Returns:
        KafkaUnavailableError for what may pass, else a PermanentError or one of its kinds. Its
        message is one line: what was tried, what Kafka did, what to do next.
    """
    if isinstance(cause, BufferError):
        return KafkaUnavailableError(f"{doing}: the local queue is full. Try again.")
    error = cause.args[0] if isinstance(cause, KafkaException) and cause.args else cause
    if not isinstance(error, KafkaError):
        return PermanentError(f"{doing}: {error}")
    kind, remedy = _REMEDIES.get(error.code(), _UNKNOWN_CODE)
    if kind is MissingRightError and right:
        return kind(f"{doing}: {right}")
    # librdkafka knows the moment better than a table of codes: fatal ends this client for good,
    # retriable is said by transactional calls about themselves.
    if error.fatal():
        kind, remedy = PermanentError, "this client is done; start again"
    elif error.retriable():
        kind, remedy = _REMEDIES[KafkaError._TRANSPORT]
    return kind(f"{doing}: {in_words(error, at)}. {advice or _sentence(remedy)}")


def in_words(error: KafkaError, at: str = "") -> str:
    """What Kafka did, for a person: `Kafka at 127.0.0.1:9092 does not answer`; one line."""
    kafka = f"Kafka at {at}" if at else "Kafka"
    words = _WORDS.get(error.code())
    if words is None:
        text = " ".join(error.str().split()).removeprefix("Local: ").removeprefix("Broker: ")
        return f"{kafka}: {text} ({error.name()})"
    cause = cause_of(error)
    return f"{kafka} {words} ({cause})" if cause else f"{kafka} {words}"


def cause_of(error: KafkaError) -> str:
    """The network's own reason, such as `connection refused`; empty when the library has none."""
    found = _CAUSE.search(error.str())
    return found[0].lower() if found else ""


def _sentence(text: str) -> str:
    return text if text.startswith("`") else text[0].upper() + text[1:]
