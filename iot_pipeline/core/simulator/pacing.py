"""A constant rate without bursts: how many messages are due now, and how long to rest.

Belongs here: arithmetic on elapsed seconds. Does not belong here: clocks and sleeping
(`stages.simulator.simulation`), event times (`core.simulator.simulation`).
"""

import math

TICK_SECONDS = 0.005
# Nobody waits longer than this without asking whether to stop.
LONGEST_PAUSE_SECONDS = 0.1
# After a stall the backlog is sent at this multiple of the rate, not at once.
CATCH_UP = 1.5
# How much of a stall may count as one look: long enough for a busy scheduler's late wake-ups, too
# short for a burst.
_LONGEST_LOOK_SECONDS = 0.05


class Pacer:
    """Decides how many messages are due. Message i is due at i / rate seconds, the first at 0.

    The schedule is absolute: late wake-ups do not add up, so the average is the rate whatever the
    sleeps were. What a stall left behind is caught up at `CATCH_UP` times the rate.
    """

    def __init__(self, rate: float, count: int | None = None) -> None:
        """Take `rate` in messages per second, above 0; `count` is the end, None for no end."""
        self._rate = rate
        self._count = count
        self._looked_at = 0.0

    def due(self, elapsed_seconds: float, sent: int) -> int:
        """How many messages to send now, 0 or more, after `sent` of them."""
        looked_for = min(elapsed_seconds - self._looked_at, _LONGEST_LOOK_SECONDS)
        self._looked_at = elapsed_seconds
        scheduled = math.floor(elapsed_seconds * self._rate) + 1
        if self._count is not None:
            scheduled = min(scheduled, self._count)
        most = max(1, math.ceil(CATCH_UP * self._rate * looked_for))
        return max(0, min(scheduled - sent, most))

    def pause_seconds(self, elapsed_seconds: float, sent: int) -> float:
        """How long to rest before the next look: to the next tick, or to the next message."""
        next_tick = self._looked_at + TICK_SECONDS
        next_message = sent / self._rate
        wake_at = max(next_tick, next_message)
        return min(max(wake_at - elapsed_seconds, 0.0), LONGEST_PAUSE_SECONDS)
