"""When pictures are drawn again: once a minute at most, and half a second of each minute at most.

What drawing took decides how long it rests, so a busy machine, a large fleet or a cold start
make pictures rarer, never ingestion slower than that.
"""

# Of the time that passes: half a second a minute.
_SHARE = 0.5 / 60
LEAST_REST_SECONDS = 60.0


def is_due(drawn_ms: int, cost_seconds: float, now_ms: int) -> bool:
    """Whether pictures may be drawn now.

    Args:
        drawn_ms: when they were drawn last, 0 for never.
        cost_seconds: what that took, counting included.
        now_ms: now; a clock that was set back does not stop pictures for ever.
    """
    rest_ms = max(LEAST_REST_SECONDS, cost_seconds / _SHARE) * 1000
    return not drawn_ms <= now_ms < drawn_ms + rest_ms
