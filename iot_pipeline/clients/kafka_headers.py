"""Headers of messages: a reading needs none, so what cannot be read of them stops nothing.

confluent-kafka reads all headers of a message or none: a name that is not UTF-8 raises (2.16: as
SystemError), and a second question to the same message would give out names that are null pointers.
So each message is asked once, and what cannot be read is said in a header of ours.
"""

from collections.abc import Iterable
from operator import methodcaller
from typing import Any

from iot_pipeline.core.proof.dead_letters import HEADERS_LOST, Header
from iot_pipeline.core.reading.messages import Headers

# Not `Message.headers`: Python's own fast way of such a call does not look whether it raised, and
# hands out the null pointers.
_ask = methodcaller("headers")

_UNREADABLE: list[Header] = [(HEADERS_LOST, b"the name of a header is not UTF-8: none is kept")]


def read_headers(messages: Iterable[Any]) -> list[Headers | None]:
    """The headers of each message, to be asked for once; `iot.headers_lost` where they are no text.

    The caller may keep what is returned, or change it.
    """
    found: list[Headers | None] = []
    left = iter(messages)
    while True:
        try:
            found.extend(map(_ask, left))
            return found
        except (SystemError, UnicodeDecodeError):
            # `found` has those before it, and `left` goes on behind it.
            found.append(list(_UNREADABLE))
