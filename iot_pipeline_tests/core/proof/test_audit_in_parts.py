"""An audit of readings that are told in parts: each cell, against one cell after the other."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iot_pipeline.core.proof.audit import Judge
from iot_pipeline.core.proof.audit_result import AuditResult, Fate
from iot_pipeline.core.proof.deletions import Deletions
from iot_pipeline.core.proof.log_reader import LogReader
from iot_pipeline.core.proof.mended import MendedRows
from iot_pipeline.core.proof.read_back import RowState, judge_part, should_write, without_ties
from iot_pipeline.core.proof.row_sums import RowSums
from iot_pipeline.core.proof.stretches import LetterIndex, RawRecords, Stretch
from iot_pipeline.core.reading.messages import ReadingRules, Record
from iot_pipeline.core.reading.write_times import Row, write_time_us
from iot_pipeline.core.times import day_of
from iot_pipeline_tests.core.reading.parts import (
    DAY_MS,
    MS,
    ONE_REQUIRED,
    PRODUCED_MS,
    RULES,
    Drawn,
    Key,
    cells_of,
    drawn_records,
    record,
    records_of,
    rows_of,
)

# Of each cell that is there, its value and its write time.
Cells = dict[tuple[Key, int], tuple[Any, int]]


def table_of(records: Sequence[Record], rules: ReadingRules) -> Cells:
    """The table as it has to be."""
    by_place = {(r.partition, r.offset): r for r in records}
    found: Cells = {}
    for cell, (value, (partition, offset)) in cells_of(records, rules).items():
        produced_ms = by_place[partition, offset].produced_ms
        found[cell] = value, write_time_us(produced_ms, offset, partition)
    return found


@cache
def reader_of(rules: ReadingRules) -> LogReader:
    return LogReader(rules)


def audit(
    records: Sequence[Record], cuts: Sequence[int], table: Cells, rules: ReadingRules
) -> tuple[AuditResult, bool]:
    """What an audit of stretches finds, and whether its sums are those of the table."""
    result, reader = AuditResult(), reader_of(rules)
    judge = Judge(
        rules.quantities, LetterIndex(), Deletions([]), MendedRows(), lambda _: 0, [], result
    )
    stored: dict[Key, tuple[Any, ...]] = {}
    for key in {key for key, _ in table}:
        cells = [table.get((key, number), (None, None)) for number in range(3)]
        stored[key] = (*(value for value, _ in cells), *(us for _, us in cells))
    everything = rows_of(records, rules)
    for start, end in pairwise(
        sorted({0, len(records), *(at % (len(records) + 1) for at in cuts)})
    ):
        stretch, part = Stretch(reader), records[start:end]
        stretch.add(
            RawRecords(
                [r.partition for r in part],
                [r.offset for r in part],
                [r.produced_ms for r in part],
                [r.value for r in part],
                (),
                [r.message_key for r in part],
            )
        )
        for place, group in stretch.groups.items():
            found = {ms: stored[place[0], ms] for ms in group if (place[0], ms) in stored}
            for tie in judge.judge_rows(place, sorted(group), group, found):
                rivals = everything[tie.place[0], tie.timestamp_ms]
                judge.settle_tie(tie, [row for row in rivals if row[0] == tie.row[0]])
    there = RowSums(3)
    for (device, ms), row in stored.items():
        there.add((device, ms // DAY_MS), 0, *(us or 0 for us in row[3:]))
    among = {RowSums.bucket_of((device, ms // DAY_MS)) for device, ms in [*stored, *everything]}
    return result, not judge.sums.differing(there, among)


def told(result: AuditResult) -> dict[Fate, int]:
    return {fate: count for fate, count in result.fates.items() if count}


_rules = st.sampled_from([RULES, ONE_REQUIRED])
_cuts = st.lists(st.integers(0, 40), max_size=3)


@settings(max_examples=100)
@given(drawn_records, _cuts, _rules)
def test_of_a_table_that_is_right_every_record_has_its_fate_and_no_cell_is_left(
    drawn: Drawn, cuts: list[int], rules: ReadingRules
) -> None:
    records = records_of(drawn)
    table, won = table_of(records, rules), cells_of(records, rules)
    result, is_equal = audit(records, cuts, table, rules)
    owners = Counter(who for _, who in won.values())
    found = told(result)
    assert set(found) <= {Fate.STORED, Fate.SUPERSEDED, Fate.REPEATED}
    rows = sum(map(len, rows_of(records, rules).values()))
    assert sum(found.values()) == rows
    if not any(at % (len(records) + 1) for at in cuts):
        # Of equal write times in two stretches each may take a cell for its own.
        assert found.get(Fate.STORED, 0) == len(owners)
        assert is_equal
        assert sum(result.cells_by_day.values()) == len(table)
        by_day = Counter(day_of(ms // DAY_MS) for (_, ms), _ in table)
        assert result.cells_by_day == by_day


@settings(max_examples=100)
@given(drawn_records, _cuts, _rules, st.data())
def test_a_cell_that_is_gone_older_or_changed_is_a_defect_of_the_record_that_wins_it(
    drawn: Drawn, cuts: list[int], rules: ReadingRules, data: st.DataObject
) -> None:
    records = records_of(drawn)
    table = table_of(records, rules)
    assume(table)
    cell = data.draw(st.sampled_from(sorted(table)))
    value, written_us = table[cell]
    other = {0: 99.0, 1: 99, 2: "other"}[cell[1]]
    change = data.draw(st.sampled_from(["gone", "older", "changed"]))
    if change == "gone":
        del table[cell]
    else:
        table[cell] = (value, written_us - 992_000) if change == "older" else (other, written_us)
    found = told(result := audit(records, cuts, table, rules)[0])
    (defects,) = {fate: found[fate] for fate in (Fate.LOST, Fate.TORN) if fate in found}.items()
    assert defects[0] is (Fate.TORN if change == "changed" else Fate.LOST)
    # Of equal write times each record that has the cell misses it.
    owner = cells_of(records, rules)[cell][1]
    assert owner in {(finding.partition, finding.offset) for finding in result.findings}


def _stored(**cells: tuple[Any, int]) -> tuple[Any, ...]:
    found = [cells.get(name, (None, None)) for name in "xnz"]
    return (*(value for value, _ in found), *(us for _, us in found))


def test_a_cell_that_no_record_wrote_makes_other_sums() -> None:
    one = record(0, 0, PRODUCED_MS, "a", MS, 1.0, None, None)
    table = table_of([one], RULES)
    for number, us in ((1, PRODUCED_MS * 1000), (2, 5)):
        result, is_equal = audit([one], [], {**table, (("a", MS), number): (7, us)}, RULES)
        assert told(result) == {Fate.STORED: 1}
        assert not is_equal


def test_a_row_of_two_records_of_one_write_time_is_torn_where_neither_is_whole() -> None:
    """As Cassandra makes it of two that never met in memory: the larger of each cell."""
    pair = [
        record(0, 0, PRODUCED_MS, "a", MS, 1.0, 9, None),
        record(0, 62, PRODUCED_MS, "a", MS, 2.0, 5, None),
    ]
    us = PRODUCED_MS * 1000
    key = ("a", MS)
    torn: Cells = {(key, 0): (2.0, us), (key, 1): (9, us)}
    for cuts in ([], [1]):
        assert told(audit(pair, cuts, torn, RULES)[0])[Fate.TORN] == 1
        for whole in ((1.0, 9), (2.0, 5)):
            table: Cells = {(key, at): (value, us) for at, value in enumerate(whole)}
            assert Fate.TORN not in told(audit(pair, cuts, table, RULES)[0])


ROW: Row = (100, 7, 0, 20.0, None, "a")


def test_a_part_is_judged_and_written_again_by_the_cells_it_has() -> None:
    for stored, state, is_written in (
        (None, RowState.MISSING, True),
        (_stored(n=(5, 300)), RowState.MISSING, True),
        (_stored(x=(20.0, 100), z=("a", 100)), RowState.EQUAL, False),
        (_stored(x=(20.0, 100), n=(5, 100), z=("a", 100)), RowState.EQUAL, False),
        (_stored(x=(21.0, 101), z=("a", 100)), RowState.NEWER, False),
        (_stored(x=(20.0, 100), z=("b", 99)), RowState.OLDER, True),
        (_stored(x=(20.0, 100)), RowState.MISSING, True),
        (_stored(x=(21.0, 100), z=("a", 100)), RowState.TIED, False),
        # The other cell is restored, and this one not mixed.
        (_stored(x=(21.0, 100)), RowState.MISSING, True),
    ):
        assert judge_part(ROW, stored) is state
        assert should_write(without_ties(ROW, stored), stored) is is_written
    assert without_ties(ROW, _stored(x=(21.0, 100)))[3:] == (None, None, "a")
