"""Headers of messages, read only where a record is kept whole: a reading needs none.

confluent-kafka reads all headers of a message or none: a name that is not UTF-8 raises (2.16: as
SystemError), and a second question to the same message would give out names that are null pointers.
So each message is asked once, and what cannot be read is said in a header of ours.
"""

from collections.abc import Sequence
from operator import methodcaller
from typing import Any, overload

from iot_pipeline.core.proof.dead_letters import HEADERS_LOST, Header
from iot_pipeline.core.reading.chunks import Headers

# Not `message.headers()`: Python's own fast way of such a call does not look whether it raised, and
# hands out the null pointers.
_ask = methodcaller("headers")

_UNREADABLE: list[Header] = [(HEADERS_LOST, b"the name of a header is not UTF-8: none is kept")]


def read_headers(message: Any) -> Headers | None:
    """A message's headers, to be asked for once; `iot.headers_lost` alone where they are no text.

    The caller may keep what is returned, or change it.
    """
    try:
        found: Headers | None = _ask(message)
    except (SystemError, UnicodeDecodeError):
        return list(_UNREADABLE)
    return found


class LazyHeaders(Sequence[Headers | None]):
    """The headers of messages of one Kafka partition, each read when it is asked for."""

    def __init__(
        self, messages: Sequence[Any], read: dict[int, Headers | None] | None = None
    ) -> None:
        self._messages = messages
        # By offset. Parts share it, so that each message is asked once, and hold no other message.
        self._read = {} if read is None else read

    def __len__(self) -> int:
        return len(self._messages)

    @overload
    def __getitem__(self, at: int) -> Headers | None: ...
    @overload
    def __getitem__(self, at: slice) -> "LazyHeaders": ...
    def __getitem__(self, at: int | slice) -> "Headers | LazyHeaders | None":
        if isinstance(at, slice):
            return LazyHeaders(self._messages[at], self._read)
        message = self._messages[at]
        offset = message.offset()
        if offset not in self._read:
            self._read[offset] = read_headers(message)
        return self._read[offset]
