"""Kafka and Cassandra as audits and deletions meet them, over a `World`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

from iot_pipeline.core.fleet.report import LastAudit
from iot_pipeline.core.ledger.losses import Acknowledgement
from iot_pipeline.core.proof.audit_result import AuditResult, Fate
from iot_pipeline.core.proof.audited_days import AuditedDay
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.mended import MendedRow
from iot_pipeline.core.proof.stretches import RawRecords
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.core.rollups.days import DeletedPart
from iot_pipeline.errors import CassandraUnavailableError, PipelineError
from iot_pipeline.settings import declared_settings
from iot_pipeline.settings_reading import read_declaration
from iot_pipeline.stages.ports.readings import SensorData
from iot_pipeline.stages.proof.ports import AuditPorts, History
from iot_pipeline_tests.stages.fake_rows import FakeDeviceDays, FakeSensorData
from iot_pipeline_tests.stages.fakes import FakeAnswer, Kind, answer
from iot_pipeline_tests.stages.faults import Faults
from iot_pipeline_tests.stages.world import World

DLQ = "iot_data.dlq"


@dataclass
class FakeDeletions:
    """A `DeletionLog`; `faults` spoil the call that remembers."""

    faults: Faults = field(default_factory=Faults)
    deletions: list[Deletion] = field(default_factory=list)
    deleted: list[DeletedPart] = field(default_factory=list)

    def read_deletions(self) -> list[Deletion]:
        return self.deletions

    def start_deletions(self) -> FakeAnswer[list[Deletion]]:
        return answer(list(self.deletions))

    def deleted_parts(self) -> list[DeletedPart]:
        return self.deleted

    def record_deletion(
        self, deletion: Deletion, deleted_at: datetime, rows_by_day: Mapping[date, int]
    ) -> None:
        def record() -> None:
            self.deletions.append(deletion)
            name = f"deletion {deletion.device_id} {deleted_at} {deletion.since_ms}"
            self.deleted.append(DeletedPart(name, deleted_at, rows_by_day))

        self.faults.call("deletions.record_deletion", record, CassandraUnavailableError)


@dataclass
class FakeMends:
    """A `MendLog`; `faults` spoil the call that remembers."""

    faults: Faults = field(default_factory=Faults)
    mended: list[MendedRow] = field(default_factory=list)

    def read_mended(self) -> list[MendedRow]:
        return self.mended

    def record_mend(self, mended: MendedRow, mended_at: datetime, mended_by: str) -> None:
        def record() -> None:
            if mended not in self.mended:
                self.mended.append(mended)

        self.faults.call("mends.record_mend", record, CassandraUnavailableError)


@dataclass
class FakeAcknowledgements:
    """An `Acknowledgements`."""

    kept: dict[tuple[str, str], Acknowledgement] = field(default_factory=dict)

    def acknowledge_loss(self, topic: str, loss_id: str, reason: str, by: str) -> Acknowledgement:
        now = datetime.now(UTC)
        return self.kept.setdefault((topic, loss_id), Acknowledgement(now, reason, by))

    def acknowledged_losses(self, topic: str) -> dict[str, Acknowledgement]:
        return {loss_id: said for (name, loss_id), said in self.kept.items() if name == topic}


@dataclass
class FakeAudits:
    """An `Audits`."""

    recorded: list[tuple[str, datetime, AuditResult]] = field(default_factory=list)
    days: list[tuple[str, datetime, list[AuditedDay]]] = field(default_factory=list)
    # Of the table of the days alone.
    error: PipelineError | None = None

    def record_audit(
        self, topic: str, topic_id: str, audit_id: str, started_at: datetime, result: AuditResult
    ) -> None:
        self.recorded.append((topic, started_at, result))

    def record_days(self, topic: str, started_at: datetime, days: Iterable[AuditedDay]) -> None:
        if self.error is not None:
            raise self.error
        self.days.append((topic, started_at, list(days)))

    def read_audited_days(self, topic: str) -> dict[date, AuditedDay]:
        found: dict[date, AuditedDay] = {}
        for name, _, days in sorted(self.days, key=lambda item: item[1]):
            if name == topic:
                found.update({item.day: item for item in days})
        return found

    def read_last_audit(self, topic: str) -> LastAudit | None:
        found = [(at, result) for name, at, result in self.recorded if name == topic]
        if not found:
            return None
        at, result = max(found, key=lambda item: item[0])
        return LastAudit(at, {fate.value: result.fates[fate] for fate in Fate})


@dataclass
class Outside:
    """Kafka and Cassandra as an audit reads them, over a `World`."""

    world: World
    audits: FakeAudits = field(default_factory=FakeAudits)
    deletions: FakeDeletions = field(default_factory=FakeDeletions)
    mends: FakeMends = field(default_factory=FakeMends)
    readings: int = 0  # of the log: each is a consumer
    unreadable: list[OffsetRange] = field(default_factory=list)
    # The file of the declaration; empty: the original message's.
    reading: str = ""
    # Time for a second attempt on any machine.
    retry_seconds: float = 60.0

    def read(self, topic: str, ranges: Sequence[OffsetRange]) -> Iterator[RawRecords]:
        self.readings += 1
        for item in ranges:
            bad = [b for b in self.unreadable if b.partition == item.partition]
            for at in range(item.start, item.end):
                if found := [b for b in bad if b.start <= at < b.end]:
                    if at == found[0].start:
                        yield RawRecords([], [], [], [], (found[0],))
                    continue
                kind, record = self.world.log.at(item.partition, at)
                if kind is Kind.RECORD and at >= self.world.log.low[item.partition]:
                    yield RawRecords(
                        [item.partition],
                        [at],
                        [record.produced_ms],
                        [record.value],
                        (),
                        [record.message_key],
                        [record.headers],
                    )

    @property
    def ports(self) -> AuditPorts:
        return self.ports_with()

    def ports_with(
        self, rows: SensorData | None = None, retention_days: float = 0, **options: Any
    ) -> AuditPorts:
        declaration = read_declaration(self.reading)
        return AuditPorts(
            declared_settings(declaration)(
                topic="iot_data",
                retry_seconds=self.retry_seconds,
                retention_days=retention_days,
            ),
            self,
            self.world.ledger,
            self,
            rows or FakeSensorData(self.world.store, names=_names(declaration.quantities)),
            FakeDeviceDays(self.world.store),
            self.deletions,
            self.mends,
            self.audits,
            history=History(
                self.world.declarations,
                lambda columns: FakeSensorData(self.world.store, names=_names(columns)),
                lambda columns: replace(self.world.store, names=_names(columns)),
                lambda: {name for row in self.world.store.cells.values() for name in row},
            ),
            **options,
        )

    def letter_places(self, dlq, ranges, topic, topic_id, on_unreadable):
        return iter(self.world.letters.by_place())

    def watermarks(self, topic: str, **how):
        return [] if topic == DLQ else self.world.log.watermarks(topic, **how)

    def __getattr__(self, name: str):
        return getattr(self.world.log, name)


def _names(columns: Sequence[Quantity]) -> tuple[str, ...]:
    return tuple(quantity.name for quantity in columns)
