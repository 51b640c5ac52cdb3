"""Ranges that were ingested by several declarations, on fakes: audited, traced and replayed."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.ledger.declared import DeclaredReplay
from iot_pipeline.core.ledger.rebase import parse_target
from iot_pipeline.core.proof.audit_result import DEFECTS, AuditResult, Fate
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.decoding import encode_reading
from iot_pipeline.core.reading.messages import Reading, ReadingRules
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.row_groups import RowSlice
from iot_pipeline.core.times import MS_PER_DAY, day_of, moment_of
from iot_pipeline.errors import PlanError
from iot_pipeline.stages.ingest.planning import read_states
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.as_ingested import as_ingested
from iot_pipeline.stages.proof.audit import audit
from iot_pipeline.stages.proof.choosing import choose_ranges
from iot_pipeline.stages.proof.cut_logs import LogComparison
from iot_pipeline.stages.proof.mend import mend
from iot_pipeline.stages.proof.rebase import rebase
from iot_pipeline.stages.proof.replay import plan_replay, replay
from iot_pipeline.stages.proof.replay_progress import ReplayProgress
from iot_pipeline.stages.proof.reread import Choice, choose_reading
from iot_pipeline.stages.proof.trace import read_back_run, trace
from iot_pipeline_tests.core.reading.declared import declared
from iot_pipeline_tests.stages.fake_ledger import FakeLedger
from iot_pipeline_tests.stages.fakes import NOW_MS, FakeStore, writer_id
from iot_pipeline_tests.stages.outside import Outside
from iot_pipeline_tests.stages.world import CONFIG, T0, World

T0_MS = int(T0 * 1000)
DAY = day_of(T0_MS // MS_PER_DAY)
KEY = ("d", T0_MS // MS_PER_DAY, T0_MS)
RUN = Run("run", writer_id(99))
HEAD = "version: 1\ndevice: {path: device_id}\ntime: {path: timestamp, as: seconds}\nquantities: "
TEXTS = {
    "one": HEAD + "{temperature: {max: 60}}",
    "both": HEAD + "{temperature: {max: 60}, humidity: {}}",
    "wider": HEAD + "{temperature: {max: 90}, humidity: {}}",
    "parts": HEAD + "{temperature: {max: 60}, humidity: {optional: true}}",
    "kelvin": HEAD + "{temperature: {shift: 273}, humidity: {}}",
    "keyed": (HEAD + "{temperature: {}, humidity: {}}").replace("{path: device_id}", "key"),
    "ignoring": HEAD + "{temperature: {}, humidity: {}}\nignore: [{path: humidity, exists: true}]",
}
DECLARED = {name: declared(text) for name, text in TEXTS.items()}


class Past:
    """A topic whose declaration changes from run to run."""

    def __init__(self, folder: Path, partitions: int = 1) -> None:
        self.folder = folder
        self.world = World(partitions=partitions)

    def outside(self, name: str) -> Outside:
        """As with that one as the present declaration."""
        path = self.folder / f"{name}.yaml"
        path.write_text(TEXTS[name])
        return Outside(self.world, reading=str(path))

    def drain(self, name: str) -> None:
        world = self.world
        world.store.names = _names(DECLARED[name])
        world.drain(config=_config(DECLARED[name]))

    def audit(self, name: str, **options) -> AuditResult:
        ports = dataclasses.replace(self.outside(name).ports, **options)
        return audit(choose_ranges(ports), ports, None, every_place=True)

    def replay(self, name: str, choice: Choice, *ranges: OffsetRange) -> ReplayProgress:
        """As `Connections.replay` does it."""
        world, proof = self.world, self.outside(name).ports
        plan = plan_replay(world.log, world.ledger, "iot_data", ranges).plan
        progress = ReplayProgress(plan.replay)
        for reread in choose_reading(plan, proof, choice):
            history, columns = proof.history, reread.declaration.quantities
            assert history is not None
            replay(
                dataclasses.replace(plan, replay=reread.ranges),
                dataclasses.replace(world.ports(), store=history.store_of(columns)),
                dataclasses.replace(
                    proof, declaration=reread.declaration, rows=history.rows_of(columns)
                ),
                RUN,
                _config(reread.declaration),
                progress=progress,
                added=reread.added,
            )
        return progress


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path)


def _names(declaration: Declaration) -> tuple[str, ...]:
    return tuple(quantity.name for quantity in declaration.quantities)


def _config(declaration: Declaration):
    return dataclasses.replace(CONFIG, rules=ReadingRules(declaration))


def defects(result: AuditResult) -> dict[Fate, int]:
    return {fate: result.fates[fate] for fate in DEFECTS if result.fates[fate]}


def replay_letter_by_wider(past: Past) -> None:
    """As `iot dead-letters replay` of the first record by the declaration of that day."""
    world, place = past.world, ("hot", T0_MS // MS_PER_DAY, T0_MS)
    world.declarations.keep_declaration(DECLARED["wider"])
    by = DeclaredReplay("", DECLARED["wider"].fingerprint)
    counts = Counts(stored=1, stored_by_day={DAY: 1}, cells_by_day={DAY: 2})
    world.ledger.record_replay("iot_data", moment_of(NOW_MS), "letters", [], counts, by)
    written = world.log.records()[0].produced_ms * 1000
    world.store.cells[place] = {"temperature": (written, 75.0), "humidity": (written, 50.0)}
    world.store.devices[place[1]]["hot"] = T0_MS


def in_ledgers(past: Past, *, of_cells: bool = False) -> int:
    """Rows of the day that both ledgers have as stored, or their cells."""
    parts = past.world.ledger.stored_by_day("iot_data", [0], [DAY], of_cells=of_cells)
    return sum(part[DAY] for part in parts)


def cells(past: Past) -> dict[str, float]:
    return {name: value for name, (_, value) in past.world.store.cells[KEY].items()}


_VALUES = st.sampled_from([0.0, 20.0, 75.0])
_RECORDS = st.tuples(st.sampled_from("ab"), st.integers(0, 2), _VALUES, _VALUES, st.integers(0, 1))


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(TEXTS)), st.lists(_RECORDS, max_size=5)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(sorted(TEXTS)),
)
def test_an_audit_judges_each_range_by_the_declaration_of_then(
    tmp_path_factory, runs, present: str
) -> None:
    past = Past(tmp_path_factory.getbasetemp())
    world, sent = past.world, 0
    for name, records in runs:
        for device, second, temperature, humidity, ticks in records:
            world.write(0, device, T0 + second, temperature, humidity)
            world.log.tick(ticks)
            sent += 1
        # Whatever shares its millisecond is settled by one declaration.
        world.log.tick()
        past.drain(name)
    result = past.audit(present)
    seen = result.proven + result.fates[Fate.IGNORED]
    assert (defects(result), seen, result.doubts) == ({}, sent, [])


def test_by_the_present_declaration_alone_such_rows_would_be_called_torn(past: Past) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("kelvin")
    assert cells(past) == {"temperature": 293.0, "humidity": 50.0}
    assert defects(past.audit("both")) == {}
    assert defects(past.audit("both", history=None)) == {Fate.TORN: 1}
    past.world.store.cells.clear()
    assert defects(past.audit("both")) == {Fate.LOST: 1}


def test_a_value_that_no_declaration_explains_is_found_in_a_range_of_then(past: Past) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("one")
    assert defects(past.audit("both")) == {}
    past.world.store.cells[KEY]["humidity"] = (NOW_MS * 1000, 50.0)
    assert defects(past.audit("both")) == {Fate.STRAY: 1}


def test_ranges_of_a_declaration_that_was_not_kept_are_named(past: Past) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("kelvin")
    past.world.declarations.kept.clear()
    result = past.audit("both")
    assert defects(result) == {Fate.TORN: 1}
    assert "1 offset (0:0-1) were ingested by" in result.doubts[0]
    past.world.declarations.keep_declaration(DECLARED["kelvin"])
    assert past.audit("both").doubts == []


@pytest.mark.parametrize(("then", "now"), [("kelvin", "both"), ("both", "one"), ("one", "both")])
def test_a_log_cut_after_a_change_is_in_doubt_from_where_it_was_cut(past, then, now) -> None:
    log = past.world.log
    for step in range(10):
        past.world.write(0, "d", T0 + step, 20.0, 50.0)
        log.tick()
    past.drain(then)
    log.cut(0, 5)
    log.tick(5_000)
    for step in range(8):
        past.world.write(0, "new", T0 + step, 20.0, 50.0)
        log.tick()
    proof = past.outside(now).ports
    _, checkpoints, _ = read_states(log, past.world.ledger, "iot_data")
    marks = log.watermarks("iot_data")
    comparison = LogComparison(log, proof)
    found = comparison.find_doubts("iot_data", checkpoints.values(), marks, 0.2)
    assert found[0].offsets == OffsetRange(0, 5, 10)
    # What the doubt says to do leaves no row torn.
    rebase(log, past.world.ledger, "iot_data", parse_target(["0:5"]), RUN, proof=proof)
    past.drain(now)
    assert defects(past.audit(now)) == {}


def test_a_dropped_column_is_not_compared_and_said(past: Past) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("both")
    del past.world.store.cells[KEY]["humidity"]
    result = past.audit("one")
    assert defects(result) == {}
    assert result.doubts == ["not compared: humidity, whose column was dropped"]


def proven(past: Past, name: str) -> bool:
    """Whether the one day is, by an audit of all with that as the present declaration."""
    ports = past.outside(name).ports
    (found,) = audit(choose_ranges(ports), ports, "a", every_place=True).days.values()
    return found.is_proven


def test_a_day_with_a_dropped_column_is_not_proven(past: Past) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("both")
    assert proven(past, "both")
    assert proven(past, "one")
    del past.world.store.cells[KEY]["humidity"]
    assert not proven(past, "one")
    assert not proven(past, "both")


def test_a_day_of_a_declaration_that_was_not_kept_is_not_proven(past: Past) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("both")
    past.world.declarations.keep_declaration(DECLARED["one"])
    assert proven(past, "wider")
    past.world.declarations.kept.pop(DECLARED["both"].fingerprint)
    assert not proven(past, "wider")


def test_a_row_whose_record_the_present_declaration_ignores_is_not_proven(past: Past) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("both")
    past.world.declarations.kept.clear()
    past.world.store.cells.clear()
    assert not proven(past, "ignoring")
    past.world.declarations.keep_declaration(DECLARED["ignoring"])
    assert not proven(past, "ignoring")


def test_a_trace_reads_a_record_as_it_was_ingested_and_says_by_what(past: Past) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("kelvin")
    found = trace(past.outside("both").ports, "d", T0_MS)
    assert found.made_by is not None
    assert found.made_by[3:] == (293.0, 50.0)
    assert found.declarations == {"0:0": DECLARED["kelvin"].fingerprint}


def test_rows_of_the_last_run_are_read_back_as_it_read_them(past: Past) -> None:
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("kelvin")
    found = read_back_run(past.outside("both").ports, [OffsetRange(0, 0, 1)])
    assert (found.rows, found.not_equal) == (1, 0)


def test_what_follows_a_run_reads_the_end_of_the_ledger_only(past: Past, monkeypatch) -> None:
    asked = []
    read = FakeLedger.read_entries

    def note(ledger: FakeLedger, *args, **options):
        found = read(ledger, *args, **options)
        asked.append(len(found))
        return found

    for second, name in enumerate(["one", *["both"] * 30]):
        past.world.write(0, "d", T0 + second, 20.0, 50.0)
        past.world.log.tick()
        past.drain(name)
    ports = past.outside("both").ports
    with monkeypatch.context() as patch:
        patch.setattr(FakeLedger, "read_entries", note)
        found = read_back_run(ports, [OffsetRange(0, 30, 31)])
        assert max(asked) <= 20
        # Where nothing else is used, whoever is given these ports does not ask again.
        looked = as_ingested(ports, newest=20)
        asked.clear()
        assert (as_ingested(looked).ingested, asked) == (None, [])
    assert (found.rows, found.not_equal) == (1, 0)
    assert as_ingested(ports).ingested is not None


def test_a_torn_row_of_then_is_mended_as_it_was_read_then(tmp_path: Path) -> None:
    past = Past(tmp_path, partitions=17)
    for partition, temperature in ((0, 50.0), (16, 1.0)):
        past.world.write(partition, "d", T0, temperature, 100.0 - temperature)
        past.world.store.names = _names(DECLARED["kelvin"])
        past.world.drain(
            past.world.plan(partitions=[partition]), config=_config(DECLARED["kelvin"])
        )
    assert cells(past) == {"temperature": 323.0, "humidity": 99.0}
    outside = past.outside("both")
    mend(outside.ports, past.world.store, RUN, "d", T0_MS, "me", lambda: NOW_MS / 1000)
    assert cells(past) == {"temperature": 323.0, "humidity": 50.0}
    assert defects(audit(choose_ranges(outside.ports), outside.ports, None)) == {}


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


_FEW = st.lists(st.tuples(st.integers(0, 2), _VALUES, st.booleans()), min_size=1, max_size=5)


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
