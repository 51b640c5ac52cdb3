"""The calls that a drain of a busy world makes, in order: each of them can be made to fail."""

import functools

from hypothesis import strategies as st

from iot_pipeline_tests.stages.faults import Faults
from iot_pipeline_tests.stages.world import a_busy_world


@functools.cache
def calls_of_a_good_drain(looks: int = 0) -> list[str]:
    """Every call through a seam, in order."""
    world, faults = a_busy_world(looks), Faults()
    world.drain(faults=faults)
    world.check_all_is_drained()
    return faults.calls


def every_call() -> range:
    return range(1, len(calls_of_a_good_drain()) + 1)


any_call = st.deferred(lambda: st.integers(1, len(calls_of_a_good_drain())))
