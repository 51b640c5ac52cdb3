"""What checks ask about, each fact looked up once, when the first check needs it.

A run brings what it did and has a budget; a look on its own takes the time that the settings give,
and looks at all there is.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from iot_pipeline.core.fleet.problems import Fleet
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.ingest.latency import Latencies
from iot_pipeline.core.ingest.run_costs import lane_name
from iot_pipeline.core.ingest.stopped import Stop
from iot_pipeline.core.ledger.chain import ChainLink, LedgerEntry, Outcome, of_current_epoch
from iot_pipeline.core.reading.lag import PartitionLag, total_lag
from iot_pipeline.core.reading.offsets import OffsetRange, TopicInfo
from iot_pipeline.errors import PipelineError
from iot_pipeline.settings import Settings
from iot_pipeline.stages.fleet.keeper import FleetKeeper, look_at_fleet
from iot_pipeline.stages.fleet.rows import FleetPorts
from iot_pipeline.stages.ingest.lag import read_lag
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline.stages.ingest.stops import read_standing
from iot_pipeline.stages.ledger.chain import Chain, walk_chain
from iot_pipeline.stages.ports.ingest import RunCosts, Stops
from iot_pipeline.stages.ports.ledger import Acknowledgements, LedgerStore, LedgerSums
from iot_pipeline.stages.ports.log import ClusterLog
from iot_pipeline.stages.ports.proof import Receipts, Settlements
from iot_pipeline.stages.ports.readings import DeviceDays, SensorData
from iot_pipeline.stages.ports.tables import TableStore
from iot_pipeline.stages.proof.ports import AuditPorts
from iot_pipeline.stages.rollups.comparison import Comparisons, compare_days
from iot_pipeline.stages.rollups.rebuild import RollupPorts
from iot_pipeline.stages.schema import SchemaReport, check_schema
from iot_pipeline.stages.topics import TopicsReport, check_topics

RECENT = timedelta(hours=1)
# The share of a run's time that its checks may take together, and what they may take at least.
RUN_SHARE = 0.1
LEAST_BUDGET_SECONDS = 0.5
# However late it is, each check looks at something.
_LEAST_PART_SECONDS = 0.02
# A person who sees the first run of a pipeline is not told to wait for a schedule.
_FIRST_LOOK_SECONDS = 3.0
# People look at the days that were rebuilt last; every day is compared when it is touched.
_ROLLUP_DAYS = 7
# A row beyond the ledgers may belong to a micro-batch that commits within a second or so.
_ROLLUP_PATIENCE_SECONDS = 5.0

_T = TypeVar("_T")


class CheckPorts(Protocol):
    """Everything that checks may ask."""

    @property
    def settings(self) -> Settings: ...
    @property
    def log(self) -> ClusterLog: ...
    @property
    def ledger(self) -> LedgerStore: ...
    @property
    def ledger_sums(self) -> LedgerSums: ...
    @property
    def tables(self) -> TableStore: ...
    @property
    def rows(self) -> SensorData: ...
    @property
    def days(self) -> DeviceDays: ...
    @property
    def rollup_ports(self) -> RollupPorts: ...
    @property
    def audit_ports(self) -> AuditPorts: ...
    @property
    def settlements(self) -> Settlements: ...
    @property
    def stops(self) -> Stops: ...
    @property
    def run_costs(self) -> RunCosts: ...
    @property
    def receipts(self) -> Receipts: ...
    @property
    def acknowledgements(self) -> Acknowledgements: ...
    @property
    def fleet_ports(self) -> FleetPorts: ...
    @property
    def quality_limits(self) -> QualityLimits: ...


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run did, for the checks that it brings.

    Args:
        run_id: whose entries in the ledger must be `committed`.
        part: what is to be looked at: the run, or what it did since it was looked at last.
        committed: every range the run has committed.
        days: the UTC days that `part` wrote rows of.
        replayed: ranges that it wrote again; they are read back as well.
        started_at: no entry of the run is older; aware.
        fleet: what it saw of the devices' readings, and what is kept of them.
        is_growing: the run goes on meanwhile, so the ledger may know more of it.
        lane: what its cost is kept under.
        latencies: of a sample of the rows of `part`.
    """

    run_id: str
    part: DrainProgress
    committed: Sequence[OffsetRange]
    days: Collection[date]
    replayed: Sequence[OffsetRange]
    started_at: datetime
    topic: TopicInfo
    fleet: FleetKeeper | None = None
    is_growing: bool = False
    lane: str = lane_name()
    latencies: Latencies = field(default_factory=Latencies)


class RunBudget:
    """How long the checks of one run may still take: a tenth of `run_seconds`, from now on."""

    def __init__(self, run_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = clock() + max(LEAST_BUDGET_SECONDS, RUN_SHARE * run_seconds)

    def part(self, share: float) -> float:
        """Seconds: this share of what is left."""
        return max(_LEAST_PART_SECONDS, share * (self._until - self._clock()))


class _Fact(Generic[_T]):
    """A property that is looked up once; an error is its answer as well, and raised again."""

    def __init__(self, look: Callable[[Any], _T]) -> None:
        self._look, self._name = look, look.__name__
        self.__doc__ = look.__doc__

    def __get__(self, facts: "Facts", _: object = None) -> _T:
        if self._name not in facts.known:
            try:
                facts.known[self._name] = self._look(facts), None
            except PipelineError as exc:
                facts.known[self._name] = None, exc
        value, error = facts.known[self._name]
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]


