"""Readings that are told in parts: a micro-batch by cell, against one cell after the other."""

from collections import Counter
from collections.abc import Sequence
from datetime import date
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.ingest.micro_batch import MicroBatch, MicroBatchBuilder
from iot_pipeline.core.ingest.parts import join_parts
from iot_pipeline.core.reading.chunks import chunk_records
from iot_pipeline.core.reading.messages import ReadingRules, Record
from iot_pipeline.core.reading.write_times import record_of
from iot_pipeline.core.times import day_of
from iot_pipeline_tests.core.reading.declared import of_one
from iot_pipeline_tests.core.reading.parts import (
    DAY_MS,
    MS,
    ONE_REQUIRED,
    PRODUCED_MS,
    RULES,
    Drawn,
    Key,
    cells_of,
    decoder_of,
    drawn_records,
    record,
    records_of,
    rows_of,
)


def build(
    records: Sequence[Record], rules: ReadingRules, rivals: Sequence[Record] = ()
) -> MicroBatch:
    partitions = {item.partition for item in [*records, *rivals]}
    starts = {
        p: min((r.offset for r in records if r.partition == p), default=0) for p in partitions
    }
    ends = {
        p: max((r.offset + 1 for r in records if r.partition == p), default=0) for p in partitions
    }
    builder = MicroBatchBuilder(starts, decoder_of(rules))
    for chunk in chunk_records(rivals):
        builder.compete(chunk)
    for chunk in chunk_records(records):
        builder.add(chunk)
    return builder.build(ends)


class Table:
    """Cells as Cassandra settles them: the higher write time, of equal ones the larger value."""

    def __init__(self) -> None:
        self.cells: dict[tuple[Key, int], tuple[int, Any]] = {}

    def write(self, batch: MicroBatch, order: Random, share: float = 1.0) -> None:
        rows = [
            ((place[0], ms), row)
            for place, group in batch.groups.items()
            for ms, row in group.items()
        ]
        order.shuffle(rows)
        for key, row in rows[: round(len(rows) * share)]:
            for at, value in enumerate(row[3:]):
                if value is not None:
                    cell = (row[0], value)
                    self.cells[key, at] = max(cell, self.cells.get((key, at), cell))


