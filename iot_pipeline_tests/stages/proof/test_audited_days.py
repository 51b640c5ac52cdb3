"""Days of readings: what an audit covers, what it found of each, and what came since."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.ledger.folding import fold_entries
from iot_pipeline.core.ledger.rebase import parse_target
from iot_pipeline.core.proof.audit_result import AuditResult, Fate, conclude
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.rollups.day_grid import DayGrid, DayState, make_grid
from iot_pipeline.core.times import MS_PER_DAY, day_number, day_of, moment_of
from iot_pipeline.errors import (
    CassandraUnavailableError,
    MissingRightError,
    PipelineError,
    SchemaMismatchError,
)
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.audit import audit
from iot_pipeline.stages.proof.choosing import choose_day, choose_ranges
from iot_pipeline.stages.proof.days import read_facts
from iot_pipeline.stages.proof.rebase import rebase
from iot_pipeline_tests.stages.fakes import writer_id
from iot_pipeline_tests.stages.outside import Outside
from iot_pipeline_tests.stages.proof.test_audit import a_log_grown_again
from iot_pipeline_tests.stages.world import T0, World

DAY = date(2024, 12, 29)
NEXT = DAY + timedelta(days=1)
MIDNIGHT = datetime(2024, 12, 29, tzinfo=UTC)


def a_day_that_arrived_late() -> World:
    """Of two days, four readings each; the last of the first day arrives on the second one."""
    world = World()
    for step in range(3):
        world.write(device="d", at=T0 + step)
        world.log.tick()
    world.drain()
    world.log.tick(MS_PER_DAY)
    for step in range(4):
        world.write(device="d", at=T0 + 86_400 + step)
    world.drain()
    world.write(device="late", at=T0 + 7)
    world.drain()
    return world


def audited(outside: Outside, day: date | None, audit_id: str = "a") -> AuditResult:
    ports = outside.ports
    ranges = choose_ranges(ports) if day is None else choose_day(ports, day)
    at = outside.world.log.now_ms / 1000 + len(outside.audits.recorded)
    return audit(ranges, ports, audit_id, day=day, wall_clock=lambda: at)


def grid(outside: Outside, now: datetime | None = None) -> DayGrid:
    ports, moment = outside.ports, now or moment_of(outside.world.log.now_ms)
    facts = read_facts(ports.ledger, ports.deletions, "iot_data", moment)
    return make_grid(facts, outside.audits.read_audited_days("iot_data"), {}, moment)


def states(outside: Outside) -> dict[date, DayState]:
    return {item.day: item.state for item in grid(outside).days}


def test_a_day_is_covered_by_its_readings_whenever_they_arrived() -> None:
    outside = Outside(a_day_that_arrived_late())
    by_arrival = choose_ranges(outside.ports, MIDNIGHT, MIDNIGHT + timedelta(days=1))
    assert by_arrival == [OffsetRange(0, 0, 3)]
    assert not audit(by_arrival, outside.ports, "arrived").days
    assert states(outside) == dict.fromkeys((DAY, NEXT), DayState.NOT_LOOKED_AT)
    assert choose_day(outside.ports, DAY) == [OffsetRange(0, 0, 3), OffsetRange(0, 7, 8)]
    result = audited(outside, DAY)
    assert (result.days[DAY].rows, result.days[DAY].stored, result.days[DAY].offsets) == (4, 4, 4)
    assert list(result.days) == [DAY]
    assert states(outside) == {DAY: DayState.PROVEN, NEXT: DayState.NOT_LOOKED_AT}
    sentence = conclude(result)[1]
    assert sentence == (
        "audited for 2024-12-29: what arrived in Kafka on it, and the ranges with readings of it, "
        "by the ledger (4 offsets): 4 of 4 stored readings have their row"
    )
    assert set(audited(outside, None, "b").days) == {DAY, NEXT}
    assert set(states(outside).values()) == {DayState.PROVEN}


def test_a_day_that_was_touched_after_its_audit_is_not_proven_any_more() -> None:
    outside = Outside(a_day_that_arrived_late())
    audited(outside, None)
    outside.world.write(device="later", at=T0 + 8)
    outside.world.drain()
    assert states(outside) == {DAY: DayState.CHANGED, NEXT: DayState.PROVEN}
    audited(outside, DAY, "b")
    assert set(states(outside).values()) == {DayState.PROVEN}
    # Folding changes entries and no day.
    ledger = outside.ports.ledger
    entries = ledger.read_entries("iot_data", [0])
    long_ago = [replace(e, updated_at=datetime(2025, 1, 1, tzinfo=UTC)) for e in entries]
    for fold in fold_entries(long_ago, datetime(2026, 1, 1, tzinfo=UTC)):
        ledger.write_fold(fold.folded)
    assert set(states(outside).values()) == {DayState.PROVEN}
    ledger.record_replay("iot_data", datetime.now(UTC), "r", [OffsetRange(0, 7, 8)], Counts())
    assert states(outside)[DAY] is DayState.CHANGED
    audited(outside, None, "c")
    at_ms = int(T0 * 1000)
    deletion = Deletion("d", at_ms, at_ms + 1, 1, "why", "me")
    outside.deletions.record_deletion(deletion, datetime(2024, 1, 1, tzinfo=UTC), {NEXT: 1})
    assert states(outside) == {DAY: DayState.PROVEN, NEXT: DayState.CHANGED}


def test_a_day_audited_right_after_a_deletion_stays_proven_when_that_has_settled() -> None:
    outside = Outside(a_day_that_arrived_late())
    at_ms, now = int((T0 + 7) * 1000), datetime.now(UTC)
    deletion = Deletion("late", at_ms, at_ms + 1, int(now.timestamp() * 1e6), "why", "me")
    outside.deletions.record_deletion(deletion, now, {DAY: 1})
    del outside.world.store.cells["late", day_number(DAY), at_ms]
    audited(outside, None)
    for minutes in (1, 11):
        facts = read_facts(
            outside.ports.ledger, outside.deletions, "iot_data", now + timedelta(minutes=minutes)
        )
        kept = outside.audits.read_audited_days("iot_data")
        found = make_grid(facts, kept, {}, moment_of(outside.world.log.now_ms)).states
        assert found == {DayState.PROVEN: 2}


def test_a_defect_is_of_its_day_and_offsets_that_could_not_be_compared_too() -> None:
    outside = Outside(a_day_that_arrived_late())
    world = outside.world
    del world.store.cells["late", day_number(DAY), int((T0 + 7) * 1000)]
    result = audited(outside, None)
    assert result.fates[Fate.LOST] == result.days[DAY].lost == 1
    assert states(outside) == {DAY: DayState.DEFECTS, NEXT: DayState.PROVEN}
    world.log.delete_before(0, 5)
    result = audited(outside, None, "b")
    assert (result.days[DAY].unread, result.days[NEXT].unread) == (3, 2)
    assert states(outside) == {DAY: DayState.DEFECTS, NEXT: DayState.UNPROVEN}
    (line,) = [line for line in grid(outside).table() if line[0] == str(NEXT)]
    assert line[-1] == "2 offsets not compared"
    # A Sunday and the Monday after it.
    assert grid(outside).calendar() == [
        ("2024-12-30", "◐", "", "", "", "", "", ""),
        ("2024-12-23", "", "", "", "", "", "", "✖"),
    ]


def test_what_replayed_dead_letters_stored_is_proven_where_everything_was_read() -> None:
    outside = Outside(a_day_that_arrived_late())
    counts = Counts(stored=1, stored_by_day={DAY: 1})
    outside.ports.ledger.record_replay("iot_data", datetime.now(UTC), "letters", [], counts)
    assert audited(outside, DAY).days[DAY].elsewhere == 1
    assert states(outside)[DAY] is DayState.UNPROVEN
    # A record of this log made the row, or nothing proves that there was one.
    assert audited(outside, None, "b").days[DAY].elsewhere == 1
    outside.world.write(device="letter", at=T0 + 9)
    outside.world.drain()
    ledger = outside.world.ledger
    (newest,) = [place for place, entry in ledger.entries.items() if entry.start_offset == 8]
    ledger.entries[newest] = replace(ledger.entries[newest], counts=Counts(rejected=1))
    assert audited(outside, None, "c").days[DAY].elsewhere == 0
    assert states(outside)[DAY] is DayState.PROVEN


def test_rows_of_a_log_from_before_a_rebase_keep_a_day_from_being_proven() -> None:
    world = a_log_grown_again()
    target, run = parse_target(["0:0"]), Run("p", writer_id(7))
    rebase(world.log, world.ledger, "iot_data", target, run, proof=world.proof())
    world.ingest()
    outside = Outside(world)
    (found,) = audited(outside, None).days.values()
    assert (found.stored, found.rows, found.elsewhere) == (23, 13, 10)
    assert found.found == "up to 10 rows whose record was not found"
    assert states(outside) == {DAY: DayState.UNPROVEN}


@pytest.mark.parametrize("is_lost", [False, True])
def test_rows_of_a_topic_from_before_it_was_recreated_are_never_proven(is_lost: bool) -> None:
    world = World()
    for step in range(10):
        world.write(device="d", at=T0 + step)
        world.log.tick()
    world.drain()
    world.log.recreate()
    world.log.tick(60_000)
    for step in range(5):
        world.write(device="new", at=T0 + 100 + step)
        world.log.tick()
    target, run = parse_target(["0:0"]), Run("p", writer_id(7))
    topic_id = world.log.topic_id("iot_data")
    rebase(world.log, world.ledger, "iot_data", target, run, proof=world.proof(), topic_id=topic_id)
    world.ingest()
    if is_lost:
        for place in [place for place in world.store.cells if place[0] == "d"]:
            del world.store.cells[place]
    outside = Outside(world)
    (found,) = audited(outside, None).days.values()
    assert (found.stored, found.rows, found.elsewhere) == (15, 5, 10)
    assert states(outside) == {DAY: DayState.UNPROVEN}


def test_a_record_that_was_compacted_away_proves_no_row() -> None:
    world = World()
    for step in range(4):
        world.write(device="d", at=T0 + step)
        world.log.tick()
    world.drain()
    for offset in (0, 1):
        world.log.compact(0, offset)
    del world.store.cells["d", day_number(DAY), int(T0 * 1000)]
    outside = Outside(world)
    (found,) = audited(outside, None).days.values()
    assert (found.stored, found.rows, found.elsewhere) == (4, 2, 2)
    assert states(outside) == {DAY: DayState.UNPROVEN}


_STEP = st.sampled_from(["drain", "bad", "hole"]) | st.tuples(
    st.sampled_from("ab"), st.integers(0, 2), st.integers(0, 1), st.integers(0, 1)
)


@settings(max_examples=40)
@given(st.lists(_STEP, max_size=20), st.randoms(use_true_random=False))
def test_what_is_whole_is_proven_and_no_row_is_without_its_record(steps, random) -> None:
    world = World(partitions=2)
    for step in steps:
        if step == "drain":
            world.log.tick()
            world.drain()
        elif step == "bad":
            world.write_bad()
        elif step == "hole":
            world.log.append_hole(0)
        else:
            device, second, days, ticks = step
            world.write(ord(device) % 2, device, T0 + second + 86_400 * days, float(len(steps)))
            world.log.tick(ticks)
    world.drain()
    outside = Outside(world)
    audited(outside, None)
    assert set(states(outside).values()) <= {DayState.PROVEN}
    if not world.store.cells:
        return
    device = random.choice(sorted(device for device, _, _ in world.store.cells))
    # Its records are compacted away, and its rows are lost.
    for record in world.log.records():
        if record.value and f'"{device}"'.encode() in record.value:
            world.log.compact(record.partition, record.offset)
    days = set()
    for place in [place for place in world.store.cells if place[0] == device]:
        del world.store.cells[place]
        days.add(day_of(place[1]))
    audited(outside, None, "b")
    assert {states(outside)[day] for day in days} == {DayState.UNPROVEN}


@pytest.mark.parametrize("is_compacted", [False, True])
def test_what_one_micro_batch_superseded_explains_no_other_row(is_compacted: bool) -> None:
    world = World()
    world.write_bad()
    world.log.append_hole(0)
    for step in range(2):
        world.write(device="d", at=T0 + step)
        world.log.tick()
    world.drain()
    for temperature in (20.0, 21.0, 22.0):
        world.write(device="often", at=T0, temperature=temperature)
        world.log.tick()
    world.drain()
    outside = Outside(world)
    (found,) = audited(outside, None).days.values()
    assert (found.stored, found.rows, found.elsewhere) == (3, 3, 0)
    if is_compacted:
        world.log.compact(0, 2)
    del world.store.cells["d", day_number(DAY), int(T0 * 1000)]
    (found,) = audited(outside, None, "b").days.values()
    assert (found.lost, found.elsewhere) == ((0, 1) if is_compacted else (1, 0))
    assert states(outside) == {DAY: DayState.UNPROVEN if is_compacted else DayState.DEFECTS}


def test_rows_that_aged_out_or_were_superseded_are_said_beside_the_proven_ones() -> None:
    world = World()
    world.write_bad()
    world.log.append_hole(0)
    for temperature in (20.0, 21.0):
        world.write(device="d", at=T0, temperature=temperature)
        world.log.tick()
        world.drain()
    world.write(device="old", at=T0 + 1)
    world.drain()
    outside = Outside(world)
    ports = outside.ports_with(retention_days=1)
    del world.store.cells["old", day_number(DAY), int((T0 + 1) * 1000)]
    later = world.log.now_ms / 1000 + 2 * 86_400
    result = audit(choose_ranges(ports), ports, "a", wall_clock=lambda: later)
    found = result.days[DAY]
    assert (found.stored, found.rows, found.elsewhere) == (3, 1, 0)
    assert found.found == "2 without a row: superseded, deleted or aged out"
    assert states(outside) == {DAY: DayState.PROVEN}


@pytest.mark.parametrize("kind", [MissingRightError, SchemaMismatchError])
def test_what_was_found_is_told_where_the_days_cannot_be_kept(kind: type[PipelineError]) -> None:
    outside = Outside(a_day_that_arrived_late())
    del outside.world.store.cells["late", day_number(DAY), int((T0 + 7) * 1000)]
    outside.audits.error = kind("no table audited_days. `iot setup`")
    result = audited(outside, None)
    assert result.fates[Fate.LOST] == 1
    assert conclude(result)[-1] == (
        "which days are proven could not be kept: no table audited_days. `iot setup`"
    )
    assert len(outside.audits.recorded) == 1
    outside.audits.error = CassandraUnavailableError("no answer")
    with pytest.raises(CassandraUnavailableError):
        audited(outside, None, "b")


def test_the_grid_shows_so_many_days_and_says_how_many_are_older() -> None:
    outside = Outside(a_day_that_arrived_late())
    audited(outside, NEXT)
    shown = grid(outside, datetime(2025, 2, 27, 23, tzinfo=UTC))
    assert [item.day for item in shown.days] == [NEXT]
    assert shown.sentences()[-1] == "1 older day with readings not shown"
    assert "1 day proven" in shown.markdown()
    none = grid(outside, datetime(2027, 1, 1, tzinfo=UTC))
    assert none.sentences() == [
        "the ledger has no readings of these days",
        "2 older days with readings not shown",
    ]
