"""What a found row says about a record, and whether the record's row may be written again."""

import pytest

from iot_pipeline.core.proof.read_back import RowState, judge_row, should_write
from iot_pipeline.core.reading.write_times import Row

ROW: Row = (100, 7, 0, 20.0, 50.0)


@pytest.mark.parametrize(
    ("stored", "state", "is_written"),
    [
        (None, RowState.MISSING, True),
        ((None, None, None, None), RowState.MISSING, True),
        ((20.0, 50.0, 100, 100), RowState.EQUAL, False),
        ((1.0, 2.0, 99, 99), RowState.OLDER, True),
        ((1.0, 2.0, 101, 101), RowState.NEWER, False),
        ((20.0, 60.0, 100, 100), RowState.TIED, False),
        # Torn rows: a cell that is missing or older is restored,
        ((20.0, None, 100, None), RowState.TORN, True),
        ((20.0, 2.0, 100, 99), RowState.TORN, True),
        ((1.0, 2.0, 101, 99), RowState.TORN, True),
        # but not where the other one would be mixed with another value of the same write time.
        ((30.0, None, 100, None), RowState.TORN, False),
        ((30.0, 2.0, 100, 99), RowState.TORN, False),
        ((1.0, 50.0, 101, 100), RowState.TORN, False),
    ],
)
def test_a_row_is_written_again_only_where_it_restores_a_cell(stored, state, is_written) -> None:
    assert judge_row(ROW, stored) is state
    assert should_write(ROW, stored) is is_written
