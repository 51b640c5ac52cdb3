"""What an audit reads, and how: shared by its parts."""

from dataclasses import dataclass, field

from iot_pipeline.core.reading.decoding import ReadingRules
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
class AuditPorts:
    """Everything an audit reads, and the one place it writes to."""

    log: RecordLog
    ledger: LedgerStore
    records: AuditLog
    rows: SensorData
    days: DeviceDays
    deletions: DeletionLog
    mends: MendLog
    audits: Audits


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """How to audit; the meaning of each is that of the setting with its name."""

    dead_letter_topic: str
    rules: ReadingRules = field(default_factory=ReadingRules)
    retention_days: float = 0.0
    retry_seconds: float = 30.0
    window_records: int = WINDOW_RECORDS
