"""When pictures are drawn again: once a minute at most, and half a second of each minute at most.

What drawing took decides how long it rests, so a busy machine, a large fleet or a cold start
make pictures rarer, never ingestion slower than that.
"""

import msgspec

# Of the time that passes: half a second a minute.
_SHARE = 0.5 / 60
LEAST_REST_SECONDS = 60.0


class LastDrawing(msgspec.Struct):
    """When pictures were drawn last, by which run, and how long it took, asking included."""

    drawn_ms: int = 0
    drawn_by: str = ""
    cost_seconds: float = 0.0


def is_due(last: LastDrawing, now_ms: int) -> bool:
    """Whether pictures may be drawn now; a clock that was set back does not stop them for ever."""
    rest_ms = max(LEAST_REST_SECONDS, last.cost_seconds / _SHARE) * 1000
    return not last.drawn_ms <= now_ms < last.drawn_ms + rest_ms
