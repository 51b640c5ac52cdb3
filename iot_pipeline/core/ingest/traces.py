"""What a micro-batch did and when, step by step: the value behind a trace."""

from collections.abc import Sequence
from dataclasses import dataclass

from iot_pipeline.core.reading.offsets import OffsetRange

CONSUME, DECODE, WRITE, LETTERS, COMMIT = STEPS = (
    "consume", "decode", "write", "letters", "commit",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """From when to when, in ns since 1970; `busy_ns` of it, where steps take turns."""

    name: str
    start_ns: int
    end_ns: int
    busy_ns: int


@dataclass(frozen=True, slots=True)
class BatchTrace:
    """One micro-batch of a run, from its first record to its checkpoint.

    Args:
        ranges: its offsets, of each Kafka partition.
        records: read; `rows` of them were written, `dead_letters` delivered.
        steps: at least one, of STEPS, in the order in which they began.
        error: what ended it before its checkpoint moved; empty: nothing did.
    """

    topic: str
    run_id: str
    ranges: Sequence[OffsetRange]
    records: int
    rows: int
    dead_letters: int
    steps: Sequence[Step]
    error: str = ""

    @property
    def start_ns(self) -> int:
        return min(step.start_ns for step in self.steps)

    @property
    def end_ns(self) -> int:
        return max(step.end_ns for step in self.steps)
