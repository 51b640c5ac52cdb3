"""When a run that follows the topic writes, commits and ends.

Rows are written in slices as their records arrive; what one conditional write commits is all slices
since the one before.
"""

import time
from collections.abc import Callable, Container
from dataclasses import dataclass, replace

from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import PipelineError
from iot_pipeline.stages.ingest.planning import Plan

# The end of an open range: no log grows so long.
NO_END = 1 << 62
# `consume` waits all of it unless a thousand records come, so this is latency.
FOLLOW_POLL_SECONDS = 0.004
# A silent topic may also be one that is gone: asked for this often.
IDENTITY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Follow:
    """How a run follows.

    Args:
        seconds: how long it stays.
        linger_seconds: how long a slice may gather records while nothing is being written; what
            arrives during a write makes the next slice, so slices grow with the load.
        commit_seconds: how long acknowledged rows may wait for their checkpoint.
        should_stop: asked all the time; True ends the run within a second, all committed.
        ends_at: whether the run ends for this trouble of one partition, so that its caller can see
            to it; by default the other partitions are followed on.
        clock: monotonic seconds.
    """

    seconds: float = 300.0
    linger_seconds: float = 0.01
    commit_seconds: float = 0.5
    should_stop: Callable[[], bool] = lambda: False
    ends_at: Callable[[PipelineError], bool] = lambda _: False
    clock: Callable[[], float] = time.monotonic

    def starting_at(self, started: float) -> Callable[[], bool]:
        """Whether a run that started then is over."""
        return lambda: self.should_stop() or self.clock() - started >= self.seconds


def open_ended(plan: Plan, partitions: Container[int] | None = None) -> Plan:
    """All that arrives from the plan's checkpoints on, of these Kafka partitions or of all.

    Partitions that the topic gets meanwhile are the next run's.
    """
    ranges = [
        OffsetRange(state.partition, plan.checkpoints[state.partition].next_offset, NO_END)
        for state in plan.states
        if state.partition not in plan.stopped
        and (partitions is None or state.partition in partitions)
    ]
    return replace(plan, ingest=ranges, replay=[])
