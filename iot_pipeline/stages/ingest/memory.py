"""Python's search for reference cycles, kept from reading every row again and again."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# A young collection per 50,000 new objects (700 by default); each twentieth is a middle one, each
# hundredth of those a full one.
_THRESHOLDS = (50_000, 20, 100)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look for cycles rarely, and not among what was there before.

    A micro-batch is some hundred thousand objects without a cycle among them, which each
    collection visits: at 100,000 devices that was 40 % of the time. Cycles of the drivers are
    still collected. What was there before, all of Dagster in a run, is looked at again after.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