@settings(max_examples=100)
@given(drawn_records, st.sampled_from([RULES, ONE_REQUIRED]))
def test_a_record_is_stored_where_it_has_a_cell_and_superseded_where_all_are_anothers(
    drawn: Drawn, rules: ReadingRules
) -> None:
    records = records_of(drawn)
    won, rows = cells_of(records, rules), rows_of(records, rules)
    owners = {who for _, who in won.values()}
    batch = build(records, rules)
    written = [record_of(row) for _, group in batch.groups.items() for row in group.values()]
    assert sorted(written) == sorted(owners)
    lost = {
        record_of(row): all(
            value is None or won[key, at][0] == value for at, value in enumerate(row[3:])
        )
        for key, of_key in rows.items()
        for row in of_key
        if record_of(row) not in owners
    }
    counts = batch.counts.values()
    assert sum(one.stored for one in counts) == len(owners)
    assert sum(one.repeated for one in counts) == sum(lost.values())
    assert sum(one.superseded for one in counts) == len(lost) - sum(lost.values())
    by_day: Counter[date] = Counter()
    for one in counts:
        by_day.update(one.cells_by_day)
    assert by_day == Counter(day_of(key[1] // DAY_MS) for key, _ in won)
    batch.count_cells_again()
    again: Counter[date] = Counter()
    for one in batch.counts.values():
        again.update(one.cells_by_day)
    assert again == by_day
    behind = {record_of(one.row): one.is_repeat for lost in batch.losers().values() for one in lost}
    assert behind == lost


@settings(max_examples=100)
@given(
    drawn_records,
    st.lists(st.integers(1, 39), max_size=4),
    st.sampled_from([RULES, ONE_REQUIRED]),
    st.randoms(use_true_random=False),
)
def test_the_table_has_of_each_cell_the_latest_word_whatever_was_written_when_and_twice(
    drawn: Drawn, cuts: list[int], rules: ReadingRules, order: Random
) -> None:
    records = records_of(drawn)
    ends = [*sorted(set(cuts)), len(records)]
    batches = []
    for start, end in zip([0, *ends], ends, strict=False):
        own = records[start:end]
        # What a run does where a micro-batch begins inside a millisecond.
        first = {item.partition: item.produced_ms for item in reversed(own)}
        rivals = [r for r in records[:start] if first.get(r.partition) == r.produced_ms]
        batches.append(build(own, rules, rivals))
    table = Table()
    for batch in order.choices(batches, k=3):
        table.write(batch, order, share=order.random())  # a run that died
    order.shuffle(batches)
    for batch in batches:
        table.write(batch, order)
    expected = cells_of(records, rules)
    assert {cell: value for cell, (_, value) in table.cells.items()} == {
        cell: value for cell, (value, _) in expected.items()
    }


@pytest.mark.parametrize("rules", [RULES, ONE_REQUIRED])
def test_no_group_has_two_rows_of_one_key(rules: ReadingRules) -> None:
    """They leave in requests that name each row by its time."""
    records = [
        record(0, at, PRODUCED_MS + at, device, MS + ms, float(at), *cells)
        for at, (device, ms, *cells) in enumerate(
            [
                ("a", 0, 1, None),
                ("b", 0, 1, None),
                ("a", 0, None, "z"),
                ("a", 1, None, None),
                ("b", 0, None, None),
            ]
        )
    ]
    batch = build(records, rules)
    groups = list(batch.groups.items())
    # The day changes between the two milliseconds of a.
    assert [(place[0], place[1] - MS // DAY_MS, list(rows)) for place, rows in groups] == [
        ("a", 0, [MS]),
        ("a", 1, [MS + 1]),
        ("b", 0, [MS]),
        ("a", 0, [MS]),
        ("b", 0, [MS]),
    ]
    assert [len(one) for one in batch.groups.rows_of("a", MS // DAY_MS)] == [6, 6]


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("rules", [RULES, ONE_REQUIRED])
def test_of_equal_write_times_the_first_offset_has_the_cell_though_its_value_is_smaller(
    rules: ReadingRules, is_cut: bool
) -> None:
    first = record(0, 0, PRODUCED_MS, "a", MS, 1.0, None, "a")
    second = record(0, 62, PRODUCED_MS, "a", MS, 2.0, 5, None)
    batches = (
        [build([first], rules), build([second], rules, [first])]
        if is_cut
        else [build([first, second], rules)]
    )
    for order in (batches, batches[::-1]):
        table = Table()
        for batch in order:
            table.write(batch, Random(1))
        assert [value for _, (_, value) in sorted(table.cells.items())] == [1.0, 5, "a"]
    assert sum(one.stored for batch in batches for one in batch.counts.values()) == 2


def test_where_a_row_is_refused_what_it_won_is_counted_for_who_comes_next() -> None:
    """It is written: only cells of one write time are left out."""
    older = record(0, 0, PRODUCED_MS, "a", MS, 1.0, 5, None)
    newer = record(0, 1, PRODUCED_MS + 1, "a", MS, 2.0, None, None)
    batch = build([older, newer], RULES)
    day = day_of(MS // DAY_MS)
    assert batch.counts[0].cells_by_day == {day: 2}
    assert [row[3:] for _, rows in batch.groups.items() for row in rows.values()] == [
        (2.0, None, None),
        (1.0, 5, None),
    ]
    batch.reject(newer, decoder_of(RULES))
    batch.count_cells_again({(0, 1)})
    assert (batch.counts[0].stored, batch.counts[0].rejected) == (1, 1)
    assert batch.counts[0].cells_by_day == {day: 2}


def test_where_every_reading_is_whole_its_cells_are_counted_with_the_rows() -> None:
    rules = ReadingRules(of_one(device="key", time="{path: t, as: milliseconds}"))
    records = [
        Record(0, at, PRODUCED_MS, b"a", f'{{"t": {MS - at}, "x": 1}}'.encode()) for at in (0, 1)
    ]
    batch = build(records, rules)
    day = day_of(MS // DAY_MS)
    assert batch.counts[0].cells_by_day == batch.counts[0].stored_by_day == {day: 2}
    batch.reject(records[0], decoder_of(rules))
    assert batch.counts[0].cells_by_day == batch.counts[0].stored_by_day == {day: 1}


@settings(max_examples=100)
@given(drawn_records, st.sampled_from([RULES, ONE_REQUIRED]))
def test_who_looks_at_readings_sees_each_once_with_all_that_was_told(
    drawn: Drawn, rules: ReadingRules
) -> None:
    records = records_of(drawn)
    won = cells_of(records, rules)
    groups = join_parts(build(records, rules).groups)
    found = {}
    for place, rows in groups.items():
        for ms, row in rows.items():
            assert ((place[0], ms), 0) not in found
            found |= {((place[0], ms), at): value for at, value in enumerate(row[3:])}
    assert {cell: value for cell, value in found.items() if value is not None} == {
        cell: value for cell, (value, _) in won.items()
    }
    latest = {key: rows[0][0] for key, rows in rows_of(records, rules).items()}
    times = {(place[0], ms): row[0] for place, rows in groups.items() for ms, row in rows.items()}
    assert times == latest
    assert len({place for place, _ in groups.items()}) == len(groups)
