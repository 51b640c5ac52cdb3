"""Measure a pipeline from outside: Kafka, the ledger and the checks; changes nothing.

Counters come from the ledger, so they go on where they were when a process starts anew.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from iot_pipeline.core.alerts import metrics
from iot_pipeline.core.alerts.conditions import Level
from iot_pipeline.core.alerts.metrics import Metric, Sample
from iot_pipeline.core.checks.verdicts import CheckVerdict
from iot_pipeline.core.fleet.report import LastAudit
from iot_pipeline.core.ledger.chain import FATES, LOSSES, ChainLink, LedgerEntry, Outcome
from iot_pipeline.core.reading.lag import PartitionLag
from iot_pipeline.core.reading.messages import Reason
from iot_pipeline.stages.ports.ledger import LedgerStore

# Clocks of two machines may differ by as much; entries are asked for again from there.
_MARGIN = timedelta(minutes=2)
# What checks count, and which metric it is.
_OF_CHECKS: dict[str, Metric] = {
    "devices": metrics.DEVICES,
    "devices_silent": metrics.DEVICES_SILENT,
    "headroom_seconds": metrics.HEADROOM,
    "rejected": metrics.REJECTED,
}


@dataclass(slots=True)
class LedgerTotals:
    """Offsets of the whole ledger by fate; after the first look only what is newer is read.

    A run extends its entry in place, folding puts one entry in the place of many: an entry replaces
    all that begin within it.
    """

    ledger: LedgerStore
    topic: str
    _links: defaultdict[tuple[int, int], dict[int, ChainLink]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    _until: datetime | None = None

    def update(self, partitions: Sequence[int], now: datetime) -> None:
        """Read what was written since the last call.

        Raises:
            CassandraUnavailableError: nothing is known of it; the next call reads it.
        """
        since = None if self._until is None else self._until - _MARGIN
        for link in self.ledger.read_links(self.topic, partitions, since):
            known = self._links[link.partition, link.epoch]
            if known.get(link.start_offset) != link:
                for start in [s for s in known if link.start_offset <= s < link.end_offset]:
                    del known[start]
                known[link.start_offset] = link
        self._until = now

    def samples(self) -> Iterator[Sample]:
        """Of each Kafka partition; its epochs are added up."""
        fates: defaultdict[tuple[int, str], int] = defaultdict(int)
        unread: defaultdict[tuple[int, Outcome], int] = defaultdict(int)
        for (partition, _), links in self._links.items():
            for fate in FATES:
                fates[partition, fate] += sum(getattr(link, fate) for link in links.values())
            for outcome in LOSSES:
                unread[partition, outcome] += sum(
                    link.span for link in links.values() if link.outcome is outcome
                )
        for (partition, fate), count in sorted(fates.items()):
            place = _place(self.topic, partition)
            yield Sample(metrics.OFFSETS, count, {**place, "fate": fate})
        for (partition, outcome), count in sorted(unread.items()):
            place = _place(self.topic, partition)
            yield Sample(metrics.UNREAD, count, {**place, "outcome": outcome.value})


def of_lags(topic: str, lags: Iterable[PartitionLag]) -> Iterator[Sample]:
    """What is not known is left out."""
    for lag in lags:
        place = _place(topic, lag.state.partition)
        yield Sample(metrics.LAG_OFFSETS, lag.state.lag, place)
        if lag.lag_seconds is not None:
            yield Sample(metrics.LAG_SECONDS, lag.lag_seconds, place)
        yield Sample(metrics.HELD_BACK, lag.held_offsets, place)
        if lag.state.checkpoint is not None:
            yield Sample(metrics.CHECKPOINT, lag.state.checkpoint, place)
        yield Sample(metrics.LOG_END, lag.state.last_stable, place)


def of_newest(topic: str, newest: Iterable[LedgerEntry]) -> Iterator[Sample]:
    """`newest` has the newest entry of each Kafka partition."""
    for entry in newest:
        if entry.updated_at is not None:
            at = entry.updated_at.timestamp()
            yield Sample(metrics.LAST_COMMIT, at, _place(topic, entry.partition))


def of_checks(
    verdicts: Iterable[tuple[str, CheckVerdict]], looked_at: datetime
) -> Iterator[Sample]:
    """The level of each check, by table, and what some of them count."""
    for table, verdict in verdicts:
        level: float = Level.GREEN if verdict.passed else Level.of(verdict.severity)
        labels = {"check": verdict.name, "table": table}
        yield Sample(metrics.CHECK_LEVEL, level if verdict.is_looked else -1, labels)
        for name, metric in _OF_CHECKS.items():
            # Every check on devices counts them all; one says it.
            is_owner = name != "devices" or "devices_silent" in verdict.numbers
            if name in verdict.numbers and is_owner:
                yield Sample(metric, verdict.numbers[name])
        if "rejected" in verdict.numbers:
            for reason in Reason:
                count = verdict.numbers.get(reason.value, 0)
                yield Sample(metrics.LETTERS, count, {"reason": reason.value})
    yield Sample(metrics.CHECKED_AT, looked_at.timestamp())


def of_audit(last: LastAudit | None) -> Iterator[Sample]:
    if last is not None:
        yield Sample(metrics.AUDITED_AT, last.started_at.timestamp())
        for fate, count in sorted(last.fates.items()):
            yield Sample(metrics.AUDITED, count, {"fate": fate})


def _place(topic: str, partition: int) -> dict[str, str]:
    return {"topic": topic, "partition": str(partition)}
