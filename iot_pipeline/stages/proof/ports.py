"""What an audit reads, and how: shared by its parts."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from iot_pipeline.core.proof.audit import RawRecords, Stretch
from iot_pipeline.core.proof.deletions import Deletions
from iot_pipeline.core.proof.log_reader import LogReader
from iot_pipeline.core.proof.mended import MendedRows
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.reading.offsets import OffsetRange, in_rounds
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ports import (
    AuditLog,
    Audits,
    DeletionLog,
    DeviceDays,
    LedgerStore,
    MendLog,
    NoSchemas,
    RecordLogReader,
    SchemaSource,
    SensorData,
)
from iot_pipeline.stages.reading.schemas import learn_schemas

WINDOW_RECORDS = 200_000


@dataclass(frozen=True, slots=True)
class AuditPorts:
    """Everything an audit reads, and the one place it writes to.

    Records are judged `window_records` at a time. `live_seconds` says how long a row lives that is
    written without a lifetime of its own; 0: for ever.
    """

    settings: Settings
    log: RecordLogReader
    ledger: LedgerStore
    records: AuditLog
    rows: SensorData
    days: DeviceDays
    deletions: DeletionLog
    mends: MendLog
    audits: Audits
    window_records: int = WINDOW_RECORDS
    live_seconds: Callable[[], int] = lambda: 0
    schemas: SchemaSource = field(default_factory=NoSchemas)

    def read_deletions(self) -> Deletions:
        """What `iot delete` removed."""
        return Deletions(self.deletions.read_deletions())

    def read_mended(self) -> MendedRows:
        """The rows that `iot mend` wrote."""
        return MendedRows(self.mends.read_mended())

    def learn_schemas(self, rules: ReadingRules, values: Iterable[bytes | None]) -> None:
        """Have the rules know the schemas of these messages."""
        learn_schemas(rules, self.schemas, values, self.settings.retry_seconds)

    def stretches(
        self,
        ranges: Iterable[OffsetRange],
        choose: Callable[[RawRecords], RawRecords] = lambda records: records,
    ) -> Iterator[Stretch]:
        """The rows that the topic's records in these ranges make, as they come from Kafka."""
        reader = LogReader(self.settings.reading_rules)
        for of_round in in_rounds(ranges):
            for records in self.records.read(self.settings.topic, list(of_round.values())):
                stretch = Stretch(reader)
                chosen = choose(records)
                self.learn_schemas(reader.rules, chosen.values)
                stretch.add(chosen)
                yield stretch
