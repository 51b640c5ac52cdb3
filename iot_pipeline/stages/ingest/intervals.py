"""What a run that stays has done since somebody last asked, from another thread."""

from dataclasses import dataclass, field, replace

from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.stages.ingest.progress import DrainProgress, DrainSum


def copy_of(progress: DrainSum) -> DrainSum:
    """As it is now; what the run does later does not show in it."""
    return DrainSum(
        [
            replace(
                drain,
                achieved=dict(drain.achieved),
                counts=dict(drain.counts),
                fenced=list(drain.fenced),
            )
            for drain in progress.drains
        ]
    )


def since(later: DrainSum, earlier: DrainSum) -> DrainSum:
    """What the run did between two copies of its progress; `seconds` are left to the caller.

    Its ranges begin where those of `earlier` ended, so one after another they tile what the run
    achieved, and their counts add up to its counts.
    """
    parts = DrainSum()
    for number, drain in enumerate(later.drains):
        before = earlier.drains[number] if number < len(earlier.drains) else DrainProgress([])
        grown = [
            OffsetRange(p, before.achieved[p].end if p in before.achieved else item.start, item.end)
            for p, item in sorted(drain.achieved.items())
            if p not in before.achieved or item.end > before.achieved[p].end
        ]
        part = parts.begin(grown)
        part.achieved = {item.partition: item for item in grown}
        part.counts = {
            item.partition: drain.counts[item.partition].since(
                before.counts.get(item.partition, Counts())
            )
            for item in grown
        }
        part.fenced = list(drain.fenced)
        part.split_ms = drain.split_ms - before.split_ms
        part.unknown_fields = drain.unknown_fields - before.unknown_fields
        part.micro_batches = drain.micro_batches - before.micro_batches
    return parts


@dataclass(slots=True)
class Intervals:
    """Noted by the run after each commit, taken by whoever reports: each part once.

    `so_far` is what the run had achieved when it was last noted: true, and not changing meanwhile.
    """

    so_far: DrainSum = field(default_factory=DrainSum)
    _told: DrainSum = field(default_factory=DrainSum)

    def note(self, progress: DrainSum) -> None:
        """Called in the run's thread, where `progress` does not change meanwhile."""
        self.so_far = copy_of(progress)

    def take(self, seconds: float) -> tuple[DrainSum, DrainSum]:
        """(all of the run so far, what was not taken yet, which took so many seconds)."""
        now = self.so_far
        part, self._told = since(now, self._told), now
        if part.drains:
            part.drains[-1].seconds = seconds
        return now, part
