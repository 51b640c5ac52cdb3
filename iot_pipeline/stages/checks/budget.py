"""How long the checks of a run may take."""

import time
from collections.abc import Callable

# The share of a run's time that its checks may take together, and what they may take at least.
RUN_SHARE = 0.1
LEAST_BUDGET_SECONDS = 0.5
# However late it is, something is looked at.
_LEAST_PART_SECONDS = 0.02


class RunBudget:
    """How long the checks of one run may still take; begins when it is made.

    Args:
        run_seconds: how long the run took: its checks may take a tenth of it, together.
        clock: monotonic seconds.
    """

    def __init__(self, run_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = clock() + max(LEAST_BUDGET_SECONDS, RUN_SHARE * run_seconds)

    def part(self, share: float) -> float:
        """Seconds: this share of what is left; questions that cost what they cost come off it."""
        return max(_LEAST_PART_SECONDS, share * (self._until - self._clock()))
