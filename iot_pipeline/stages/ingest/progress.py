"""What a run has achieved: true after every commit, whatever ends it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from iot_pipeline.core.ledger.chain import Counts, Fenced, sum_counts
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import PipelineError


@dataclass(slots=True)
class DrainProgress:
    """What a run has achieved so far, over all of its plans: past a loss it plans again.

    `planned` is of the latest plan. `committed` has, by (partition, start), each range and its
    counts: one row of the ledger. `fenced` names the partitions whose checkpoint another run moved
    first: this one left them, and nothing is wrong. `stopped` says which partitions it had to leave
    in its latest plan, and why; that is wrong. `in_doubt` are ranges beyond those committed whose
    commit was on its way when the run was cut off, and of which nothing could be learned in time:
    the ledger says, any time later. `cpu_seconds` are the whole process's; `is_throttled` says that
    a limit held at some time. `in_flight` counts the requests with rows that are on their way now.
    """

    planned: list[OffsetRange] = field(default_factory=list)
    committed: dict[tuple[int, int], tuple[OffsetRange, Counts]] = field(default_factory=dict)
    fenced: list[Fenced] = field(default_factory=list)
    stopped: dict[int, PipelineError] = field(default_factory=dict)
    in_doubt: list[OffsetRange] = field(default_factory=list)
    split_ms: int = 0
    unknown_fields: int = 0
    micro_batches: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    is_throttled: bool = False
    in_flight: Callable[[], int] = field(default=lambda: 0, repr=False, compare=False)
    _done_by_earlier_plans: int = 0

    def begin(self, planned: list[OffsetRange]) -> None:
        """Go on with the next plan."""
        self.planned, self._done_by_earlier_plans = planned, self.done_offsets
        self.stopped = {}

    @property
    def parts(self) -> list[tuple[OffsetRange, Counts]]:
        """Every range committed, by partition and start, with its counts."""
        return [self.committed[place] for place in sorted(self.committed)]

    @property
    def ranges(self) -> list[OffsetRange]:
        return [item for item, _ in self.parts]

    @property
    def total(self) -> Counts:
        return sum_counts(counts for _, counts in self.parts)

    @property
    def done_offsets(self) -> int:
        return sum(item.span for item, _ in self.committed.values())

    @property
    def planned_offsets(self) -> int:
        """What earlier plans achieved, and what the latest is to do."""
        return self._done_by_earlier_plans + sum(item.span for item in self.planned)
