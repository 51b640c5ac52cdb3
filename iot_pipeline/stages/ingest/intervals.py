"""What a run that stays has done since it was last reported, from another thread."""

from dataclasses import dataclass, field, replace

from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.stages.ingest.progress import DrainProgress


def since(later: DrainProgress, earlier: DrainProgress) -> DrainProgress:
    """What the run did between two copies of its progress; `seconds` are left to the caller.

    Its ranges begin where those of `earlier` ended, so one after another they tile what the run
    achieved, and their counts add up to its counts.
    """
    grown = {}
    for place, (item, counts) in later.committed.items():
        before, counted = earlier.committed.get(place, (None, Counts()))
        start = item.start if before is None else before.end
        if before is None or item.end > start:
            part = OffsetRange(item.partition, start, item.end)
            grown[item.partition, start] = part, counts.since(counted)
    return DrainProgress(
        [part for part, _ in grown.values()],
        grown,
        list(later.fenced),
        split_ms=later.split_ms - earlier.split_ms,
        unknown_fields=later.unknown_fields - earlier.unknown_fields,
        micro_batches=later.micro_batches - earlier.micro_batches,
        is_throttled=later.is_throttled,
    )


@dataclass(slots=True)
class Intervals:
    """Noted by the run after each commit, taken by what reports it: each part once.

    `so_far` is what the run had achieved when it was last noted: true, and not changing meanwhile.
    """

    so_far: DrainProgress = field(default_factory=DrainProgress)
    _told: DrainProgress = field(default_factory=DrainProgress)
    _told_before: DrainProgress = field(default_factory=DrainProgress)

    def note(self, progress: DrainProgress) -> None:
        """Called in the run's thread, where `progress` does not change meanwhile."""
        self.so_far = replace(
            progress, committed=dict(progress.committed), fenced=list(progress.fenced)
        )

    def take(self, seconds: float) -> tuple[DrainProgress, DrainProgress]:
        """(all of the run so far, what came since the last call, which took `seconds`)."""
        now = self.so_far
        part = since(now, self._told)
        self._told_before, self._told = self._told, now
        part.seconds = seconds
        return now, part

    def give_back(self) -> None:
        """What was taken last could not be told: the next call takes it, too."""
        self._told = self._told_before
