"""Ranges that were ingested by several declarations, on fakes: audited, traced and mended."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.ledger.rebase import parse_target
from iot_pipeline.core.proof.audit_result import Fate
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.stages.ingest.planning import read_states
from iot_pipeline.stages.proof.as_ingested import as_ingested
from iot_pipeline.stages.proof.audit import audit
from iot_pipeline.stages.proof.choosing import choose_ranges
from iot_pipeline.stages.proof.cut_logs import LogComparison
from iot_pipeline.stages.proof.mend import mend
from iot_pipeline.stages.proof.rebase import rebase
from iot_pipeline.stages.proof.trace import read_back_run, trace
from iot_pipeline_tests.stages.fake_ledger import FakeLedger
from iot_pipeline_tests.stages.fakes import NOW_MS
from iot_pipeline_tests.stages.proof.past import (
    DECLARED,
    KEY,
    RUN,
    T0_MS,
    TEXTS,
    VALUES,
    Past,
    cells,
    config_of,
    defects,
    names_of,
)
from iot_pipeline_tests.stages.world import T0

_RECORDS = st.tuples(st.sampled_from("ab"), st.integers(0, 2), VALUES, VALUES, st.integers(0, 1))


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
        past.world.store.names = names_of(DECLARED["kelvin"])
        past.world.drain(
            past.world.plan(partitions=[partition]), config=config_of(DECLARED["kelvin"])
        )
    assert cells(past) == {"temperature": 323.0, "humidity": 99.0}
    outside = past.outside("both")
    mend(outside.ports, past.world.store, RUN, "d", T0_MS, "me", lambda: NOW_MS / 1000)
    assert cells(past) == {"temperature": 323.0, "humidity": 50.0}
    assert defects(audit(choose_ranges(outside.ports), outside.ports, None)) == {}
