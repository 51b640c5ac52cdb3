"""Offset ranges as a person may ask for them, and the offsets in them."""

from hypothesis import strategies as st

from iot_pipeline.core.reading.offsets import OffsetRange

ranges_of_offsets = st.lists(
    st.builds(
        lambda partition, start, span: OffsetRange(partition, start, start + span),
        st.integers(0, 3),
        st.integers(0, 60),
        st.integers(1, 20),
    ),
    max_size=10,
)


def offsets_in(ranges):
    return [(item.partition, at) for item in ranges for at in range(item.start, item.end)]
