"""Ranges that another declaration ingested, on fakes: replayed as then, or by the present one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.ledger.rebase import parse_target
from iot_pipeline.core.proof.audit_result import Fate
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.messages import Reading
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.errors import PlanError
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.rebase import rebase
from iot_pipeline_tests.core.reading.encoded import encode_reading
from iot_pipeline_tests.stages.fakes import FakeStore, writer_id
from iot_pipeline_tests.stages.proof.past import (
    DECLARED,
    KEY,
    T0_MS,
    VALUES,
    Past,
    cells,
    defects,
    in_ledgers,
    replay_letter_by_wider,
)
from iot_pipeline_tests.stages.world import T0


def test_a_replay_asks_by_which_declaration_and_says_what_differs(past: Past) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("both")
    then, present = DECLARED["both"].fingerprint, DECLARED["wider"].fingerprint
    said = (
        rf"1 offset \(0:0-1\) were ingested by the declaration {then} \(temperature: max 60, now "
        rf"90\); the present one is {present}. Say `--reading then` \(in the "
        "job: `reading: then`\\) to write what was written, or `now`"
    )
    with pytest.raises(PlanError, match=said):
        past.replay("wider", "", OffsetRange(0, 0, 1))
    past.world.declarations.kept.clear()
    with pytest.raises(PlanError, match="not kept, so what the present one would change is not"):
        past.replay("wider", "now", OffsetRange(0, 0, 1))


def test_then_restores_what_was_there_and_the_present_one_would_tear_it(past: Past) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("kelvin")
    past.world.write(0, "e", T0, 20.0, 50.0)
    past.drain("both")
    past.world.store.cells.clear()
    done = past.replay("both", "then", OffsetRange(0, 0, 2))
    assert (done.rows_not_whole, done.done_offsets, done.counts.stored) == (0, 2, 2)
    assert cells(past) == {"temperature": 293.0, "humidity": 50.0}
    assert past.world.store.rows()["e", T0_MS] == (20.0, 50.0)
    assert defects(past.audit("both")) == {}
    said = "record 0:0: its temperature would be 20.0, and is 293.0. A stored reading is not"
    with pytest.raises(PlanError, match=said):
        past.replay("both", "now", OffsetRange(0, 0, 2))


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ("both", "one", "its humidity 0.0 would not be read"),
        ("both", "ignoring", "it would be ignored"),
        ("wider", "both", "it would be no reading"),
        ("both", "keyed", "its device would be d2, and is d"),
    ],
)
def test_now_is_refused_where_a_stored_reading_would_change(past, then, now, said) -> None:
    world = past.world
    reading = Reading("d", T0, 75.0 if then == "wider" else 20.0, 0.0)
    world.log.append(0, encode_reading(reading), b"d2")
    past.drain(then)
    before = dict(world.store.cells)
    with pytest.raises(PlanError, match=f"record 0:0: {said}"):
        past.replay(now, "now", OffsetRange(0, 0, 1))
    assert world.store.cells == before


def test_now_adds_a_quantity_and_what_was_rejected_and_an_audit_knows(past: Past) -> None:
    world = past.world
    world.write(0, "d", T0, 20.0, 50.0)
    world.write(0, "hot", T0, 75.0, 50.0)
    past.drain("one")
    assert cells(past) == {"temperature": 20.0}
    asked = OffsetRange(0, 0, 2)
    done = past.replay("wider", "now", asked)
    assert done.rows_not_whole == 0
    assert cells(past) == {"temperature": 20.0, "humidity": 50.0}
    assert ("hot", T0_MS) in world.store.rows()
    result = past.audit("wider")
    assert (defects(result), result.fates[Fate.STORED]) == ({}, 2)
    # One row more than its run has counted, and three cells.
    *_, counts = world.ledger.replays[-1]
    assert (sum(counts.stored_by_day.values()), sum(counts.cells_by_day.values())) == (1, 3)
    # From now on it is the declaration of these offsets.
    past.replay("wider", "", asked)
    del world.store.cells[KEY]["humidity"]
    assert defects(past.audit("both")) == {Fate.LOST: 1}


def test_now_is_refused_where_a_replayed_dead_letter_made_another_row(past: Past) -> None:
    reading = Reading("hot", T0, 75.0, 50.0)
    past.world.log.append(0, encode_reading(reading), b"other")
    past.drain("both")
    replay_letter_by_wider(past)
    asked = OffsetRange(0, 0, 1)
    said = (
        "record 0:0: its device would be other, and is hot by the declaration "
        f"{DECLARED['wider'].fingerprint}, by which dead letters were replayed. A stored reading"
    )
    with pytest.raises(PlanError, match=said):
        past.replay("keyed", "now", asked)
    assert [*past.world.store.rows()] == [("hot", T0_MS)]
    assert defects(past.audit("keyed")) == {}
    # What reads it as that one did, or not at all, changes nothing.
    past.replay("one", "now", asked)
    assert defects(past.audit("one")) == {}
    past.replay("wider", "now", asked)
    assert (defects(past.audit("wider")), in_ledgers(past)) == ({}, 1)


def test_now_is_refused_where_dead_letters_were_replayed_by_what_was_not_kept(past: Past) -> None:
    past.world.write(0, "hot", T0, 75.0, 50.0)
    past.drain("both")
    replay_letter_by_wider(past)
    del past.world.declarations.kept[DECLARED["wider"].fingerprint]
    with pytest.raises(PlanError, match="were replayed and which was not kept"):
        past.replay("keyed", "now", OffsetRange(0, 0, 1))


@pytest.mark.parametrize("name", ["both", "one"])
def test_now_does_not_count_again_a_row_that_it_restores(past: Past, name: str) -> None:
    world = past.world
    for second in range(3):
        world.write(0, "d", T0 + second, 20.0, 50.0)
        world.log.tick()
    past.drain(name)
    # Some of the range are read as before: what is lost there is restored as well.
    world.write(0, "d", T0 + 3, 20.0, 50.0)
    past.drain("wider")
    for second in (0, 3):
        del world.store.cells["d", KEY[1], T0_MS + 1000 * second]
    done = past.replay("wider", "now", OffsetRange(0, 0, 4))
    assert (done.rows_not_whole, len(world.store.rows()), in_ledgers(past)) == (0, 4, 4)
    assert in_ledgers(past, of_cells=True) == 8
    assert defects(past.audit("wider")) == {}


def test_now_over_a_recorded_loss_counts_its_rows_once(past: Past) -> None:
    world = past.world
    world.write(0, "d", T0, 20.0, 50.0)
    world.log.tick()
    past.drain("one")
    for second in range(1, 4):
        world.write(0, "d", T0 + second, 20.0, 50.0)
        world.log.tick()
    proof = past.outside("one").ports
    target = parse_target(["0:4"])
    other = Run("rebase", writer_id(7))
    rebase(world.log, world.ledger, "iot_data", target, other, skip_reason="test", proof=proof)
    done = past.replay("both", "now", OffsetRange(0, 0, 4))
    assert [item for item, _ in done.recovered] == [OffsetRange(0, 1, 4)]
    assert (len(world.store.rows()), in_ledgers(past)) == (4, 4)
    assert in_ledgers(past, of_cells=True) == 8


_FEW = st.lists(st.tuples(st.integers(0, 2), VALUES, st.booleans()), min_size=1, max_size=5)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(["one", "both", "wider", "parts"]), _FEW), min_size=1),
    st.sampled_from(["wider", "both", "parts"]),
)
def test_after_now_the_ledgers_have_every_row_and_cell_that_is_there(
    tmp_path_factory, runs, present: str
) -> None:
    past = Past(tmp_path_factory.getbasetemp())
    world, lost, sent = past.world, [], 0
    for name, records in runs[:4]:
        for device, temperature, humidity in [(d, t, 50.0) for d, t, _ in records]:
            # Each key once: what is sent again is counted twice by the runs themselves.
            world.write(0, "abc"[device], T0 + sent, temperature, humidity)
            lost += [("abc"[device], KEY[1], T0_MS + 1000 * sent)] * records[0][2]
            sent += 1
        world.log.tick()
        past.drain(name)
    for place in lost:
        world.store.cells.pop(place, None)
    try:
        past.replay(present, "now", OffsetRange(0, 0, sent))
    except PlanError:
        return
    assert in_ledgers(past) == len(world.store.rows())
    assert in_ledgers(past, of_cells=True) == sum(map(len, world.store.cells.values()))


def test_now_of_a_part_adds_a_quantity_beside_what_a_later_record_tells(past: Past) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.world.log.tick()
    past.world.write(0, "d", T0, 21.0, 51.0)
    past.drain("one")
    done = past.replay("both", "now", OffsetRange(0, 0, 1))
    assert done.rows_not_whole == 0
    assert cells(past) == {"temperature": 21.0, "humidity": 50.0}
    assert defects(past.audit("both")) == {}


def test_only_values_of_present_quantities_are_counted_by_day(past: Past) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("both")
    assert past.audit("one").cells_by_day.total() == 1
    past.world.write(0, "e", T0, 20.0, 50.0)
    past.drain("parts")
    assert past.audit("parts").cells_by_day.total() == 4


@pytest.mark.parametrize("is_sent", [False, True])
def test_now_is_recorded_before_its_rows_so_a_crash_leaves_none_unexplained(
    past: Past, monkeypatch: pytest.MonkeyPatch, is_sent: bool
) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("one")
    send = FakeStore.send_rows

    def crash(store: FakeStore, rows: RowSlice) -> None:
        if is_sent:
            send(store, rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FakeStore, "send_rows", crash)
        with pytest.raises(KeyboardInterrupt):
            past.replay("both", "now", OffsetRange(0, 0, 1))
    assert cells(past) == {"temperature": 20.0} | ({"humidity": 50.0} if is_sent else {})
    assert defects(past.audit("both")) == ({} if is_sent else {Fate.LOST: 1})
    past.replay("both", "", OffsetRange(0, 0, 1))
    assert defects(past.audit("both")) == {}


def test_a_dead_letter_that_another_declaration_made_a_row_of_is_no_stray(past: Past) -> None:
    world = past.world
    world.write(0, "hot", T0, 75.0, 50.0)
    past.drain("both")
    assert past.audit("both").fates[Fate.REJECTED] == 1
    replay_letter_by_wider(past)
    for name in ("both", "wider", "kelvin"):
        result = past.audit(name)
        assert (defects(result), result.fates[Fate.STORED]) == ({}, 1), name


def test_a_run_that_is_executed_again_is_refused_rather_than_read_otherwise(past: Past) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("kelvin")
    with pytest.raises(PlanError, match="use `iot replay --run RUN_ID --reading then`"):
        past.world.ingest(offsets=[OffsetRange(0, 0, 1)])


def test_a_declaration_is_kept_before_the_ledger_names_it(past: Past) -> None:
    world = past.world
    world.write(0, "d", T0, 20.0, 50.0)
    kept = world.declarations.keep_declaration
    seen = []

    def look(declaration: Declaration) -> None:
        seen.append((len(world.ledger.commits), len(world.store.cells)))
        kept(declaration)

    world.declarations.keep_declaration = look
    past.drain("both")
    assert seen == [(0, 0)]
    assert [*world.declarations.kept] == [DECLARED["both"].fingerprint]
