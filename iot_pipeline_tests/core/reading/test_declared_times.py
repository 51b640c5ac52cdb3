"""Times of many readings at once are those of each."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.reading.declared_times import (
    EARLIEST_SECONDS,
    LATEST_SECONDS,
    timestamp_ms,
    timestamps_ms,
)


@given(
    st.lists(
        st.floats(EARLIEST_SECONDS, LATEST_SECONDS)
        # Half microseconds, which are rounded to the even one.
        | st.integers(2_000_000_000_000_000, 8_000_000_000_000_000).map(lambda n: (n + 0.5) / 2e6)
    )
)
def test_many_timestamps_at_once_are_what_each_is(seconds):
    assert timestamps_ms(np.array(seconds, np.float64)).tolist() == [
        timestamp_ms(s) for s in seconds
    ]
