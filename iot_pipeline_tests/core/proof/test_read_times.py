"""In which write times an audit has read every record, whatever ranges it read in what order."""

from iot_pipeline.core.proof.read_times import ReadTimes
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.write_times import first_us


def milliseconds(times: ReadTimes, is_from_start: bool = False, end_ms: int | None = None) -> str:
    """A mark for each of the first 30 milliseconds: all of it is inside, or none."""
    inside = times.complete(is_from_start, end_ms)
    found = ""
    for ms in range(30):
        ends = {first_us(ms) in inside, first_us(ms + 1) - 1 in inside}
        assert len(ends) == 1
        found += "x" if ends.pop() else "."
    return found


def test_a_hole_between_two_ranges_is_outside_and_ranges_that_touch_are_one() -> None:
    times = ReadTimes()
    # In the order in which they were read; the last one lies between the first two.
    for item, first, last in (
        (OffsetRange(0, 0, 10), 0, 5),
        (OffsetRange(0, 15, 30), 12, 29),
        (OffsetRange(0, 10, 12), 5, 8),
    ):
        times.add(item, first, last)
    assert milliseconds(times) == ".xxxxxxx.....xxxxxxxxxxxxxxxx."
    assert milliseconds(times, True, 29) == "xxxxxxxx.....xxxxxxxxxxxxxxxxx"
    assert times.newest_ms == 29
    # Of another partition less was read: only what both have counts.
    times.add(OffsetRange(1, 0, 5), 3, 15)
    assert milliseconds(times) == "....xxxx.....xx..............."
    assert milliseconds(times, True) == "xxxxxxxx.....xx..............."


def test_nothing_read_is_no_time() -> None:
    assert milliseconds(ReadTimes(), True, 29) == "." * 30
