"""Rebuilds on fakes: whole, idempotent, streamed, and safe beside whatever else goes on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest

from iot_pipeline.core.ledger.chain import Counts, LedgerEntry, Outcome
from iot_pipeline.core.reading.groups import DeviceGroup
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.retention import Retention
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.rollups.days import DeletedPart
from iot_pipeline.core.rollups.statistics import Rollup, is_same, summarize
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR
from iot_pipeline.errors import CassandraUnavailableError, PermanentError, RollupFrozenError
from iot_pipeline.stages.rollups.comparison import Comparisons, compare_days
from iot_pipeline.stages.rollups.rebuild import (
    RollupPorts,
    RollupProgress,
    read_day_facts,
    rebuild_day,
)
from iot_pipeline_tests.stages.fake_ledger import FakeLedger
from iot_pipeline_tests.stages.fake_rollups import FakeRollupStore
from iot_pipeline_tests.stages.fake_rows import FakeDeviceDays, FakeSensorData
from iot_pipeline_tests.stages.outside import FakeDeletions
from iot_pipeline_tests.stages.rollup_contract import RollupStoreContract

DAY = date(2024, 12, 29)
NUMBER = 20_086
DAY_MS = NUMBER * MS_PER_DAY
NOW = 1_735_600_000.0
TOPIC = "iot_data"


@dataclass
class World:
    store: FakeRollupStore = field(default_factory=FakeRollupStore)
    rows: FakeSensorData = field(default_factory=FakeSensorData)
    ledger: FakeLedger = field(default_factory=FakeLedger)
    deletions: FakeDeletions = field(default_factory=FakeDeletions)
    topic: str = TOPIC
    device: str = "device_1"
    next_offset: int = 0
    now: float = NOW

    @property
    def ports(self) -> RollupPorts:
        days = FakeDeviceDays(self.rows.store)
        return RollupPorts(QUANTITIES, self.store, self.rows, days, self.ledger, self.deletions)

    def put(self, device_id: str, rows: dict[int, tuple[float, float]]) -> None:
        day = next(iter(rows)) // MS_PER_DAY
        store = self.rows.store
        store.send_rows(
            RowSlice.of(
                {(device_id, day): {ms: (ms * 1000, 0, 0, *values) for ms, values in rows.items()}}
            )
        )
        store.send_devices(day, {device_id: 0})

    def ingest(self, device_id: str, rows: dict[int, tuple[float, float]]) -> None:
        """Rows, and the ledger's entry of them."""
        self.put(device_id, rows)
        self.commit(len(rows), next(iter(rows)) // MS_PER_DAY)

    def commit(self, rows: int, day_number: int = NUMBER) -> None:
        day = date(1970, 1, 1) + timedelta(days=day_number)
        start = self.next_offset
        self.next_offset += rows
        self.ledger.entries[TOPIC, 0, 1, start] = LedgerEntry(
            TOPIC,
            0,
            1,
            start,
            self.next_offset,
            Outcome.INGESTED,
            "run",
            uuid4(),
            Counts(stored=rows, stored_by_day={day: rows}, first_record_ms=int(NOW * 1000)),
        )

    def remember_deletion(self, device_id: str, rows_by_day: dict[date, int]) -> None:
        at = datetime.fromtimestamp(self.now, UTC)
        self.deletions.deleted.append(DeletedPart(f"{device_id} {at}", at, rows_by_day))

    def rebuild(self, day: date = DAY, **options: object) -> RollupProgress:
        self.now += 1
        return rebuild_day(
            self.ports,
            TOPIC,
            day,
            "run",
            retry_seconds=5,
            wall_clock=lambda: self.now,
            **options,  # type: ignore[arg-type]
        )

    def compare(self, **options: object) -> Comparisons:
        return compare_days(
            self.ports,
            TOPIC,
            [DAY],
            **{  # type: ignore[arg-type]
                "budget_seconds": 10,
                "retry_seconds": 1,
                "wall_clock": lambda: self.now,
                "sleep": lambda _: None,
                **options,
            },
        )

    def hours(self, device_id: str) -> dict[int, Rollup]:
        return self.store.hours.read(device_id, DAY_MS, DAY_MS + MS_PER_DAY)

    def is_touched(self) -> bool:
        now = datetime.fromtimestamp(self.now, UTC)
        facts = read_day_facts(self.ports, TOPIC, now)
        return facts[DAY].seen != self.store.read_records(TOPIC)[DAY].seen


@pytest.fixture
def world() -> World:
    made = World()
    for number in range(3):
        minutes = range(0, 1440, 7)
        rows = {DAY_MS + m * 60_000: (m / 100 - number, 40.0 + number) for m in minutes}
        made.ingest(f"device_{number}", rows)
    return made


class TestFakeRollupStore(RollupStoreContract):
    @pytest.fixture
    def rollup_world(self) -> World:
        return World()


def test_whoever_watches_a_rebuild_sees_each_device_once_and_whole(world: World) -> None:
    seen: list[int] = []
    world.rebuild(
        page_rows=7, observe=lambda hours: seen.append(sum(r.count for r in hours.values()))
    )
    assert seen == [206] * 3


@pytest.mark.parametrize("page_rows", [1, 7, 206, 5_000])
def test_a_rebuild_writes_every_hour_and_the_day_of_every_device(
    world: World, page_rows: int
) -> None:
    done = world.rebuild(page_rows=page_rows)
    assert (done.devices, done.devices_done, done.readings, done.hours) == (3, 3, 3 * 206, 72)
    for number in range(3):
        rows = [(DAY_MS + m * 60_000, m / 100 - number, 40.0 + number) for m in range(0, 1440, 7)]
        hours = world.hours(f"device_{number}")
        assert len(hours) == 24
        for at, found in hours.items():
            of_hour = [row for row in rows if at <= row[0] < at + MS_PER_HOUR]
            assert is_same(found, summarize(of_hour, QUANTITIES))
        (day,) = world.store.days.read(f"device_{number}", DAY_MS, DAY_MS + 1).values()
        assert is_same(day, summarize(rows, QUANTITIES))
    assert not world.is_touched()


def test_rebuilding_twice_equals_rebuilding_once(world: World) -> None:
    world.rebuild()
    before = {n: world.hours(f"device_{n}") for n in range(3)}
    world.rebuild()
    assert {n: world.hours(f"device_{n}") for n in range(3)} == before


def test_an_hour_whose_readings_were_deleted_has_no_rollup_after_a_rebuild(world: World) -> None:
    world.rebuild()
    for ms in [ms for name, _, ms in world.rows.store.cells if name == "device_1"]:
        if ms < DAY_MS + MS_PER_HOUR:
            del world.rows.store.cells["device_1", NUMBER, ms]
    world.remember_deletion("device_1", {DAY: 9})
    assert world.is_touched()
    world.rebuild()
    assert DAY_MS not in world.hours("device_1")
    assert len(world.hours("device_1")) == 23
    # It was remembered before the rows went: once more when it has surely been carried out.
    assert not world.is_touched()
    world.now += 700
    assert world.is_touched()


def test_a_device_without_readings_left_has_no_rollup_at_all(world: World) -> None:
    world.rebuild()
    world.remember_deletion("device_1", {DAY: 206})
    lose_rows(world, "device_1")
    assert world.rebuild().warning == ""
    assert world.hours("device_1") == {}
    assert world.store.days.read("device_1", DAY_MS, DAY_MS + 1) == {}


def lose_rows(world: World, device_id: str) -> None:
    cells = world.rows.store.cells
    for place in sorted(place for place in cells if place[0] == device_id):
        del cells[place]


def test_rollups_whose_rows_are_gone_stay_as_they_were_and_that_is_said(world: World) -> None:
    world.rebuild()
    hours, day = world.hours("device_1"), world.store.days.read("device_1", DAY_MS, DAY_MS + 1)
    lose_rows(world, "device_1")
    world.ingest("device_0", {DAY_MS + 1: (1.0, 2.0)})
    progress = world.rebuild()
    assert (progress.kept, progress.devices_done) == (1, 3)
    assert world.hours("device_1") == hours
    assert world.store.days.read("device_1", DAY_MS, DAY_MS + 1) == day
    assert world.hours("device_0")[DAY_MS].count == 10, "the others are rebuilt"
    assert f"rows of {DAY} are gone: the rollups of 1 of 3 devices stay as" in progress.warning
    assert not world.is_touched(), "it is not tried again every minute"


def test_a_day_whose_rows_were_gone_before_its_first_rebuild_says_so(world: World) -> None:
    world.rows.store.cells.clear()
    assert f"rows of {DAY} are gone: the ledger stored 618, and none" in world.rebuild().warning


def test_what_is_committed_while_a_rebuild_reads_leaves_the_day_touched(world: World) -> None:
    pages: list[str] = []

    def arrive(device_id: str) -> None:
        if not pages:
            world.commit(1)
        pages.append(device_id)

    world.rows.on_page = arrive
    world.rebuild()
    assert world.is_touched()


def test_a_rebuild_that_dies_leaves_no_record_and_the_next_one_wins(world: World) -> None:
    world.rebuild()
    world.ingest("device_2", {DAY_MS + 1: (99.0, 1.0)})
    world.rows.on_page = _die_at("device_1")
    with pytest.raises(KeyboardInterrupt):
        world.rebuild(page_rows=10)
    assert world.is_touched()
    world.rows.on_page = lambda _: None
    world.rebuild()
    assert not world.is_touched()
    assert world.hours("device_2")[DAY_MS].count == 10


def _die_at(victim: str) -> Callable[[str], None]:
    def die(device_id: str) -> None:
        if device_id == victim:
            raise KeyboardInterrupt

    return die


@pytest.mark.parametrize("who_started_first", ["older", "newer"])
def test_two_rebuilds_at_once_leave_the_rows_and_the_record_of_one(
    world: World, who_started_first: str
) -> None:
    """The second runs from start to end in the middle of the first, and a reading arrives."""
    began: list[str] = []

    def overtake(device_id: str) -> None:
        if began or device_id != "device_1":
            return
        began.append(device_id)
        world.ingest("device_0", {DAY_MS + 1: (99.0, 1.0)})
        if who_started_first == "newer":
            # A machine whose clock is behind: its rebuild is later, its time is not.
            world.now -= 100
        world.rebuild()

    world.rows.on_page = overtake
    world.rebuild()
    written = {time for time, _ in world.store.hours.rows.values()}
    assert len(written) == 1
    record = world.store.read_records(TOPIC)[DAY]
    assert written == {record.write_time_us}
    # Whoever won, its record tells whether the reading is in.
    count = world.hours("device_0")[DAY_MS].count
    assert count == (9 if world.is_touched() else 10)


def test_a_clock_that_steps_back_does_not_keep_an_old_rollup(world: World) -> None:
    world.rebuild()
    world.ingest("device_0", {DAY_MS + 1: (99.0, 1.0)})
    world.now -= 3600
    world.rebuild()
    assert world.hours("device_0")[DAY_MS].count == 10
    assert not world.is_touched()


def test_an_error_that_passes_is_asked_again_and_one_that_stays_is_raised(world: World) -> None:
    world.store.failures = [CassandraUnavailableError("away") for _ in range(5)]
    world.rows.failures = [CassandraUnavailableError("away") for _ in range(5)]
    assert world.rebuild().readings == 3 * 206
    assert world.compare().hourly[0].wrong == []
    world.store.failures = [PermanentError("refused")]
    with pytest.raises(PermanentError, match="refused"):
        world.rebuild()


def test_a_day_whose_rows_age_out_is_refused_and_keeps_its_rollups(world: World) -> None:
    world.rebuild()
    before = world.hours("device_0")
    world.now += 2 * 86_400
    with pytest.raises(
        RollupFrozenError, match=r"2024-12-29.*age out from.*2 days after they arrived"
    ):
        world.rebuild(retention=Retention(2))
    assert world.hours("device_0") == before
    assert world.rebuild(retention=Retention(3)).readings == 3 * 206
    assert world.compare(retention=Retention(2)).hourly == []


def test_of_a_day_only_the_devices_whose_rows_age_out_keep_their_rollups(world: World) -> None:
    world.rebuild()
    before, of_other = world.hours("device_0"), world.hours("device_1")[DAY_MS].count
    world.now += 2 * 86_400
    short = DeviceGroup("short", ("device_0",), retention_days=2)
    retention = Retention.of(0, [short])
    # What a TTL does; a reading of another device comes late.
    for place in [place for place in world.rows.store.cells if place[0] == "device_0"]:
        del world.rows.store.cells[place]
    world.ingest("device_1", {DAY_MS + 1: (99.0, 1.0)})
    progress = world.rebuild(retention=retention)
    assert (progress.devices, progress.frozen, progress.readings) == (2, 1, 2 * 206 + 1)
    assert (progress.kept, progress.warning) == (0, "")
    assert progress.note.startswith("2024-12-29: the rollups of 1 device stay as they were")
    assert world.hours("device_0") == before
    assert world.hours("device_1")[DAY_MS].count == of_other + 1
    (compared,) = world.compare(retention=retention).hourly
    assert (compared.devices, compared.compared, compared.wrong) == (2, 2, [])
    # Without the group's retention its rollups have no rows.
    assert world.compare().hourly[0].wrong == ["device_0"]


def test_where_rows_have_aged_out_no_row_is_missed(world: World) -> None:
    world.rebuild()
    world.now += 3 * 86_400
    # What TTLs do, to rows and to the notes of devices; other devices might live for ever.
    world.rows.store.cells.clear()
    world.rows.store.devices.clear()
    everyone = DeviceGroup("short", ("device_*",), retention_days=2)
    progress = world.rebuild(retention=Retention.of(0, [everyone]))
    assert (progress.readings, progress.note, progress.warning) == (0, "", "")
    assert "rows of 2024-12-29 are gone" in world.rebuild().warning


def test_memory_is_that_of_the_devices_in_flight_not_of_all(world: World) -> None:
    world.store.looks = world.rows.looks_until_answered = 3
    for number in range(3, 200):
        world.put(f"device_{number}", {DAY_MS + number: (1.0, 1.0)})
    open_pages: list[int] = []
    progress = world.rebuild(
        on_progress=lambda p: open_pages.append(world.rows.asked["page"] - p.devices_done)
    )
    assert progress.devices_done == 200
    assert max(open_pages) <= 32 + 96


def test_the_comparison_of_a_fresh_rebuild_finds_nothing(world: World) -> None:
    world.rebuild()
    for comparison in (*world.compare().hourly, *world.compare().daily):
        assert (comparison.devices, comparison.compared) == (3, 3)
        assert comparison.rows == comparison.counted == 3 * 206
        assert not comparison.is_off
        assert not comparison.is_stale


def test_a_row_behind_the_ledgers_back_is_found_and_named(world: World) -> None:
    world.rebuild()
    world.put("device_1", {DAY_MS + 1: (99.0, 1.0)})
    for (comparison,) in (world.compare().hourly, world.compare().daily):
        assert comparison.is_off
        assert comparison.is_stale
        assert comparison.wrong == ["device_1"]
    # A micro-batch that commits a moment later explains it.
    (found,) = world.compare(patience_seconds=60, sleep=lambda _: world.commit(1)).hourly
    assert found.is_touched
    assert not found.is_off


def test_a_changed_rollup_is_found_though_its_count_is_right(world: World) -> None:
    world.rebuild()
    for table in (world.store.hours, world.store.days):
        place, (written, _) = next(iter(table.rows.items()))
        count = table.rows[place][1].count
        table.rows[place] = (
            written,
            summarize([(place[1] + n, 1.0, 1.0) for n in range(count)], QUANTITIES),
        )
    for (comparison,) in (world.compare().hourly, world.compare().daily):
        assert not comparison.is_off
        assert comparison.is_stale


def test_a_comparison_without_time_says_how_many_devices_it_saw(world: World) -> None:
    world.rebuild()
    (comparison,) = world.compare(budget_seconds=-1).hourly
    assert (comparison.compared, comparison.devices) == (1, 3)
    assert not comparison.is_off
