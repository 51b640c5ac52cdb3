import msgspec

from iot_pipeline.core.reading.messages import Reading

_encode = msgspec.json.Encoder().encode


def encode_reading(reading: Reading) -> bytes:
    """The JSON of the original message, UTF-8, in the order of the fields."""
    return _encode(reading)
