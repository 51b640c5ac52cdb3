"""A record with a header whose name is not UTF-8: librdkafka sends it, its Python would not."""

import ctypes
from pathlib import Path
from typing import Any

import confluent_kafka

_NAME = b"caf\xe9"
# rd_kafka_vtype_t: what each argument of rd_kafka_producev is; a header is three of them.
_END, _TOPIC, _PARTITION, _VALUE, _MESSAGE_FLAGS, _HEADER = 0, 1, 3, 4, 7, 9
_COPY = 2


def _library() -> Any:
    # The one that confluent_kafka itself is linked to: beside the package on Linux, in it on macOS.
    package = Path(confluent_kafka.__file__).parent
    folders = [package.parent / "confluent_kafka.libs", package / ".dylibs"]
    (found,) = [item for folder in folders for item in folder.glob("librdkafka*")]
    return ctypes.CDLL(str(found))


def send_foreign_header(brokers: str, topic: str, value: bytes, *, partition: int = 0) -> None:
    """Send one record without a key; returns when the broker has it."""
    library = _library()
    for name in ("rd_kafka_conf_new", "rd_kafka_new"):
        getattr(library, name).restype = ctypes.c_void_p
    said = ctypes.create_string_buffer(512)
    config = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(config, b"bootstrap.servers", brokers.encode(), said, 512)
    producer = ctypes.c_void_p(library.rd_kafka_new(0, config, said, 512))
    assert producer.value, said.value
    size = ctypes.c_size_t
    arguments: list[Any] = [_TOPIC, topic.encode(), _PARTITION, partition]
    arguments += [_VALUE, value, size(len(value)), _MESSAGE_FLAGS, _COPY]
    arguments += [_HEADER, _NAME, b"1", size(1), _END]
    assert library.rd_kafka_producev(producer, *arguments) == 0
    assert library.rd_kafka_flush(producer, 20_000) == 0
    library.rd_kafka_destroy(producer)
