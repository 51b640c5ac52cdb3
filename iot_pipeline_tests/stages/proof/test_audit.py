"""Every fate of an offset, and rows without a record, on fakes."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iot_pipeline.core.ledger.rebase import parse_target
from iot_pipeline.core.proof.audit_result import Fate, conclude
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.core.words import counted
from iot_pipeline.settings_reading import shipped_folder
from iot_pipeline.stages.ingest.losses import record_losses
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.audit import audit
from iot_pipeline.stages.proof.choosing import choose_ranges
from iot_pipeline.stages.proof.rebase import rebase
from iot_pipeline_tests.stages.fake_rows import FakeSensorData
from iot_pipeline_tests.stages.fakes import NOW_MS, writer_id
from iot_pipeline_tests.stages.outside import Outside
from iot_pipeline_tests.stages.world import T0, World, a_busy_world

T0_MS = int(T0 * 1000)
DAY = T0_MS // MS_PER_DAY


def run(world: World, **options):
    return audit_of(Outside(world), **options)


def audit_of(outside: Outside, config=None, **options):
    ports = outside.ports_with(**(config or {}))
    result = audit(choose_ranges(ports), ports, "a", **options)
    judged = sum(count for fate, count in result.fates.items() if fate is not Fate.STRAY)
    assert judged == result.offsets, "each offset has one fate"
    assert len(outside.audits.recorded) == 1
    return result


def fates(world: World, **options) -> dict[Fate, int]:
    return {fate: n for fate, n in run(world, **options).fates.items() if n}


def drained() -> World:
    world = World()
    for step in range(5):
        world.write(device="d", at=T0 + step)
        world.log.tick()
    world.drain()
    assert fates(world) == {Fate.STORED: 5}
    return world


def test_what_a_drain_accounted_for_is_proved():
    world = a_busy_world()
    world.drain()
    found = fates(world)
    assert set(found) <= {Fate.STORED, Fate.SUPERSEDED, Fate.REJECTED, Fate.HOLES}
    assert found[Fate.STORED] == len(world.store.cells)
    assert found[Fate.REJECTED] == len(world.letters.by_place())


def test_what_lags_is_in_flight_and_what_kafka_deleted_is_not_proved():
    world = drained()
    world.write(device="d", at=T0 + 9)
    assert fates(world) == {Fate.STORED: 5, Fate.IN_FLIGHT: 1}
    world.log.delete_before(0, 2)
    assert fates(world) == {Fate.UNVERIFIABLE: 2, Fate.STORED: 3, Fate.IN_FLIGHT: 1}


def test_a_row_that_is_gone_is_lost():
    world = drained()
    del world.store.cells["d", DAY, T0_MS + 2000]
    assert fates(world) == {Fate.STORED: 4, Fate.LOST: 1}


def test_a_rejected_record_without_a_letter_is_lost():
    world = drained()
    world.write_bad()
    world.drain()
    assert fates(world) == {Fate.STORED: 5, Fate.REJECTED: 1}
    world.letters.delivered.clear()
    assert fates(world) == {Fate.STORED: 5, Fate.LOST: 1}


def test_a_cell_that_no_record_has_is_torn():
    world = drained()
    cells = world.store.cells["d", DAY, T0_MS + 1000]
    cells["humidity"] = (cells["humidity"][0], 99.0)
    assert fates(world)[Fate.TORN] == 1


@pytest.mark.parametrize("every_place", [False, True])
def test_a_row_of_somebody_else_is_stray_where_it_is_looked_for(every_place):
    world = drained()
    written = world.store.cells["d", DAY, T0_MS + 1000]["humidity"][0]
    row = {"temperature": (written + 1, 1.0), "humidity": (written + 1, 1.0)}
    world.store.cells["x", DAY, T0_MS + 500] = row
    assert fates(world, every_place=every_place).get(Fate.STRAY, 0) == int(every_place)
    world.store.devices[DAY]["x"] = 1
    (finding,) = run(world, every_place=every_place).findings
    assert (finding.fate, finding.device_id) == (Fate.STRAY, "x")


def test_rows_of_records_between_two_ranges_are_not_stray_and_others_are():
    world = World(partitions=2)
    for step in range(9):
        for partition in (0, 1):
            world.write(partition, device=f"d{partition}", at=T0 + step)
        world.log.tick()
    world.drain()
    ports = Outside(world).ports
    asked = [OffsetRange(p, *part) for p in (0, 1) for part in ((0, 3), (5, 9))]
    result = audit(asked, ports, "a")
    assert result.is_stray_judged
    assert {fate: n for fate, n in result.fates.items() if n} == {Fate.STORED: 14}
    written_us = world.store.cells["d0", DAY, T0_MS + 7000]["humidity"][0]
    row = {"temperature": (written_us + 1, 1.0), "humidity": (written_us + 1, 1.0)}
    world.store.cells["d0", DAY, T0_MS + 500] = row
    assert audit(asked, ports, "a").fates[Fate.STRAY] == 1


def test_rows_written_since_it_began_do_not_have_the_log_read_again():
    world = drained()
    began_at = world.log.now_ms / 1000 + 1
    since = int(began_at * 1e6) + 1000
    row = {"temperature": (since, 1.0), "humidity": (since, 1.0)}
    world.store.cells["d", DAY, T0_MS + 500] = row
    outside = Outside(world)
    result = audit_of(outside, wall_clock=lambda: began_at)
    assert {fate: n for fate, n in result.fates.items() if n} == {Fate.STORED: 5}
    assert result.is_stray_judged
    assert outside.readings == 1


def test_rows_that_are_as_they_should_be_travel_once():
    world = drained()
    outside, reader = Outside(world), FakeSensorData(world.store)
    ports = outside.ports_with(reader)
    audit(choose_ranges(ports), ports, "a")
    assert reader.asked["range"] == len(world.store.rows()) // 5


def test_a_row_that_outlived_its_retention_has_aged_out():
    world = drained()
    world.log.tick(10 * MS_PER_DAY)
    world.write(device="young", at=T0)
    world.drain()
    for place in [p for p in world.store.cells if p[0] == "d"]:
        del world.store.cells[place]  # what a TTL does
    config = {"retention_days": 5}
    now = world.log.now_ms / 1000
    found = audit_of(Outside(world), config, wall_clock=lambda: now).fates
    assert {fate: n for fate, n in found.items() if n} == {Fate.AGED_OUT: 5, Fate.STORED: 1}
    # Without a retention nothing may be gone.
    assert fates(world)[Fate.LOST] == 5


GROUPS = """
groups:
- {name: short, devices: short_*, retention_days: 2}
- {name: kept, devices: kept_*, retention_days: 0}
"""


@pytest.fixture(scope="module")
def by_group(tmp_path_factory):
    """A declaration of the original message whose groups have other retentions."""
    path = tmp_path_factory.mktemp("declared") / "reading.yaml"
    path.write_text((shipped_folder() / "seed.yaml").read_text("utf-8") + GROUPS)
    return str(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sent=st.lists(
        st.tuples(st.sampled_from(["short_1", "short_2", "kept_1", "other"]), st.integers(0, 2)),
        min_size=1,
        max_size=12,
    ),
    missing=st.integers(0, 11),
)
def test_an_audit_knows_which_group_a_row_that_is_gone_was_of(by_group, sent, missing):
    world = World()
    arrived = {}
    for number, (device, days) in enumerate(sent):
        world.log.tick(days * MS_PER_DAY + 3_600_000)
        record = world.write(device=device, at=T0 + number)
        arrived[device, DAY, T0_MS + number * 1000] = record.produced_ms
    world.drain()
    now = world.log.now_ms / 1000 + 3600
    lives = Outside(world, reading=by_group).ports_with(retention_days=5).settings.retention
    aged = [key for key, ms in arrived.items() if ms < lives.aged_before_ms(key[0], now)]
    for key in aged:
        del world.store.cells[key]  # what a TTL does
    alive = sorted(world.store.cells)
    lost = alive[missing : missing + 1]
    for key in lost:
        del world.store.cells[key]
    outside = Outside(world, reading=by_group)
    found = audit_of(outside, {"retention_days": 5}, wall_clock=lambda: now).fates
    expected = {
        Fate.AGED_OUT: len(aged),
        Fate.LOST: len(lost),
        Fate.STORED: len(alive) - len(lost),
    }
    assert {fate: n for fate, n in found.items() if n} == {f: n for f, n in expected.items() if n}


def test_what_was_deleted_on_purpose_is_deleted_and_what_came_later_is_not():
    world = drained()
    outside = Outside(world)
    deleted_us = world.log.now_ms * 1000
    outside.deletions.deletions.append(
        Deletion("d", T0_MS, T0_MS + 2000, deleted_us, "a wrong sensor")
    )
    for ms in (T0_MS, T0_MS + 1000):
        del world.store.cells["d", DAY, ms]
    world.log.tick()
    world.write(device="d", at=T0)
    world.drain()
    del world.store.cells["d", DAY, T0_MS]  # this one arrived after the deletion
    found = {fate: n for fate, n in audit_of(outside).fates.items() if n}
    assert found == {Fate.DELETED: 2, Fate.STORED: 3, Fate.LOST: 1}


@pytest.mark.parametrize("had_written", [False, True])
def test_what_the_ledger_says_expired_is_expired_whether_or_not_kafka_still_has_it(had_written):
    world = World()
    for step in range(4):
        world.write(device="d", at=T0 + step)
        world.log.tick()
    world.plan()
    world.log.delete_before(0, 3)
    run = Run("r", writer_id(1))
    assert record_losses(world.log, world.ledger, "iot_data", run, 0.2) == [OffsetRange(0, 0, 3)]
    world.drain()
    if had_written:
        world.log.low[0] = 0  # deletion is by segments: Kafka may give some of it back
        world.write_bad()
        world.drain()
    expected = {Fate.EXPIRED: 3, Fate.STORED: 1}
    assert fates(world) == (expected | {Fate.REJECTED: 1} if had_written else expected)


def test_ties_across_partitions_and_windows_are_settled_by_a_few_readings_of_the_log():
    world = World(partitions=2)
    for step in range(300):
        world.write(0, device="d", at=T0 + step, temperature=1.0)
        world.write(1, device="d", at=T0 + step, temperature=2.0)  # the same write time
        if step % 3 == 0:
            world.log.tick()
    world.drain()
    outside = Outside(world)
    config = {"window_records": 50}
    found = {fate: n for fate, n in audit_of(outside, config).fates.items() if n}
    # Cell by cell the larger value: the row is that of partition 1, and whole.
    assert found == {Fate.STORED: 300, Fate.SUPERSEDED: 300}
    assert outside.readings < 10
    assert world.log.now_ms > NOW_MS


# A log that was cut back and has grown again.


def a_log_grown_again(more: int = 8) -> World:
    """Ten ingested, the end from 5 on lost, and `more` others in its place."""
    world = World()
    for step in range(10):
        world.write(device="d", at=T0 + step)
        world.log.tick()
    world.ingest()
    world.log.cut(0, 5)
    world.log.tick(5_000)
    for step in range(more):
        world.write(device="new", at=T0 + step)
        world.log.tick()
    return world


def test_what_is_lost_is_told_in_ranges_with_one_command():
    result = run(a_log_grown_again())
    assert result.fates[Fate.LOST] == 5
    assert result.lost.ranges == [OffsetRange(0, 5, 10)]
    commands = [command for _, command in result.repairs if command]
    assert commands == ["iot replay --offsets 0:5-10"]
    # Nor are the rows whose records Kafka lost called stray: the log says that it is another one.
    assert (result.fates[Fate.STRAY], result.rows_unverifiable) == (0, 5)
    assert any("Offsets 0:5-10 are in doubt" in sentence for sentence in conclude(result))


def test_rows_from_before_a_rebase_are_unverifiable_not_stray():
    world = a_log_grown_again()
    rebase(
        world.log, world.ledger, "iot_data", parse_target(["0:0"]), Run("p", writer_id(7)),
        proof=world.proof(),
    )  # fmt: skip
    world.ingest()
    outside = Outside(world)
    result = audit_of(outside)
    assert {fate: n for fate, n in result.fates.items() if n} == {Fate.STORED: 13}
    assert result.rows_unverifiable == 5
    assert any("5 rows unverifiable" in sentence for sentence in conclude(result))
    # A row that no record of then can have written is a stray all the same.
    us = world.log.at(0, 2)[1].produced_ms * 1000 + 993
    world.store.cells["d", DAY, T0_MS + 77] = {"temperature": (us, 1.0), "humidity": (us, 2.0)}
    stray = audit_of(Outside(world))
    assert (stray.fates[Fate.STRAY], stray.rows_unverifiable) == (1, 5)


@pytest.mark.parametrize("bad", [(0, 2), (1, 3), (3, 5), (0, 5)])
def test_what_was_ingested_and_cannot_be_read_any_more_is_unverifiable_and_no_loss(bad):
    outside = Outside(drained(), unreadable=[OffsetRange(0, *bad)])
    result = audit_of(outside)
    size = bad[1] - bad[0]
    assert {fate: n for fate, n in result.fates.items() if n} == {
        fate: n for fate, n in {Fate.STORED: 5 - size, Fate.UNVERIFIABLE: size}.items() if n
    }
    assert result.rows_unverifiable in (0, size)
    said = " ".join(conclude(result))
    assert (
        f"{counted(size, 'offset')} unverifiable: Kafka does not have the records any more" in said
    )
    assert "iot losses" not in said


def test_a_row_without_a_record_is_stray_beside_a_batch_that_cannot_be_read():
    world = drained()
    written_us = (NOW_MS + 2) * 1000 + 3  # of partition 3, which has no record
    world.store.send_rows(RowSlice.of({("d", DAY): {T0_MS + 99: (written_us, 0, 3, 1.0, 2.0)}}))
    world.store.wait(1)
    result = audit_of(Outside(world, unreadable=[OffsetRange(0, 1, 3)]))
    assert result.fates[Fate.STRAY] == 1


def test_a_defect_where_another_declaration_was_read_by_is_told_with_it():
    world = drained()
    others = {
        place: replace(entry, declaration="another")
        for place, entry in world.ledger.entries.items()
    }
    world.ledger.entries.update(others)
    assert run(world).doubts == [], "nothing is wrong, so nothing is looked up"
    world.store.cells.clear()
    assert "were ingested by the declaration another, which was not kept" in run(world).doubts[0]
    world.ledger.entries.update(
        {place: replace(entry, declaration="") for place, entry in others.items()}
    )
    assert run(world).doubts == []
