"""What an audit reads, and how: shared by its parts."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from iot_pipeline.core.ledger.declared import Parts, split
from iot_pipeline.core.proof.deletions import Deletions
from iot_pipeline.core.proof.former_reader import FormerReader
from iot_pipeline.core.proof.log_reader import LogReader
from iot_pipeline.core.proof.mended import MendedRows
from iot_pipeline.core.proof.stretches import RawRecords, Stretch
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.reading.offsets import OffsetRange, in_rounds
from iot_pipeline.core.reading.quantities import Quantity
from iot_pipeline.settings import Settings
from iot_pipeline.stages.ports.ledger import LedgerStore
from iot_pipeline.stages.ports.log import AuditLog, NoSchemas, RecordLogReader, SchemaSource
from iot_pipeline.stages.ports.proof import Audits, DeletionLog, MendLog
from iot_pipeline.stages.ports.readings import Declarations, DeviceDays, ReadingStore, SensorData
from iot_pipeline.stages.reading.schemas import learn_schemas

WINDOW_RECORDS = 200_000


@dataclass(frozen=True, slots=True)
class History:
    """Former declarations, and rows as they have them.

    `rows_of` reads rows with these columns, `store_of` writes such; `columns` are those that the
    table has.
    """

    declarations: Declarations
    rows_of: Callable[[Sequence[Quantity]], SensorData]
    store_of: Callable[[Sequence[Quantity]], ReadingStore]
    columns: Callable[[], Collection[str]]


@dataclass(frozen=True, slots=True)
class Ingested:
    """By which declaration each range of the topic was ingested.

    Args:
        parts: by Kafka partition; where the fingerprint is not `known`, the present one reads.
        known: the present declaration and those of the others that were kept, by fingerprint.
        present: the fingerprint of the present one.
        columns: of a row, of all known declarations.
        letters: fingerprints of declarations by which dead letters were replayed, in the order in
            which that was done first: a row that is there stays.
        dropped: quantities of former declarations that the table has no column of any more.
        others: every fingerprint that is used beside the present one, known or not.
    """

    parts: Mapping[int, Parts]
    known: Mapping[str, Declaration]
    present: str
    columns: tuple[Quantity, ...]
    letters: Sequence[str] = ()
    dropped: Sequence[str] = ()
    others: Collection[str] = ()

    def by_reader(
        self, rules: ReadingRules, ranges: Iterable[OffsetRange]
    ) -> Iterator[tuple[LogReader, list[OffsetRange]]]:
        """These ranges, each with what reads it; the present one first."""
        found: defaultdict[str, list[OffsetRange]] = defaultdict(list)
        for fingerprint, mine in split(self.parts, ranges).items():
            found[fingerprint if fingerprint in self.known else self.present] += mine
        for fingerprint in sorted(found, key=lambda name: (name != self.present, name)):
            order = dict.fromkeys([*self.letters, self.present])
            others = [
                self.known[name] for name in order if name in self.known.keys() - {fingerprint}
            ]
            own = replace(rules, declaration=self.known[fingerprint])
            yield FormerReader(own, self.columns, others), sorted(found[fingerprint])

    def read_by(self, partition: int, offset: int) -> str:
        """The fingerprint of the declaration that a record is read by."""
        (fingerprint,) = split(self.parts, [OffsetRange(partition, offset, offset + 1)])
        return fingerprint if fingerprint in self.known else self.present

    def unknown(self, ranges: Iterable[OffsetRange]) -> dict[str, list[OffsetRange]]:
        """Those of these ranges whose declaration was not kept, by its fingerprint."""
        return {
            fingerprint: mine
            for fingerprint, mine in split(self.parts, ranges).items()
            if fingerprint and fingerprint not in self.known
        }

    def lacking(self, ranges: Iterable[OffsetRange]) -> list[OffsetRange]:
        """Those of these ranges that were ingested with a quantity that the table lacks now."""
        return [
            item
            for fingerprint, mine in split(self.parts, ranges).items()
            if fingerprint in self.known
            and any(q.name in self.dropped for q in self.known[fingerprint].quantities)
            for item in mine
        ]


@dataclass(frozen=True, slots=True)
class AuditPorts:
    """Everything an audit reads, and the one place it writes to.

    Records are judged `window_records` at a time. `live_seconds` says how long a row lives that is
    written without a lifetime of its own; 0: for ever. `history` knows former declarations;
    `ingested` is set where ranges of the log are read by several (`as_ingested`), `declaration`
    where all are read by another one than the settings'.
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
    history: History | None = None
    ingested: Ingested | None = None
    declaration: Declaration | None = None

    @property
    def rules(self) -> ReadingRules:
        """How messages are read of which no other declaration is known."""
        rules = self.settings.reading_rules
        return rules if self.declaration is None else replace(rules, declaration=self.declaration)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Those of a row, in its order."""
        return self.rules.quantities if self.ingested is None else self.ingested.columns

    def read_deletions(self) -> Deletions:
        """What `iot delete` removed."""
        return Deletions(self.deletions.read_deletions())

    def read_mended(self) -> MendedRows:
        """The rows that `iot mend` wrote."""
        return MendedRows(self.mends.read_mended())

    def learn_schemas(self, reader: LogReader, values: Collection[bytes | None]) -> None:
        """Have a reader know the schemas of these messages."""
        for rules in reader.all_rules:
            learn_schemas(rules, self.schemas, values, self.settings.retry_seconds)

    def by_reader(
        self, ranges: Iterable[OffsetRange]
    ) -> Iterator[tuple[LogReader, list[OffsetRange]]]:
        """These ranges, each with what reads it as it was ingested."""
        if self.ingested is None:
            yield LogReader(self.rules), list(ranges)
        else:
            yield from self.ingested.by_reader(self.rules, ranges)

    def stretches(
        self,
        ranges: Iterable[OffsetRange],
        choose: Callable[[RawRecords], RawRecords] = lambda records: records,
    ) -> Iterator[Stretch]:
        """The rows that the topic's records in these ranges make, as they come from Kafka."""
        for reader, mine in self.by_reader(ranges):
            for of_round in in_rounds(mine):
                for records in self.records.read(self.settings.topic, list(of_round.values())):
                    stretch = Stretch(reader)
                    chosen = choose(records)
                    self.learn_schemas(reader, chosen.values)
                    stretch.add(chosen)
                    yield stretch
