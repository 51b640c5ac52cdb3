"""A torn row is written again whole: only a torn one, remembered first, and known to all proofs."""

import copy
from dataclasses import replace

import pytest

from iot_pipeline.core.proof.audit_result import Fate
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.mended import MendedRow, MendedRows
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.write_times import mended_us, write_time_us
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.errors import CassandraUnavailableError, PermanentError
from iot_pipeline.settings_reading import shipped_folder
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.audit import audit
from iot_pipeline.stages.proof.choosing import choose_ranges
from iot_pipeline.stages.proof.mend import Mend, mend
from iot_pipeline.stages.proof.replay import plan_replay, replay
from iot_pipeline.stages.proof.trace import trace
from iot_pipeline_tests.stages.fake_rows import FakeSensorData
from iot_pipeline_tests.stages.fakes import NOW_MS, writer_id
from iot_pipeline_tests.stages.faults import Crash, Faults, How
from iot_pipeline_tests.stages.outside import Outside
from iot_pipeline_tests.stages.world import CONFIG, T0, World

T0_MS = int(T0 * 1000)
KEY = ("d", T0_MS // MS_PER_DAY, T0_MS)
RUN = Run("mend-1", writer_id(7))


def mend_it(outside: Outside, days: float = 0, at: int = T0_MS, now: float = 0) -> Mend:
    store, clock = outside.world.store, now or NOW_MS / 1000
    ports = outside.ports_with(retention_days=days)
    return mend(ports, store, RUN, "d", at, "me", lambda: clock)


def audit_it(outside: Outside) -> dict[Fate, int]:
    ranges = choose_ranges(outside.ports)
    found = audit(ranges, outside.ports, "a", every_place=True)
    return {fate: count for fate, count in found.fates.items() if count}


def torn() -> Outside:
    """Two readings of one key on partitions 0 and 16, with one write time: a row of both."""
    world = World(partitions=17)
    world.write(0, "d", T0, 90.0, 1.0)
    world.write(16, "d", T0, 1.0, 90.0)
    world.write(1, "other", T0, 5.0, 5.0)
    for partition in (0, 16, 1):
        world.drain(world.plan(partitions=[partition]))
    assert world.store.rows()["d", T0_MS] == (90.0, 90.0)
    return Outside(world)


def test_a_torn_row_becomes_the_record_that_wins_and_its_audit_names_the_command():
    outside = torn()
    ranges = choose_ranges(outside.ports)
    result = audit(ranges, outside.ports, "a")
    assert result.fates[Fate.TORN] == 2
    assert {finding.repair for finding in result.findings} == {f"iot mend d {T0:.3f}"}
    done = mend_it(outside)
    assert done.is_mended
    assert done.winner == (mended_us(NOW_MS), 0, 0, 90.0, 1.0)
    assert outside.world.store.rows()["d", T0_MS] == (90.0, 1.0)
    assert outside.world.store.write_times()["d", T0_MS] == {NOW_MS * 1000 + 992}
    assert audit_it(outside) == {Fate.STORED: 2, Fate.SUPERSEDED: 1}


def test_what_was_mended_is_known_to_traces_and_replays_and_is_whole():
    outside = torn()
    mend_it(outside)
    world = outside.world
    found = trace(outside.ports, "d", T0_MS)
    assert found.made_by == (mended_us(NOW_MS), 0, 0, 90.0, 1.0)
    whole = copy.deepcopy(world.store.cells)
    again = mend_it(outside)
    assert not again.is_mended
    assert len(outside.mends.mended) == 1
    for lost in (False, True):
        if lost:
            del world.store.cells[KEY]
        every = [OffsetRange(0, 0, 1), OffsetRange(16, 0, 1)]
        chosen = plan_replay(world.log, world.ledger, "iot_data", every)
        replay(chosen.plan, world.ports(), outside.ports, RUN, CONFIG)
        assert world.store.cells == whole


def test_a_mended_row_is_not_stray_when_another_row_of_its_device_is():
    outside = torn()
    mend_it(outside)
    device, day, ms = KEY
    strange_us = NOW_MS * 1000 + 993
    outside.world.store.cells[device, day, ms + 500] = dict.fromkeys(
        ("temperature", "humidity"), (strange_us, 1.0)
    )
    assert audit_it(outside) == {Fate.STORED: 2, Fate.SUPERSEDED: 1, Fate.STRAY: 1}


def test_a_mend_says_nothing_of_the_records_of_a_topic_made_anew():
    mended = MendedRows([MendedRow("d", T0_MS, 0, 5, mended_us(NOW_MS))])
    then, now = ((write_time_us(ms, 5, 0), 5, 0, 1.0, 2.0) for ms in (NOW_MS, NOW_MS + 1))
    assert mended.row_of("d", T0_MS, then) == (mended_us(NOW_MS), *then[1:])
    assert mended.row_of("d", T0_MS, now) == now
    assert mended.row_of("e", T0_MS, then) == then


def test_a_later_record_wins_over_a_mended_row():
    outside = torn()
    mend_it(outside)
    outside.world.log.tick()
    outside.world.write(5, "d", T0, 3.0, 3.0)
    outside.world.drain()
    assert outside.world.store.rows()["d", T0_MS] == (3.0, 3.0)
    assert audit_it(outside) == {Fate.STORED: 2, Fate.SUPERSEDED: 2}


def test_a_row_that_is_whole_is_left_as_it_is():
    world = World()
    world.write(0, "d", T0, 1.0)
    world.drain()
    outside, before = Outside(world), copy.deepcopy(world.store.cells)
    done = mend_it(outside)
    assert not done.is_mended
    assert done.winner[1:3] == (0, 0)
    assert (world.store.cells, outside.mends.mended) == (before, [])


def test_a_mend_is_remembered_before_its_row_is_written():
    outside = torn()
    store = outside.world.store

    def dies(*arguments: object) -> None:
        raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(store), "send_rows", dies)
        with pytest.raises(Crash):
            mend_it(outside)
    written_us = mended_us(NOW_MS)
    assert outside.mends.mended == [MendedRow("d", T0_MS, 0, 0, written_us)]
    assert store.rows()["d", T0_MS] == (90.0, 90.0), "torn still"
    assert mend_it(outside).is_mended
    assert store.rows()["d", T0_MS] == (90.0, 1.0)
    assert audit_it(outside) == {Fate.STORED: 2, Fate.SUPERSEDED: 1}


