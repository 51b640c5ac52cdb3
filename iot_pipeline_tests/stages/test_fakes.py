"""The fakes keep the contracts that the real clients keep: a fake nobody verifies is a rumour."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date

import pytest

from iot_pipeline.core.reading.messages import DeadLetter, Record
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.times import MS_PER_DAY, day_number
from iot_pipeline_tests.stages.contracts import (
    DeadLetterSinkContract,
    ReadingStoreContract,
    RecordLogContract,
)
from iot_pipeline_tests.stages.contracts_fleet import DeviceStateStoreContract
from iot_pipeline_tests.stages.contracts_ledger import (
    LedgerStoreContract,
    LedgerSumsContract,
    RunCostsContract,
)
from iot_pipeline_tests.stages.contracts_proof import (
    AcknowledgementsContract,
    AuditsContract,
    DeclarationsContract,
    DeletionLogContract,
    MendLogContract,
)
from iot_pipeline_tests.stages.contracts_readings import (
    ARRIVED_MS,
    DeviceDaysContract,
    SensorDataContract,
)
from iot_pipeline_tests.stages.fake_ledger import FakeLedger, FakeLedgerSums, FakeRunCosts
from iot_pipeline_tests.stages.fake_rows import FakeDeviceDays, FakeSensorData
from iot_pipeline_tests.stages.fakes import (
    NOW_MS,
    FakeDeadLetters,
    FakeDeclarations,
    FakeLog,
    FakeStore,
)
from iot_pipeline_tests.stages.fakes_fleet import FakeDeviceStates
from iot_pipeline_tests.stages.fakes_quality import Sent, TimeLapse
from iot_pipeline_tests.stages.outside import (
    FakeAcknowledgements,
    FakeAudits,
    FakeDeletions,
    FakeMends,
)


@dataclass
class FakeLogWorld:
    log: FakeLog = field(default_factory=lambda: FakeLog(partitions=2))
    topic: str = "iot_data"

    def append(self, partition, value, message_key=None, headers=None) -> int:
        return self.log.append(partition, value, message_key, headers=headers).offset

    def append_aborted(self, partition: int, value: bytes) -> None:
        self.log.append_aborted(partition, value)

    def delete_before(self, partition: int, offset: int) -> None:
        self.log.delete_before(partition, offset)

    def recreate(self) -> None:
        self.log.recreate()


@dataclass
class FakeStoreWorld:
    store: FakeStore = field(default_factory=FakeStore)

    def read_rows(self, device_id: str, day_number: int) -> dict[int, tuple[float, float]]:
        return {
            ms: (row["temperature"][1], row["humidity"][1])
            for (device, day, ms), row in self.store.cells.items()
            if (device, day) == (device_id, day_number)
        }

    def read_write_times(self, device_id: str, day_number: int) -> dict[int, set[int]]:
        return {
            ms: {written for written, _ in row.values()}
            for (device, day, ms), row in self.store.cells.items()
            if (device, day) == (device_id, day_number)
        }

    def read_devices(self, day_number: int) -> set[str]:
        return set(self.store.devices[day_number])


@dataclass
class FakeLedgerWorld:
    ledger: FakeLedger = field(default_factory=FakeLedger)
    topic: str = "iot_data"


@dataclass
class FakeLettersWorld:
    sink: FakeDeadLetters = field(default_factory=FakeDeadLetters)
    topic: str = "iot_data"

    def read(self) -> list[DeadLetter]:
        return [letter for _, _, letter in self.sink.delivered]


class TestFakeLog(RecordLogContract):
    @pytest.fixture
    def log_world(self):
        return FakeLogWorld()

    def check_broker_time(self, record: Record, before_ms: float) -> None:
        assert record.produced_ms == NOW_MS


class TestFakeStore(ReadingStoreContract):
    @pytest.fixture(params=[0, 3])
    def store_world(self, request):
        return FakeStoreWorld(FakeStore(looks_until_answered=request.param))


class TestFakeLedger(LedgerStoreContract):
    @pytest.fixture(params=[0, 3])
    def ledger_world(self, request):
        return FakeLedgerWorld(FakeLedger(looks_until_answered=request.param))


class TestFakeDeadLetters(DeadLetterSinkContract):
    @pytest.fixture
    def letters_world(self):
        return FakeLettersWorld()


class TestFakeLedgerSums(LedgerSumsContract):
    @pytest.fixture
    def sums_world(self):
        return FakeLedgerSums(), "iot_data"


@dataclass
class FakeRowsWorld:
    store: FakeStore = field(default_factory=FakeStore)
    looks: int = 0
    device_id: str = "d"

    @property
    def rows(self) -> FakeSensorData:
        return FakeSensorData(self.store, looks_until_answered=self.looks)

    @property
    def days(self) -> FakeDeviceDays:
        return FakeDeviceDays(self.store)

    def write(self, temperatures: Mapping[int, float], arrived_ms: int = ARRIVED_MS) -> None:
        for ms, temperature in temperatures.items():
            row = (arrived_ms * 1000, 0, 0, temperature, 40.0)
            self.store.send_rows(RowSlice.of({(self.device_id, ms // MS_PER_DAY): {ms: row}}))
            self.store.send_devices(ms // MS_PER_DAY, {self.device_id: arrived_ms})

    def note(self, names: Collection[str], day: date) -> None:
        self.store.send_devices(day_number(day), dict.fromkeys(names, ARRIVED_MS))


class TestFakeSensorData(SensorDataContract):
    @pytest.fixture(params=[0, 3])
    def rows_world(self, request):
        return FakeRowsWorld(looks=request.param)


class TestFakeDeviceDays(DeviceDaysContract):
    @pytest.fixture
    def rows_world(self):
        return FakeRowsWorld()


@dataclass
class TimeLapseWorld:
    rows: TimeLapse = field(default_factory=lambda: TimeLapse([]))
    device_id: str = "d"
    sent: list[Sent] = field(default_factory=list)

    @property
    def days(self) -> TimeLapse:
        return self.rows

    def write(self, temperatures: Mapping[int, float], arrived_ms: int = ARRIVED_MS) -> None:
        self.sent += [(self.device_id, ms, arrived_ms, t, 40.0) for ms, t in temperatures.items()]
        self.rows = TimeLapse(self.sent)

    def note(self, names: Collection[str], day: date) -> None:
        at = day_number(day) * MS_PER_DAY
        self.sent += [(name, at, ARRIVED_MS, 20.0, 40.0) for name in names]
        self.rows = TimeLapse(self.sent)


class TestTimeLapse(SensorDataContract, DeviceDaysContract):
    @pytest.fixture
    def rows_world(self):
        return TimeLapseWorld()


class TestFakeDeletions(DeletionLogContract):
    @pytest.fixture
    def deletions(self):
        return FakeDeletions()


class TestFakeMends(MendLogContract):
    @pytest.fixture
    def mends(self):
        return FakeMends()


class TestFakeAudits(AuditsContract):
    @pytest.fixture
    def audits_world(self):
        return FakeAudits(), "iot_data"


class TestFakeAcknowledgements(AcknowledgementsContract):
    @pytest.fixture
    def acknowledgements_world(self):
        return FakeAcknowledgements(), "iot_data"


class TestFakeDeclarations(DeclarationsContract):
    @pytest.fixture
    def declarations(self):
        return FakeDeclarations()


class TestFakeDeviceStates(DeviceStateStoreContract):
    @pytest.fixture
    def states(self) -> FakeDeviceStates:
        return FakeDeviceStates()


class TestFakeRunCosts(RunCostsContract):
    @pytest.fixture
    def costs_world(self):
        return FakeRunCosts(), "iot_data"
