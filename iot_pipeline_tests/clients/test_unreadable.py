"""Where a bad batch ends, told from headers alone."""

import pytest

from iot_pipeline.clients.kafka_raw import Batch
from iot_pipeline.clients.unreadable import _end_of


def batch(start: int, end: int, *, is_whole: bool = True) -> Batch:
    return Batch(start, end, 100, end - start, "zstd", False, is_whole)


BAD = batch(10, 20, is_whole=False)


@pytest.mark.parametrize(
    ("batches", "end"),
    [
        ([batch(10, 20)], 20),
        ([batch(10, 20), batch(25, 30)], 20),  # what lies between is holes
        ([BAD, batch(20, 30)], 20),
        ([BAD, batch(20, 30, is_whole=False)], 20),  # two bad ones, their headers agree
        # The flipped bit was in the header: the next batch knows better.
        ([batch(10, 36, is_whole=False), batch(20, 30)], 20),
        ([batch(10, 12, is_whole=False), batch(20, 30)], 20),
        ([BAD], 20),  # the log's last one
        # Both may lie, or the length did and what follows is no batch.
        ([BAD, batch(25, 30, is_whole=False)], 0),
        ([BAD, batch(3, 9)], 0),
        ([batch(10, 5, is_whole=False)], 0),
    ],
)
def test_the_end_of_a_bad_batch(batches, end):
    assert _end_of(batches, 12) == end
