"""What an audit reads, and how: shared by its parts."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from iot_pipeline.core.proof.audit import RawRecords, Stretch
from iot_pipeline.core.proof.deletions import Deletions
from iot_pipeline.core.proof.mended import MendedRows
from iot_pipeline.core.reading.decoding import ReadingDecoder, ReadingRules
from iot_pipeline.core.reading.offsets import OffsetRange, in_rounds
from iot_pipeline.stages.ports import (
    AuditLog,
    Audits,
    DeletionLog,
    DeviceDays,
    LedgerStore,
    MendLog,
    RecordLog,
    SensorData,
)

WINDOW_RECORDS = 200_000


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """How to audit; the meaning of each is that of the setting with its name."""

    topic: str
    dead_letter_topic: str
    rules: ReadingRules = field(default_factory=ReadingRules)
    retention_days: float = 0.0
    retry_seconds: float = 30.0
    window_records: int = WINDOW_RECORDS


@dataclass(frozen=True, slots=True)
class AuditPorts:
    """Everything an audit reads, and the one place it writes to."""

    config: AuditConfig
    log: RecordLog
    ledger: LedgerStore
    records: AuditLog
    rows: SensorData
    days: DeviceDays
    deletions: DeletionLog
    mends: MendLog
    audits: Audits

    def read_deletions(self) -> Deletions:
        """What `iot delete` removed."""
        return Deletions(self.deletions.read_deletions())

    def read_mended(self) -> MendedRows:
        """The rows that `iot mend` wrote."""
        return MendedRows(self.mends.read_mended())

    def stretches(
        self,
        ranges: Iterable[OffsetRange],
        choose: Callable[[RawRecords], RawRecords] = lambda records: records,
    ) -> Iterator[Stretch]:
        """The rows that the topic's records in these ranges make, as they come from Kafka."""
        decoder = ReadingDecoder(self.config.rules)
        for of_round in in_rounds(ranges):
            for records in self.records.read(self.config.topic, list(of_round.values())):
                stretch = Stretch(decoder)
                stretch.add(choose(records))
                yield stretch
