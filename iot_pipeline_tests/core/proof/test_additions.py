"""What another declaration tells beside, remembered by offset."""

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.proof.additions import Additions
from iot_pipeline.core.reading.offsets import OffsetRange

_KINDS = st.sampled_from([None, frozenset(), frozenset("a"), frozenset("ab")])


@given(st.permutations(range(4)), st.lists(_KINDS, min_size=40, max_size=40))
def test_each_record_of_a_range_has_what_was_noted_of_it(order, kinds) -> None:
    additions = Additions()
    for start in (10 * number for number in order):
        # Begun together, as ranges of several Kafka partitions are.
        additions.begin(OffsetRange(0, start, start + 8))
        additions.begin(OffsetRange(1, start + 1, start + 10))
        for offset in range(start, start + 8):
            additions.note(0, offset, kinds[offset])
            additions.note(1, offset + 2, kinds[offset])
    for offset in range(50):
        is_noted = offset < 40 and offset % 10 < 8
        assert additions.of(0, offset) == (kinds[offset] if is_noted else frozenset())
        is_noted = offset < 40 and offset % 10 > 1
        assert additions.of(1, offset) == (kinds[offset - 2] if is_noted else frozenset())
    assert additions.of(2, 0) == frozenset()
