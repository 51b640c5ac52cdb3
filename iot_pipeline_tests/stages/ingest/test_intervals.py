"""The parts that a run reports one after another: together they are the run."""

import itertools
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ledger.chain import Counts, sum_counts
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.stages.ingest.intervals import Intervals
from iot_pipeline.stages.ingest.progress import DrainProgress

_DAYS = [date(2024, 12, 29), date(2024, 12, 30)]
# (a new plan first?, partition, stored on one day, rejected, reports that follow, of which all but
# the last cannot be told) per commit
_COMMITS = st.lists(
    st.tuples(
        st.booleans(), st.integers(0, 2), st.integers(0, 5), st.integers(0, 2), st.integers(0, 3)
    ),
    max_size=30,
)


@given(_COMMITS)
def test_reports_tile_what_the_run_achieved_and_their_counts_are_its_counts(
    commits: list[tuple[bool, int, int, int, int]],
) -> None:
    progress, intervals = DrainProgress(), Intervals()
    taken: list[tuple[OffsetRange, Counts]] = []
    ends = {0: 100, 1: 0, 2: 7}
    starts = dict(ends)
    for number, (is_new, partition, stored, rejected, reports) in enumerate(commits):
        if is_new:
            starts = dict(ends)
        end = ends[partition] = ends[partition] + stored + rejected
        place = (partition, starts[partition])
        by_day = {_DAYS[number % 2]: stored} if stored else {}
        new = Counts(
            stored,
            rejected=rejected,
            stored_by_day=by_day,
            first_record_ms=number,
            last_record_ms=number,
        )
        _, known = progress.committed.get(place, (None, Counts()))
        progress.committed[place] = OffsetRange(*place, end), known + new
        intervals.note(progress)
        for report in range(reports):
            parts = intervals.take(1.0)[1].parts
            if report == reports - 1:
                taken += parts
            else:
                intervals.give_back()
    so_far, last = intervals.take(1.0)
    taken += last.parts
    assert so_far.parts == progress.parts
    assert intervals.take(1.0)[1].parts == []
    for item, counts in taken:
        assert counts.accounted == item.span
        assert sum(counts.stored_by_day.values()) == counts.stored
    total = sum_counts(counts for _, counts in taken)
    assert (total.stored, total.rejected) == (progress.total.stored, progress.total.rejected)
    assert total.stored_by_day == progress.total.stored_by_day
    for partition in range(3):
        mine = [item for item, _ in taken if item.partition == partition and item.span]
        for earlier, later in itertools.pairwise(mine):
            assert earlier.end == later.start


def test_what_was_taken_does_not_change_while_the_run_goes_on() -> None:
    progress, intervals = DrainProgress(), Intervals()
    progress.committed[0, 0] = OffsetRange(0, 0, 5), Counts(5)
    intervals.note(progress)
    so_far, _ = intervals.take(1.0)
    progress.committed[0, 0] = OffsetRange(0, 0, 9), Counts(9)
    assert so_far.parts == [(OffsetRange(0, 0, 5), Counts(5))]
    intervals.note(progress)
    _, part = intervals.take(2.5)
    assert part.parts == [(OffsetRange(0, 5, 9), Counts(4))]
    assert (part.seconds, part.planned_offsets) == (2.5, 4)
