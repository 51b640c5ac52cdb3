"""What lies below a range and shares its millisecond, where a part of it went bad since."""

from collections.abc import Sequence
from typing import Any

import pytest

from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import PipelineError, UnreadableError
from iot_pipeline.stages.reading.log import read_millisecond_before
from iot_pipeline_tests.stages.world import T0, World


class PartlyBad:
    """A log of which offsets `bad` of partition 0 cannot be read any more."""

    def __init__(self, world: World, bad: tuple[int, int]) -> None:
        self._log, self._bad = world.log, bad

    def watermarks(self, topic: str, **how: Any) -> Any:
        return self._log.watermarks(topic, **how)

    def open_ranges(self, topic: str, ranges: Sequence[OffsetRange]) -> Any:
        return _Source(self._log, ranges, *self._bad)


class _Source:
    def __init__(self, log: Any, ranges: Sequence[OffsetRange], start: int, end: int) -> None:
        self._records: list[Any] = []
        self._finished = set[int]()
        self._stopped: dict[int, PipelineError] = {}
        # Known when all that can be read was given out.
        self.finished, self.stopped = set[int](), dict[int, PipelineError]()
        for item in ranges:
            for at in range(item.start, item.end):
                if item.partition == 0 and start <= at < end:
                    why = UnreadableError("bad", partition=0, start=at, end=end, cause="bad")
                    self._stopped[0] = why
                    break
                self._records.append(log.at(item.partition, at)[1])
            else:
                self._finished.add(item.partition)

    def poll(self, timeout_seconds: float) -> list[Any]:
        records, self._records = self._records, []
        self.finished, self.stopped = self._finished, self._stopped
        return records

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("bad", "found"),
    [((0, 2), [2, 3, 4, 5]), ((3, 4), [4, 5]), ((4, 6), []), ((90, 99), [0, 1, 2, 3, 4, 5])],
)
def test_a_batch_that_went_bad_hides_only_itself(bad: tuple[int, int], found: list[int]) -> None:
    world = World(partitions=2)
    for step in range(8):  # all in one millisecond
        world.write(0, at=T0 + step)
        world.write(1, at=T0 + step)
    ranges = [OffsetRange(0, 6, 8), OffsetRange(1, 6, 8)]
    log: Any = PartlyBad(world, bad)
    chunks = read_millisecond_before(log, "iot_data", ranges, {0: 0, 1: 0}, 1.0)
    read = {p: [r.offset for c in chunks if c.partition == p for r in c] for p in (0, 1)}
    assert read == {0: found, 1: [0, 1, 2, 3, 4, 5]}
