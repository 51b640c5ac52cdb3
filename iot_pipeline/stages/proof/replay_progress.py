"""What a replay has done so far, in numbers and in sentences."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date

from iot_pipeline.core.ledger.chain import Counts, Outcome
from iot_pipeline.core.proof.read_back import NOT_WHOLE, ReadBack, RowState
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.words import counted
from iot_pipeline.errors import PermanentError


@dataclass(slots=True)
class ReplayProgress:
    """What a replay has done so far; true after every micro-batch.

    `counts` are of the records replayed: `stored` have their rows, written again or there before;
    `superseded` include `deleted`, those that `iot delete` removed and that were left so.
    `read_back` says which rows are not there after all. `gone` are the parts asked for that Kafka
    has deleted, `recovered` those that were losses of the ledger, each with what it was. What a
    declaration makes that its range was not ingested by is counted in `new_rows_by_day` and
    `new_cells_by_day`: no run has counted it.
    """

    planned: list[OffsetRange]
    gone: list[OffsetRange] = field(default_factory=list)
    recovered: list[tuple[OffsetRange, Outcome]] = field(default_factory=list)
    achieved: list[OffsetRange] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    deleted: int = 0
    read_back: ReadBack = field(default_factory=ReadBack)
    new_rows_by_day: Counter[date] = field(default_factory=Counter)
    new_cells_by_day: Counter[date] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def done_offsets(self) -> int:
        return sum(item.span for item in self.achieved)

    @property
    def rows_not_whole(self) -> int:
        """Rows that are not there, or not whole, after all."""
        return sum(self.read_back.states[state] for state in NOT_WHOLE)

    def numbers(self) -> dict[str, int | float]:
        """What was done, by name."""
        return {
            **self.counts.by_fate(),
            "deleted": self.deleted,
            "recovered": sum(item.span for item, _ in self.recovered),
            "seconds": round(self.seconds, 3),
        }

    def sentences(self) -> list[str]:
        """What was done and what did not take, for a person."""
        counts, read_back = self.counts, self.read_back
        said = [
            *(
                f"gone: Kafka has deleted {item}; that part cannot be replayed"
                for item in self.gone
            ),
            f"replayed {self.done_offsets:,} offsets = {counts}, in {self.seconds:.1f} s; no "
            "checkpoint moved",
            *(
                f"  partition {item.partition}: {item.start} to {item.end}"
                for item in self.achieved
            ),
        ]
        said += [
            f"{item} was {why} in the ledger, and is ingested now: counted once"
            for item, why in self.recovered
        ]
        if self.deleted:
            said.append(f"{counted(self.deleted, 'row stays', 'rows stay')} deleted (`iot delete`)")
        if read_back.rows:
            equal = read_back.states[RowState.EQUAL]
            said.append(f"read back: {equal:,} of {read_back.rows:,} rows are as their records say")
        said += [f"  {finding}" for finding in read_back.named]
        if read_back.not_equal > len(read_back.named):
            said.append(f"  and {read_back.not_equal - len(read_back.named):,} more")
        return said

    def raise_unless_whole(self) -> None:
        """Fail where rows did not take.

        Raises:
            PermanentError: names the ranges, and one of the rows.
        """
        if self.rows_not_whole:
            raise PermanentError(
                f"replaying {' '.join(map(str, self.achieved))}: {self.rows_not_whole} rows did "
                f"not take, such as {self.read_back.named[0]}; `iot audit` over these offsets says "
                "what is in their place"
            )
