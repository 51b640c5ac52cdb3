"""A table that would forget readings is not written to: its default_time_to_live was altered."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from iot_pipeline.core.proof.audit_result import forgets
from iot_pipeline.errors import SchemaMismatchError, TransientError

# A run that stays asks this often whether the table has been altered: a question of a millisecond.
LOOK_SECONDS = 10.0


@dataclass(slots=True)
class LifetimeWatch:
    """Looks before a run writes, and now and then while it does.

    Args:
        live_seconds: how long a row lives that is written now without a lifetime of its own; 0: for
            ever.
        clock: monotonic seconds.
    """

    topic: str
    live_seconds: Callable[[], int]
    clock: Callable[[], float]
    _looked_at: float = 0.0

    def refuse(self, written: str = "Nothing was written") -> None:
        """Raise where rows would be forgotten; `written` says what became of those of this run.

        Raises:
            SchemaMismatchError: names the lifetime.
        """
        self._looked_at = self.clock()
        live_seconds = self.live_seconds()
        if live_seconds:
            raise SchemaMismatchError(
                f"ingesting {self.topic}: the table sensor_data {forgets(live_seconds)}: readings "
                f"would not be in it any longer than that. {written}. `iot setup` says what to "
                "alter; then run again"
            )

    def look_again(self) -> None:
        """The same, when the last look is old; what cannot be looked at is asked again later."""
        if self.clock() - self._looked_at >= LOOK_SECONDS:
            with suppress(TransientError):
                self.refuse(
                    f"What was written up to {LOOK_SECONDS:g} s ago may die: `iot audit` says which"
                )
