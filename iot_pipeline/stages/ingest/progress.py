"""What a drain has achieved: true after every commit, whatever ends it."""

from dataclasses import dataclass, field

from iot_pipeline.core.ledger.chain import Counts, Fenced, sum_counts
from iot_pipeline.core.reading.offsets import OffsetRange


@dataclass(slots=True)
class DrainProgress:
    """What a run has achieved so far; true after every commit, whatever ends the run.

    `achieved` are the ranges committed, `counts` their sums per partition. `fenced` is not empty
    when another run moved a checkpoint first: this one then stopped, and nothing is wrong.
    `in_doubt` are ranges beyond `achieved` whose commit was on its way when the run was cut off,
    and of which nobody could say in time whether it took effect: the ledger says, any time later.
    """

    planned: list[OffsetRange]
    achieved: dict[int, OffsetRange] = field(default_factory=dict)
    counts: dict[int, Counts] = field(default_factory=dict)
    fenced: list[Fenced] = field(default_factory=list)
    in_doubt: list[OffsetRange] = field(default_factory=list)
    split_ms: int = 0
    unknown_fields: int = 0
    micro_batches: int = 0
    seconds: float = 0.0

    @property
    def total(self) -> Counts:
        return sum_counts(self.counts.values())

    @property
    def ranges(self) -> list[OffsetRange]:
        return [self.achieved[partition] for partition in sorted(self.achieved)]

    @property
    def done_offsets(self) -> int:
        return sum(item.span for item in self.achieved.values())

    @property
    def planned_offsets(self) -> int:
        return sum(item.span for item in self.planned)


@dataclass(slots=True)
class DrainSum:
    """What a run achieved over all of its plans: past a loss it plans again, in new ledger rows."""

    drains: list[DrainProgress] = field(default_factory=list)

    def begin(self, planned: list[OffsetRange]) -> DrainProgress:
        """The progress of the next plan."""
        self.drains.append(DrainProgress(planned))
        return self.drains[-1]

    @property
    def parts(self) -> list[tuple[OffsetRange, Counts]]:
        """Every range committed, in the order of the plans, with its counts."""
        return [(item, d.counts[item.partition]) for d in self.drains for item in d.ranges]

    @property
    def ranges(self) -> list[OffsetRange]:
        return [item for item, _ in self.parts]

    @property
    def total(self) -> Counts:
        return sum_counts(counts for _, counts in self.parts)

    @property
    def fenced(self) -> list[Fenced]:
        return [item for drain in self.drains for item in drain.fenced]

    @property
    def in_doubt(self) -> list[OffsetRange]:
        return [item for drain in self.drains for item in drain.in_doubt]

    @property
    def done_offsets(self) -> int:
        return sum(item.span for item in self.ranges)

    @property
    def planned_offsets(self) -> int:
        """What earlier plans achieved, and what the last one was to do."""
        last = self.drains[-1:]
        earlier = sum(drain.done_offsets for drain in self.drains[:-1])
        return earlier + sum(drain.planned_offsets for drain in last)

    @property
    def split_ms(self) -> int:
        return sum(drain.split_ms for drain in self.drains)

    @property
    def unknown_fields(self) -> int:
        return sum(drain.unknown_fields for drain in self.drains)

    @property
    def micro_batches(self) -> int:
        return sum(drain.micro_batches for drain in self.drains)

    @property
    def seconds(self) -> float:
        return sum(drain.seconds for drain in self.drains)
