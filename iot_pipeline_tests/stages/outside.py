"""Kafka and Cassandra as audits and deletions meet them, over a `World`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from iot_pipeline.core.proof.audit import RawRecords
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.read_back import Place
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.errors import CassandraUnavailableError
from iot_pipeline_tests.stages.fakes import Faults, Kind
from iot_pipeline_tests.stages.world import World

DLQ = "iot_data.dlq"


@dataclass
class Outside:
    """Kafka and Cassandra as an audit reads them, over a `World`."""

    world: World
    audits: list[tuple[object, ...]] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)
    readings: int = 0  # of the log: each is a consumer

    def read(self, topic: str, ranges: Sequence[OffsetRange]) -> Iterator[RawRecords]:
        self.readings += 1
        for item in ranges:
            for at in range(item.start, item.end):
                kind, record = self.world.log.at(item.partition, at)
                if kind is Kind.RECORD and at >= self.world.log.low[item.partition]:
                    yield RawRecords([item.partition], [at], [record.produced_ms], [record.value])

    def letter_places(self, dlq, ranges, topic, topic_id):
        return iter(self.world.letters.by_place())

    def watermarks(self, topic: str):
        return [] if topic == DLQ else self.world.log.watermarks(topic)

    def __getattr__(self, name: str):
        return getattr(self.world.log, name)

    def devices_of(self, day_number: int) -> list[str]:
        return sorted(self.world.store.devices[day_number])

    def all_places(self) -> Iterator[Place]:
        yield from sorted({(device, day) for device, day, _ in self.world.store.cells})

    def read_deletions(self) -> list[Deletion]:
        return self.deletions

    def record_audit(self, *kept: object) -> None:
        self.audits.append(kept)


@dataclass
class FakeDeletions:
    """Remembers deletions and carries them out on the fake store; `faults` spoil a call."""

    outside: Outside
    faults: Faults = field(default_factory=Faults)

    def days_of(self, device_id: str) -> list[int]:
        devices = self.outside.world.store.devices
        return self._call(
            "days_of", lambda: [d for d, names in devices.items() if device_id in names]
        )

    def record_deletion(
        self, deletion: Deletion, deleted_at: datetime, rows_by_day: dict[date, int]
    ) -> None:
        self._call("record_deletion", lambda: self.outside.deletions.append(deletion))

    def delete_rows(self, deletion: Deletion, day_number: int) -> None:
        def delete() -> None:
            cells = self.outside.world.store.cells
            for place in [*cells]:
                device_id, day, ms = place
                if (device_id, day) == (deletion.device_id, day_number) and (
                    deletion.since_ms <= ms < deletion.until_ms
                ):
                    del cells[place]

        self._call("delete_rows", delete)

    def _call(self, name, action):
        return self.faults.call(f"deletions.{name}", action, CassandraUnavailableError)
