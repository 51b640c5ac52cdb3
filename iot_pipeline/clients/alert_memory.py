"""What alerts remember, as text for a cursor and as a file."""

import msgspec

from iot_pipeline.core.alerts.changes import Memory


def memory_as_text(memory: Memory) -> str:
    return msgspec.json.encode(memory).decode()


def memory_of_text(text: str | None) -> Memory:
    """The memory; a new one where there is none, or one that another version wrote."""
    if not text:
        return Memory()
    try:
        return msgspec.json.decode(text, type=Memory)
    except msgspec.DecodeError:
        return Memory()