def test_a_row_is_not_written_when_it_could_not_be_remembered():
    outside = replace(torn(), retry_seconds=0.02)
    outside.mends.faults = Faults(1, How.NOT_APPLIED, times=1_000_000)
    with pytest.raises(CassandraUnavailableError):
        mend_it(outside)
    assert outside.world.store.rows()["d", T0_MS] == (90.0, 90.0)


def test_the_rollups_of_its_day_are_to_be_made_again():
    outside = torn()
    mend_it(outside)
    _, _, run_id, ranges, counts = outside.world.ledger.replays[-1]
    assert (run_id, list(ranges), list(counts.stored_by_day.values())) == ("mend-1", [], [0])


def test_what_was_deleted_is_aged_or_has_no_record_is_refused_and_nothing_is_changed():
    deleted = torn()
    written_us = write_time_us(NOW_MS, 0, 0)
    deleted.deletions.deletions.append(Deletion("d", T0_MS, T0_MS + 1, written_us, "wrong"))
    gone = torn()
    for partition in (0, 16):
        gone.world.log.delete_before(partition, 1)
    foreign = torn()
    foreign.world.store.cells[KEY]["humidity"] = (written_us + 5_000_000, 3.0)
    for outside, days, now, said in (
        (deleted, 0, 0, "iot delete"),
        (gone, 0, 0, "Kafka has no record"),
        (foreign, 0, 0, "Kafka has no record"),
        (torn(), 1, NOW_MS / 1000 + 86_401, "outlived the retention"),
    ):
        before = copy.deepcopy(outside.world.store.cells)
        with pytest.raises(PermanentError, match=said):
            mend_it(outside, days, now=now)
        assert (outside.world.store.cells, outside.mends.mended) == (before, [])
    with pytest.raises(PermanentError, match="there is no such row"):
        mend_it(torn(), at=T0_MS + 1)


def test_the_retention_of_the_devices_group_is_that_of_a_mended_row(tmp_path):
    outside = torn()
    seed = (shipped_folder() / "seed.yaml").read_text("utf-8")
    (tmp_path / "kept.yaml").write_text(
        seed + "groups:\n- {name: kept, devices: d, retention_days: 0}\n"
    )
    outside.reading = str(tmp_path / "kept.yaml")
    assert mend_it(outside, days=1, now=NOW_MS / 1000 + 86_401).is_mended


def test_a_row_that_does_not_take_is_an_error():
    outside = torn()
    with pytest.MonkeyPatch.context() as patch:
        del outside.world.store.cells[KEY]["humidity"]
        # A tombstone of now: what is written below it does not show.
        reader = FakeSensorData.start_times
        found = copy.deepcopy(outside.world.store.cells[KEY])

        def start_times(self, *arguments):
            self.store.cells[KEY] = dict(found)
            return reader(self, *arguments)

        patch.setattr(FakeSensorData, "start_times", start_times)
        patch.setattr(
            FakeSensorData,
            "start_range",
            lambda self, span, _: start_times(self, *KEY[:2], [span.first_ms]),
        )
        with pytest.raises(PermanentError, match="did not take"):
            mend_it(outside)