class Facts:
    """The facts of one look.

    Args:
        run: what the run did that brings the checks; None: they look on their own.
        suspects: by check, what it found wrong the last time; looked at in any case.
        is_first: a check has no verdict yet: a run gives them more time, once.
        compared: rollups beside their rows, where that was looked up already, or why it could not
            be.
    """

    def __init__(
        self,
        ports: CheckPorts,
        now: datetime,
        run: RunFacts | None = None,
        suspects: Mapping[str, Sequence[str]] | None = None,
        is_first: bool = False,
        compared: Comparisons | PipelineError | None = None,
    ) -> None:
        self.ports, self.now, self.run = ports, now, run
        self.settings = ports.settings
        self.suspects = suspects or {}
        self._least_seconds = _FIRST_LOOK_SECONDS if is_first else 0.0
        self.known: dict[str, tuple[Any, PipelineError | None]] = {}
        if isinstance(compared, PipelineError):
            self.known["compared"] = None, compared
        elif compared is not None:
            self.known["compared"] = compared, None
        self._budget = RunBudget(run.part.seconds) if run is not None else None

    def seconds(self, share: float) -> float:
        """How long a look may take: this share of what a run has left, or the setting's time."""
        if self._budget is None:
            return self.settings.check_seconds
        return max(self._least_seconds, self._budget.part(share))

    @_Fact
    def topic(self) -> TopicInfo:
        """The topic of readings."""
        return self.run.topic if self.run else self.ports.log.describe(self.settings.topic)

    @property
    def parts(self) -> range:
        """Its Kafka partitions."""
        return range(self.topic.partitions)

    @_Fact
    def lags(self) -> list[PartitionLag]:
        """How far ingestion is behind, by Kafka partition."""
        return read_lag(self.ports.log, self.ports.ledger, self.settings.topic, self.now)

    @_Fact
    def stops(self) -> list[Stop]:
        """The partitions that a run had to leave, and that none has drained on since."""
        return read_standing(self.ports.stops, self.ports.ledger, self.settings.topic)

    @_Fact
    def recent(self) -> list[ChainLink]:
        """The ledger's links of the last hour, and of a run that began earlier."""
        since = self.now - RECENT
        if self.run is not None:
            since = min(since, self.run.started_at)
        return self.ports.ledger.read_links(self.settings.topic, self.parts, since)

    @_Fact
    def recent_entries(self) -> list[LedgerEntry]:
        """The ledger's entries of the last hour, with all that they say."""
        since = self.now - RECENT
        return self.ports.ledger.read_entries(self.settings.topic, self.parts, since)

    @_Fact
    def newest_ingested(self) -> list[LedgerEntry]:
        """Those of them that ingested something, in the topic's present incarnation."""
        known = self.ports.ledger.read_checkpoints(self.settings.topic, self.parts)
        return [
            entry
            for entry in of_current_epoch(self.recent_entries, known)
            if entry.outcome is Outcome.INGESTED and entry.span > 0
        ]

    @_Fact
    def walk(self) -> Chain[ChainLink]:
        """The whole ledger, walked."""
        return walk_chain(self.ports.ledger, self.settings.topic, self.parts)

    @_Fact
    def schema(self) -> SchemaReport:
        """How tables and Cassandra's nodes are set up."""
        return check_schema(self.ports.tables, self.settings)

    @_Fact
    def topics(self) -> TopicsReport:
        """How Kafka keeps both topics."""
        return check_topics(self.ports.log, self.settings)

    @_Fact
    def compared(self) -> Comparisons:
        """The rollups that were rebuilt last, beside their rows."""
        settings, ports = self.settings, self.ports.rollup_ports
        records = ports.rollups.read_records(settings.topic)
        newest = sorted(records.values(), key=lambda record: -record.rebuilt_at.timestamp())
        return compare_days(
            ports,
            settings.topic,
            [record.day for record in newest[:_ROLLUP_DAYS]],
            budget_seconds=settings.check_seconds,
            retry_seconds=settings.retry_seconds,
            patience_seconds=_ROLLUP_PATIENCE_SECONDS,
            retention=settings.retention,
        )

    @_Fact
    def fleet(self) -> Fleet:
        """The devices as they are, and their problems."""
        # Neither is a device silent whose readings an open transaction holds back.
        lag_seconds = total_lag(self.lags).behind_seconds
        seconds = self.seconds(0.6)
        if self.run is not None and self.run.fleet is not None:
            return self.run.fleet.look(self.now, lag_seconds, seconds)
        limits = self.ports.quality_limits
        return look_at_fleet(self.ports.fleet_ports, limits, self.now, lag_seconds, seconds)
