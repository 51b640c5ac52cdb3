"""What a run would drain and what its first records would become; nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from iot_pipeline.core.proof.dead_letters import preview as text_of
from iot_pipeline.core.reading.messages import ReadingRules, Record
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.preview import IGNORED, READINGS, Preview, preview
from iot_pipeline.core.reading.unknown_fields import UnknownFields
from iot_pipeline.core.words import counted
from iot_pipeline.stages.ingest.planning import Plan
from iot_pipeline.stages.ports.log import RecordLogReader, SchemaSource
from iot_pipeline.stages.reading.log import read_ranges
from iot_pipeline.stages.reading.schemas import learn_schemas

# Of each Kafka partition.
FIRST_RECORDS = 1_000
_EXAMPLE_CHARACTERS = 200


@dataclass(slots=True)
class PartitionAhead:
    """One Kafka partition: its range, and what the records at its beginning would become.

    `unreadable` are offsets there that Kafka cannot give out.
    """

    range: OffsetRange
    found: Preview
    unreadable: list[OffsetRange] = field(default_factory=list)


@dataclass(slots=True)
class Ahead:
    """What was found; `fields` are those of all partitions together that are not declared."""

    partitions: list[PartitionAhead]
    fields: UnknownFields

    @property
    def records(self) -> int:
        return sum(item.found.records for item in self.partitions)

    @property
    def rejected(self) -> int:
        return sum(item.found.rejected for item in self.partitions)

    def sentences(self) -> list[str]:
        """What would become of records that are no readings, with examples; unknown fields."""
        said = []
        for item in self.partitions:
            for name, fate in sorted(item.found.fates.items()):
                if name == READINGS:
                    continue
                at = f"{fate.example.partition}:{fate.example.offset}"
                share = f"{counted(fate.records, 'record')} of partition {item.range.partition}"
                said.append(f"{name}: {share}, such as {at}: {fate.said}")
                if name != IGNORED:
                    said.append(f"  {text_of(fate.example.value, _EXAMPLE_CHARACTERS)}")
            said += [f"unreadable: {offsets}" for offsets in item.unreadable]
        for name, seen in sorted(self.fields.seen.items()):
            said.append(
                f"not declared: the field {name}, in {counted(seen.records, 'record')}, first at "
                f"{seen.partition}:{seen.offset}"
            )
        if self.fields.unnamed:
            said.append(f"and {self.fields.unnamed:,} fields of other names")
        return said


def look_ahead(
    plan: Plan,
    log: RecordLogReader,
    schemas: SchemaSource,
    rules: ReadingRules,
    retry_seconds: float,
    first_records: int = FIRST_RECORDS,
) -> Ahead:
    """Read the first offsets of each range that the plan would drain.

    Raises:
        KafkaUnavailableError: nothing came for `retry_seconds`.
        TransientError: the registry stayed away for as long.
        OffsetsExpiredError: Kafka deleted some of them meanwhile.
    """
    ahead = Ahead([], UnknownFields(rules.declaration, rules.schemas))
    for item in plan.ingest:
        first = OffsetRange(item.partition, item.start, min(item.end, item.start + first_records))
        unreadable: list[OffsetRange] = []
        records = _read(log, plan.topic.name, first, retry_seconds, unreadable)
        learn_schemas(rules, schemas, [record.value for record in records], retry_seconds)
        for record in records:
            ahead.fields.add(record)
        ahead.partitions.append(PartitionAhead(item, preview(records, rules), unreadable))
    return ahead


def _read(
    log: RecordLogReader,
    topic: str,
    item: OffsetRange,
    retry_seconds: float,
    unreadable: list[OffsetRange],
) -> Sequence[Record]:
    found: list[Record] = []
    for records in read_ranges(log, topic, [item], retry_seconds, unreadable.append):
        found += records
    return found
