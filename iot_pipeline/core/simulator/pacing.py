"""A constant pace without bursts: how far event time has come, and how long to rest."""

TICK_SECONDS = 0.005
# The longest rest: after each, the simulation asks whether to stop.
LONGEST_PAUSE_SECONDS = 0.1
# After a stall the backlog is sent at this multiple of the pace, not at once.
CATCH_UP = 1.5
# What comes later than this after a rest is a stall: long enough for a busy scheduler's late
# wake-ups, too short for a burst.
_LATE_SECONDS = 0.05


class Pacer:
    """Decides how much of a simulation is due, in seconds of event time since its start.

    The schedule is absolute: late wake-ups do not add up, so the average is the pace whatever the
    sleeps were. What a stall left behind is caught up at `CATCH_UP` times the pace.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._looked_at = 0.0
        self._rested = 0.0
        self._due = 0.0

    def due(self, elapsed_seconds: float) -> float:
        """Up to which event time to send now, inclusive; never less than before."""
        looked_for = min(elapsed_seconds - self._looked_at, self._rested + _LATE_SECONDS)
        self._looked_at, self._rested = elapsed_seconds, 0.0
        most = self._due + CATCH_UP * self._speed * looked_for
        self._due = min(elapsed_seconds * self._speed, most)
        return self._due

    def pause_seconds(self, elapsed_seconds: float, next_due: float) -> float:
        """How long to rest: to the next tick, or to the next message, due at that event time."""
        wake_at = max(self._looked_at + TICK_SECONDS, next_due / self._speed)
        self._rested = min(max(wake_at - elapsed_seconds, 0.0), LONGEST_PAUSE_SECONDS)
        return self._rested
