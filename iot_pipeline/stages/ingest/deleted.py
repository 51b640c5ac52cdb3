"""What was deleted on purpose stays so, also where its records are read for the first time later.

A tombstone hides rows that are written later with an older write time, until it is forgotten itself
(gc_grace_seconds). So a run leaves such rows out, and counts their records as superseded.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.stages.ingest.asked_again import AskedAgain
from iot_pipeline.stages.ports.proof import DeletionLog
from iot_pipeline.stages.requests import retry_transient

# A run that stays learns of a deletion within this and the time of an answer.
LOOK_SECONDS = 3.0


@dataclass(slots=True)
class DeletedReadings:
    """What a run knows of deletions: what there was when it began, and what comes while it works.

    Args:
        log: None: nothing is ever deleted.
        clock: monotonic seconds.
    """

    log: DeletionLog | None
    clock: Callable[[], float] = time.monotonic
    _known: list[Deletion] = field(default_factory=list)
    _latest_us: int = 0
    _again: AskedAgain[Sequence[Deletion]] | None = None

    def __post_init__(self) -> None:
        if self.log is not None:
            self._again = AskedAgain(self.log.start_deletions, LOOK_SECONDS, self.clock)

    def look(self, retry_seconds: float) -> None:
        """Wait for the answer: before the first row is written."""
        log, again = self.log, self._again
        if log is not None and again is not None:
            known = retry_transient(log.read_deletions, give_up_after_seconds=retry_seconds)
            self._take(list(known))
            again.just_answered()

    def look_again(self) -> bool:
        """Whether something was deleted since; never waits."""
        answer = self._again.poll() if self._again is not None else None
        return answer is not None and self._take(list(answer.found))

    def _take(self, known: list[Deletion]) -> bool:
        if known == self._known:
            return False
        self._known = known
        self._latest_us = max((item.deleted_us for item in known), default=0)
        return True

    def leave_out(self, batch: MicroBatch) -> None:
        """Take the rows that were deleted out of a micro-batch that is not written yet.

        Without deletions, or when all of it arrived after them, it costs one comparison.
        """
        if not self._known or not batch.rows:
            return
        columns = batch.groups.columns
        if int(columns.written_us.min()) > self._latest_us:
            return
        is_gone = np.zeros(columns.count, np.bool_)
        for item in self._known:
            code = columns.codes.get(item.device_id)
            if code is not None:
                is_gone |= (
                    (columns.code == code)
                    & (columns.ms >= item.since_ms)
                    & (columns.ms < item.until_ms)
                    & (columns.written_us <= item.deleted_us)
                )
        places = batch.groups.places()
        gone = places[is_gone[places]]
        if not len(gone):
            return
        days = (columns.ms[gone] // MS_PER_DAY).tolist()
        for row, day in zip(columns.rows(gone), days, strict=True):
            batch.supersede(row, day)
        batch.groups = batch.groups.without(is_gone)
        batch.count_cells_again()
