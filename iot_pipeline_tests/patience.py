"""How long a test waits for what must come: it decides nothing but when a broken run ends.

No test passes or fails by the machine's speed: what is quick is told by counts, or by a clock of
the test's own. Two cores that do three other things are four times as slow as quiet ones, and some
machines are half as fast to begin with.
"""

import time

_FACTOR = 8.0


def until(seconds: float) -> float:
    """The monotonic time at which to give up on what takes `seconds` at most on a quiet machine."""
    return time.monotonic() + _FACTOR * seconds
