"""A topic, a store, a ledger and a dead-letter topic in memory, and the one oracle over them."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.ingest.stopped import Stop
from iot_pipeline.core.ledger.chain import find_flaws, sum_counts
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import Reading, ReadingRules, Record
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.write_times import write_time_us
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.stages.fleet.rows import FleetPorts
from iot_pipeline.stages.ingest.config import DrainConfig, Ports
from iot_pipeline.stages.ingest.drain import drain
from iot_pipeline.stages.ingest.planning import Plan, make_plan
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.ports.readings import SensorData
from iot_pipeline.stages.proof.ports import AuditPorts
from iot_pipeline.stages.run_ingest import IngestOutcome, IngestRequest, Watcher, run_ingest
from iot_pipeline_tests.core.reading.encoded import encode_reading
from iot_pipeline_tests.stages.fake_ledger import FakeLedger
from iot_pipeline_tests.stages.fakes import (
    FakeDeadLetters,
    FakeDeclarations,
    FakeLog,
    FakeStore,
    Kind,
    writer_id,
)
from iot_pipeline_tests.stages.fakes_fleet import FakeDeviceStates
from iot_pipeline_tests.stages.fakes_quality import TimeLapse
from iot_pipeline_tests.stages.faults import (
    FailingDeadLetters,
    FailingDeclarations,
    FailingLedger,
    FailingLog,
    FailingStore,
    Faults,
)

T0 = 1_735_444_918.0  # 2024-12-29
# Two requests at once, so that of a few rows some are merged and some are not. There is a
# minute for a second attempt: a machine that has much else to do takes 0.2 s for the first one.
CONFIG = DrainConfig(
    micro_batch_records=4, micro_batch_seconds=60.0, requests_in_flight=2, retry_seconds=60.0
)
LARGE = replace(CONFIG, micro_batch_records=10_000)


@dataclass(frozen=True, slots=True)
class WorldPorts:
    """What a whole run touches, in memory."""

    world: "World"
    ports: Ports

    @property
    def audit_ports(self) -> AuditPorts:
        return self.world.proof()

    @property
    def fleet_ports(self) -> FleetPorts:
        table = TimeLapse([])
        return FleetPorts(self.world.states, table, table, table)

    @property
    def quality_limits(self) -> QualityLimits:
        return QualityLimits(QUANTITIES)

    @property
    def stops(self) -> "FakeStops":
        return self.world.stops

    def live_seconds(self) -> int:
        return self.world.live_seconds


@dataclass
class FakeStops:
    """A `Stops`."""

    kept: dict[int, Stop] = field(default_factory=dict)

    def read_stops(self, topic: str) -> list[Stop]:
        return [self.kept[partition] for partition in sorted(self.kept)]

    def keep_stop(self, topic: str, stop: Stop) -> None:
        self.kept[stop.partition] = stop


@dataclass(slots=True)
class World:
    """What is outside of a drain. `write` fills the topic, `drain` empties it, `check` judges."""

    partitions: int = 1
    log: FakeLog = field(default_factory=FakeLog)
    store: FakeStore = field(default_factory=FakeStore)
    ledger: FakeLedger = field(default_factory=FakeLedger)
    letters: FakeDeadLetters = field(default_factory=FakeDeadLetters)
    states: FakeDeviceStates = field(default_factory=FakeDeviceStates)
    stops: FakeStops = field(default_factory=FakeStops)
    declarations: FakeDeclarations = field(default_factory=FakeDeclarations)
    live_seconds: int = 0
    runs: int = 0

    def __post_init__(self) -> None:
        self.log.partitions = self.partitions
        # One order of events over all of them.
        self.ledger.journal = self.letters.journal = self.store.journal

    @property
    def journal(self) -> list[tuple[str, Any]]:
        return self.store.journal

    def write(
        self,
        partition: int = 0,
        device: str | None = None,
        at: float = T0,
        temperature: float | None = 20.0,
        humidity: float | None = 50.0,
    ) -> Record:
        device = device or f"device_{partition}"
        value = encode_reading(Reading(device, at, temperature, humidity))
        return self.log.append(partition, value, device.encode())

    def write_bad(self, partition: int = 0) -> Record:
        return self.log.append(partition, b"not json")

    def plan(self, **options: Any) -> Plan:
        return make_plan(self.log, self.ledger, self.log.topic, **options)

    def ports(self, faults: Faults | None = None) -> Ports:
        if faults is None:
            return Ports(
                self.log, self.store, self.ledger, self.letters, declarations=self.declarations
            )
        return Ports(
            FailingLog(self.log, faults),
            FailingStore(self.store, faults),
            FailingLedger(self.ledger, faults),
            FailingDeadLetters(self.letters, faults),
            declarations=FailingDeclarations(self.declarations, faults),
        )

    def proof(
        self, rows: SensorData | None = None, deletions: Iterable[Deletion] = ()
    ) -> AuditPorts:
        """What a replay looks into."""
        from iot_pipeline_tests.stages.outside import Outside

        outside = Outside(self)
        outside.deletions.deletions += deletions
        return outside.ports_with(rows)

    def drain(
        self,
        plan: Plan | None = None,
        faults: Faults | None = None,
        config: DrainConfig = CONFIG,
        progress: DrainProgress | None = None,
        **options: Any,
    ) -> DrainProgress:
        self.runs += 1
        run = Run(f"run-{self.runs}", writer_id(self.runs))
        plan = plan or self.plan()
        return drain(plan, self.ports(faults), run, config, progress=progress, **options)

    def ingest(
        self,
        faults: Faults | None = None,
        run: Run | None = None,
        outcome: IngestOutcome | None = None,
        watcher: Watcher | None = None,
        **request: Any,
    ) -> IngestOutcome:
        """A whole run; `faults` meet its drain and its plan alike."""
        self.runs += 1
        run = run or Run(f"run-{self.runs}", writer_id(self.runs))
        return run_ingest(
            IngestRequest("iot_data", run, CONFIG, **request),
            WorldPorts(self, self.ports(faults)),
            outcome=outcome,
            watcher=watcher,
        )

    # The oracle.

    def check_nothing_is_lost(self) -> None:
        """Below the checkpoint every record is a row, superseded by a row, or a dead letter.

        And nothing else is there: each row is whole and is that of a record.
        """
        letters = self.letters.by_place()
        rows, write_times = self.store.rows(), self.store.write_times()
        rivals = defaultdict(list)
        checkpoints = {p: c.next_offset for (_, p), c in self.ledger.checkpoints.items()}
        for record in self.log.records():
            reading = ReadingDecoder(ReadingRules()).decode(record.value)
            below = record.offset < checkpoints.get(record.partition, 0)
            place = (record.partition, record.offset)
            if not isinstance(reading, Reading):
                assert not below or place in letters, f"{place} has no dead letter"
                continue
            if place in letters:  # refused by the store
                continue
            written = write_time_us(record.produced_ms, record.offset, record.partition)
            key = (reading.device_id, timestamp_ms(reading.timestamp))
            rivals[key].append((written, *place, reading, below))
            assert not below or key in rows, f"{place} has no row"
        for key, row in rows.items():
            (written,) = write_times[key]  # one for both cells: the row is whole
            candidates = {(r[0], r[3].temperature, r[3].humidity) for r in rivals[key]}
            assert (written, *row) in candidates, f"{key} is a row that nobody sent"
            ingested = [rival for rival in rivals[key] if rival[4]]
            if ingested:
                assert written >= max(ingested)[0], f"{key} is older than what was ingested"
            day = key[1] // MS_PER_DAY
            if ingested:
                assert key[0] in self.store.devices[day], f"{key} is in no day's devices"
        for place, letter in letters.items():
            kind, record = self.log.at(*place)
            assert kind is Kind.RECORD
            assert letter.record == record, "a dead letter is the record, unchanged"

    def check_the_ledger_adds_up(self) -> None:
        partitions = range(self.partitions)
        entries = self.ledger.read_entries(self.log.topic, partitions)
        checkpoints = self.ledger.read_checkpoints(self.log.topic, partitions)
        assert find_flaws(entries, checkpoints.values()) == []
        for p, checkpoint in checkpoints.items():
            own = [entry for entry in entries if entry.partition == p]
            assert sum(entry.span for entry in own) == checkpoint.next_offset
            present = [
                r
                for r in self.log.records()
                if r.partition == p and r.offset < checkpoint.next_offset
            ]
            total = sum_counts(entry.counts for entry in own)
            assert total.holes == checkpoint.next_offset - len(present)
            letters = {place for place in self.letters.by_place() if place[0] == p}
            below = {place for place in letters if place[1] < checkpoint.next_offset}
            assert total.rejected == len(below)
            assert total.stored == sum(total.stored_by_day.values())

    def check(self) -> None:
        self.check_nothing_is_lost()
        self.check_the_ledger_adds_up()

    def check_all_is_drained(self) -> None:
        self.check()
        ends = {p: self.log.end(p) for p in range(self.partitions)}
        checkpoints = self.ledger.read_checkpoints(self.log.topic, range(self.partitions))
        assert {p: c.next_offset for p, c in checkpoints.items()} == ends
        assert self.log.open_sources == 0


def a_busy_world(looks_until_answered: int = 0) -> World:
    """Two partitions with everything in them that a micro-batch can meet."""
    world = World(partitions=2)
    world.store.looks_until_answered = looks_until_answered
    world.ledger.looks_until_answered = looks_until_answered
    for step in range(3):
        world.write(0, at=T0 + step)
        world.write(0, at=T0 + step, temperature=float(-step), humidity=60.0)  # a conflict
        world.write(1, at=T0 + 86_400 * step)
        world.log.tick()
        world.write(0, at=T0, temperature=30.0 + step)  # again, in a later millisecond
        world.write_bad(step % 2)
        world.log.append_hole(1)
        world.log.append_aborted(0, b"aborted")
        world.write(1, device="device_1b", at=T0 + step, temperature=0.0, humidity=0.0)
        world.log.tick(3)
    return world
