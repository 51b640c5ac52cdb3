"""A device is forgotten whole, wherever the command dies; a drain leaves its old records out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from iot_pipeline.core.ledger.chain import sum_counts
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.forgetting import Found, Progress, Receipt, forgotten_rows
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.times import MS_PER_DAY, Window
from iot_pipeline.errors import CassandraUnavailableError
from iot_pipeline.local.device_files import DeviceFiles
from iot_pipeline.local.manifests import read_manifest, write_manifest
from iot_pipeline.stages.checks.machinery.row_counts import DayCount
from iot_pipeline.stages.checks.row_count_matches_ledger import judge
from iot_pipeline.stages.ingest.config import DrainConfig, Ports
from iot_pipeline.stages.ingest.drain import drain
from iot_pipeline.stages.ingest.row_writer import RowWriter
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.forget import ForgetPorts, find, forget, look, unfinished
from iot_pipeline_tests.manifests import device, make_manifest
from iot_pipeline_tests.stages.fake_rollups import FakeRollupStore
from iot_pipeline_tests.stages.fake_rows import FakeDeviceDays, FakeSensorData
from iot_pipeline_tests.stages.fakes import FakeStore, writer_id
from iot_pipeline_tests.stages.outside import FakeDeletions
from iot_pipeline_tests.stages.world import CONFIG, T0, World

ALWAYS = Window(datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
DAY = datetime.fromtimestamp(T0, UTC).date()
DEVICE = "device_0"


class Died(BaseException):
    """The process was killed."""


@dataclass
class Outside:
    """What there is of two devices, in memory; it dies before the call `dies_at`, or right after.

    A `DeviceTables`, a `Receipts` and a `DeviceFiles`.
    """

    store: FakeStore
    dies_at: int = 0
    is_after: bool = False
    calls: int = 0
    rollups: set[str] = field(default_factory=lambda: {DEVICE, "other"})
    states: set[str] = field(default_factory=lambda: {DEVICE, "other"})
    mends: set[str] = field(default_factory=lambda: {DEVICE, "other"})
    manifests: set[str] = field(default_factory=lambda: {DEVICE, "other"})
    receipts: dict[tuple[str, datetime], Receipt] = field(default_factory=dict)

    def do(self, what: Callable[[], None]) -> None:
        self.calls += 1
        if self.calls == self.dies_at and not self.is_after:
            raise Died
        what()
        if self.calls == self.dies_at:
            raise Died

    def count_rollups(self, device_id: str, months: Sequence[date]) -> int:
        return int(device_id in self.rollups)

    def count_states(self, device_id: str) -> int:
        return int(device_id in self.states)

    def count_mends(self, device_id: str) -> int:
        return int(device_id in self.mends)

    def delete_rollups(self, device_id: str, months: Sequence[date]) -> None:
        if DAY.replace(day=1) in months:
            self.do(lambda: self.rollups.discard(device_id))

    def delete_state(self, device_id: str) -> None:
        self.do(lambda: self.states.discard(device_id))

    def delete_mends(self, device_id: str) -> None:
        self.do(lambda: self.mends.discard(device_id))

    def delete_days(self, device_id: str, days: Sequence[date], until_us: int) -> None:
        def delete() -> None:
            for devices in self.store.devices.values():
                if devices.get(device_id, 1 << 62) * 1000 <= until_us:
                    del devices[device_id]

        self.do(delete)

    def read_receipts(self) -> list[Receipt]:
        return list(self.receipts.values())

    def keep_receipt(self, receipt: Receipt) -> None:
        at = receipt.device_id, receipt.forgotten_at
        self.do(lambda: self.receipts.update({at: receipt}))

    def find_manifests(self, device_id: str) -> list[str]:
        return [device_id] if device_id in self.manifests else []

    def strike_out(self, device_id: str) -> None:
        self.do(lambda: self.manifests.discard(device_id))

    def find_others(self, device_id: str) -> list[str]:
        return []


@dataclass
class DyingRows(FakeSensorData):
    outside: Outside | None = None

    def delete_rows(self, deletion: Deletion, day_number: int) -> None:
        assert self.outside is not None
        self.outside.do(lambda: FakeSensorData.delete_rows(self, deletion, day_number))


def _ports(outside: Outside) -> ForgetPorts:
    store = outside.store
    rows = DyingRows(store, outside=outside)
    return ForgetPorts(
        "iot_data",
        rows,
        FakeDeviceDays(store),
        FakeRollupStore(),
        outside,
        outside,
        store,
        outside,
        0.0,
    )


def _world() -> Outside:
    store = FakeStore()
    table = FakeSensorData(store)
    for name in (DEVICE, "other"):
        table.add(name, [round(T0 * 1000) + n * 40_000_000 for n in range(5)])
    return Outside(store)


def _forget(outside: Outside, sleep: Callable[[float], None] = lambda _: None) -> Receipt:
    ports = _ports(outside)
    return forget(
        ports,
        DEVICE,
        ALWAYS,
        find(ports, DEVICE),
        "asked",
        "me",
        wall_clock=lambda: T0 + 10_000_000,
        sleep=sleep,
    )


def test_of_readings_told_in_parts_the_receipt_has_the_cells() -> None:
    outside = _world()
    at = min(key for key in outside.store.cells if key[0] == DEVICE)
    del outside.store.cells[at]["humidity"]
    receipt = _forget(outside)
    assert sum(receipt.rows_by_day.values()) == 5
    assert sum(receipt.cells_by_day.values()) == 9
    _check_forgotten(outside)


def _check_forgotten(outside: Outside) -> None:
    left = {name for name, _, _ in outside.store.cells}
    assert left == outside.rollups == outside.states == outside.mends == {"other"}
    assert outside.manifests == {"other"}
    assert all(DEVICE not in devices for devices in outside.store.devices.values())
    assert len([place for place in outside.store.cells if place[0] == "other"]) == 5
    (receipt,) = outside.receipts.values()
    assert receipt.progress is Progress.DONE
    assert sum(receipt.rows_by_day.values()) == 5
    assert not look(_ports(outside), receipt)


def test_all_that_there_is_goes_and_the_receipt_says_what_it_was() -> None:
    outside = _world()
    receipt = _forget(outside)
    _check_forgotten(outside)
    assert receipt.found["readings"] == 5
    assert receipt.found["rollups"] == receipt.found["kept states"] == 1
    assert receipt.deletion.is_forgotten


def test_killed_anywhere_the_same_command_goes_on() -> None:
    whole = _world()
    _forget(whole)
    for at in range(1, whole.calls + 1):
        for is_after in (False, True):
            outside = _world()
            outside.dies_at, outside.is_after = at, is_after
            with pytest.raises(Died):
                _forget(outside)
            gone = len(outside.store.cells) < 10
            # Nothing goes that no receipt speaks of.
            assert not gone or outside.receipts, f"call {at}"
            outside.dies_at = 0
            begun = unfinished(_ports(outside), DEVICE)
            receipt = _forget(outside)
            if begun is not None:
                assert receipt.forgotten_at == begun.forgotten_at
            elif outside.receipts and is_after and at == whole.calls:
                continue  # It was done; the second time there was nothing left to count.
            _check_forgotten(outside)


def test_what_a_run_writes_while_it_does_not_know_yet_goes_too_and_what_is_new_stays() -> None:
    outside = _world()
    late_ms = round(T0 * 1000) + 7
    later_ms = round(T0 * 1000) + 30 * 86_400_000

    def meanwhile(_: float) -> None:
        # A day of its own, of a record that arrived before the receipt, and a new reading.
        FakeSensorData(outside.store).add(DEVICE, [later_ms])
        new_ms = round((T0 + 10_000_001) * 1000)
        FakeSensorData(outside.store).add(DEVICE, [new_ms])
        # New, and late, for a day that the run has noted long ago.
        late = {late_ms: (new_ms * 1000, 0, 0, 1.0, 2.0)}
        outside.store.send_rows(RowSlice.of({(DEVICE, late_ms // MS_PER_DAY): late}))

    receipt = _forget(outside, meanwhile)
    left = {ms for name, _, ms in outside.store.cells if name == DEVICE}
    assert left == {late_ms, round((T0 + 10_000_001) * 1000)}
    noted = {day for day, devices in outside.store.devices.items() if DEVICE in devices}
    assert noted == {ms // MS_PER_DAY for ms in left}
    assert not look(_ports(outside), receipt)


def test_a_row_that_is_there_again_is_found() -> None:
    outside = _world()
    receipt = _forget(outside)
    FakeSensorData(outside.store).add(DEVICE, [round(T0 * 1000)])
    assert look(_ports(outside), receipt).rows == 1


# What a run does with records of before.


def test_a_run_notes_devices_again_once_it_knows_that_some_were_forgotten() -> None:
    store = FakeStore()
    writer = RowWriter(store, 4, 1.0)
    noted = []
    for ms in range(3):
        if ms == 2:
            writer.note_again()
        writer.write({(DEVICE, 1): {ms: (1_000 + ms, ms, 0, 1.0, 2.0)}})
        noted.append(len(store.sent_devices))
    assert noted == [1, 1, 2]


def _deletion(until_us: int) -> Deletion:
    ms = (0, 1 << 50)
    return Deletion(DEVICE, *ms, until_us, "asked", is_forgotten=True)


def _drain(
    world: World, deletions: FakeDeletions, config: DrainConfig = CONFIG
) -> Mapping[str, int]:
    ports = world.ports()
    with_deletions = Ports(
        ports.log, ports.store, ports.ledger, ports.dead_letters, deletions=deletions
    )
    drain(world.plan(), with_deletions, Run("run", writer_id(1)), config)
    entries = world.ledger.read_entries(world.log.topic, [0])
    return sum_counts(entry.counts for entry in entries).by_fate()


def test_a_drain_leaves_out_what_arrived_before_the_device_was_forgotten() -> None:
    world = World(1)
    for at in range(4):
        world.write(0, DEVICE, T0 + at)
        world.write(0, "other", T0 + at)
    moment_us = world.log.now_ms * 1000 + 999
    world.log.tick()
    world.write(0, DEVICE, T0 + 100)
    fates = _drain(world, FakeDeletions(deletions=[_deletion(moment_us)]))
    assert (fates["stored"], fates["superseded"]) == (5, 4)
    assert {(name, ms) for name, _, ms in world.store.cells if name == DEVICE} == {
        (DEVICE, round((T0 + 100) * 1000))
    }
    assert sum(world.ledger.read_entries("iot_data", [0])[0].counts.stored_by_day.values()) == 5


def test_a_drain_that_cannot_ask_what_was_deleted_writes_nothing() -> None:
    world = World(1)
    world.write(0, DEVICE, T0)

    class Away(FakeDeletions):
        def read_deletions(self) -> list[Deletion]:
            raise CassandraUnavailableError("away")

    with pytest.raises(CassandraUnavailableError):
        _drain(world, Away(), replace(CONFIG, retry_seconds=0.02))
    assert not world.store.cells


# Rows by day.


def _receipt(progress: Progress, rows: int) -> Receipt:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Receipt(_deletion(1), at, progress, {DAY: rows}, {}, {DAY: 2 * rows})


def test_forgotten_rows_are_neither_missing_nor_too_many() -> None:
    rows = forgotten_rows([_receipt(Progress.DONE, 100), _receipt(Progress.BEGUN, 20)])
    assert (rows.gone[DAY], rows.going[DAY]) == (100, 20)
    cells = forgotten_rows(
        [_receipt(Progress.DONE, 100), _receipt(Progress.BEGUN, 20)], of_cells=True
    )
    assert (cells.gone[DAY], cells.going[DAY]) == (200, 40)
    # 300 in the ledger: between 180 and 200 rows are right.
    for count, is_right in ((179, False), (180, True), (200, True), (201, False)):
        day = DayCount(DAY, count, 3, 3, 300, 300, gone=100, going=20)
        assert judge([day]).passed == is_right, count
    said = judge([DayCount(DAY, 200, 3, 3, 300, 300, gone=100)]).sentence
    assert "but for 100 that `iot forget` removed" in said


# Files.


def test_manifests_are_rewritten_and_other_files_are_named(tmp_path: Path) -> None:
    name = 'pump "7" ü'
    manifest = make_manifest([device(name), device("other")])
    path = write_manifest(tmp_path, manifest)
    page = tmp_path / "reports" / "latest.html"
    page.parent.mkdir()
    page.write_text("x" * 1_048_570 + name)
    hidden = tmp_path / "services" / "log"
    hidden.parent.mkdir()
    hidden.write_text(name)
    files = DeviceFiles(tmp_path)
    assert files.find_manifests(name) == [str(path)]
    assert files.find_others(name) == [str(page)]
    files.strike_out(name)
    assert [item.device_id for item in read_manifest(path).devices] == ["other"]
    assert files.find_manifests(name) == []


def test_what_is_found_is_counted_by_kind() -> None:
    found = Found({DAY: 3}, days=1, rollups=4, states=1, mends=2, manifests=5)
    assert list(found.by_kind().values()) == [3, 1, 4, 1, 2, 5]
