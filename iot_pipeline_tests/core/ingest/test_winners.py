"""A micro-batch in columns against the plain way: one record after the other into a dict."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.ingest.micro_batch import MicroBatch, MicroBatchBuilder
from iot_pipeline.core.ingest.winners import _order_by, group_rows
from iot_pipeline.core.reading.chunks import chunk_records
from iot_pipeline.core.reading.columns import Columns, DeviceCodes
from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.messages import Reading, ReadingRules, Record
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.reading.write_times import Row, RowsByTime, rank, record_of, write_time_us
from iot_pipeline.core.times import MS_PER_DAY, day_of
from iot_pipeline_tests.core.reading.encoded import encode_reading

_SECONDS = 1_735_516_799.0  # the last second of a day
_PRODUCED_MS = 1_735_520_000_000


@dataclass
class _Plain:
    """What a micro-batch is, said as slowly as it can be."""

    groups: dict[Place, RowsByTime] = field(default_factory=dict)
    losers: dict[tuple[int, int], list[Row]] = field(default_factory=lambda: defaultdict(list))
    aged_out: int = 0
    repeated: int = 0
    superseded: int = 0
    rejected: list[Record] = field(default_factory=list)

    @classmethod
    def of(cls, records: Sequence[Record], own_from: dict[int, int], aged_ms: int) -> "_Plain":
        plain, decoder = cls(), ReadingDecoder(ReadingRules())
        lost: list[tuple[Place, int, Row]] = []
        for record in records:
            reading = decoder.decode(record.value)
            is_own = record.offset >= own_from[record.partition]
            if not isinstance(reading, Reading):
                plain.rejected += [record] if is_own else []
            elif record.produced_ms < aged_ms:
                plain.aged_out += is_own
            else:
                ms = timestamp_ms(reading.timestamp)
                row: Row = (
                    write_time_us(record.produced_ms, record.offset, record.partition),
                    record.offset,
                    record.partition,
                    reading.temperature,
                    reading.humidity,
                )
                place = reading.device_id, ms // MS_PER_DAY
                group = plain.groups.setdefault(place, {})
                rival = group.setdefault(ms, row)
                winner, loser = sorted((rival, row), key=rank) if rival is not row else (row, None)
                group[ms] = winner
                lost += [(place, ms, loser)] if loser else []
        for place, ms, loser in lost:
            if loser[1] >= own_from[loser[2]]:
                winner = plain.groups[place][ms]
                plain.losers[record_of(winner)].append(loser)
                plain.repeated += loser[3:] == winner[3:]
                plain.superseded += loser[3:] != winner[3:]
        plain.groups = {
            place: own
            for place, group in plain.groups.items()
            if (own := {ms: r for ms, r in group.items() if r[1] >= own_from[r[2]]})
        }
        return plain


_names = st.sampled_from(["a", "b", "long name", "é" * 40, "x" * 256, "", "tab\t"])
# Times that grow, or that come back, collide, and fall on two days.
_steps = st.sampled_from([0.0, 0.001, 0.001, 0.5, -0.001, 1.0, 86_400.0, -86_400.0])
_values = st.sampled_from([0.0, -0.0, 1.0, 99.9])
_record = st.tuples(
    st.sampled_from([0, 1, 16]),
    st.sampled_from([1, 1, 2, 62]),
    st.sampled_from([0, 0, 1]),
    _names,
    _steps,
    _values,
    st.integers(0, 12),
)


def _records(drawn: list[tuple[int, int, int, str, float, float, int]]) -> list[Record]:
    at: dict[int, int] = defaultdict(int)
    produced: dict[int, int] = defaultdict(lambda: _PRODUCED_MS)
    clocks: dict[str, float] = defaultdict(lambda: _SECONDS)
    records = []
    for partition, skip, ms, name, step, value, kind in drawn:
        at[partition] += skip
        produced[partition] += ms
        clocks[name] += step
        message = encode_reading(Reading(name, clocks[name], value, 50.0))
        bad = {0: b"not json", 1: message[:-1] + b',"more":1}'}
        records.append(
            Record(partition, at[partition], produced[partition], None, bad.get(kind, message))
        )
    return records


def _built(records: list[Record], starts: dict[int, int], aged_ms: int) -> MicroBatch:
    decoder, codes = ReadingDecoder(ReadingRules()), DeviceCodes()
    builder = MicroBatchBuilder(dict(starts), decoder, codes, aged_ms)
    for chunk in chunk_records(records):
        own = sum(offset < starts[chunk.partition] for offset in chunk.offsets)
        if own:
            builder.compete(chunk.part(0, own))
        if own < len(chunk):
            builder.add(chunk.part(own, len(chunk)))
    ends = {
        p: max([starts[p], *(r.offset + 1 for r in records if r.partition == p)]) for p in starts
    }
    return builder.build(ends)


@settings(max_examples=300)
@given(
    st.lists(_record, max_size=60),
    st.tuples(*[st.integers(0, 40)] * 3),
    st.sampled_from([0, 0, _PRODUCED_MS + 3]),
)
def test_it_is_what_one_record_after_the_other_would_make(
    drawn: list[tuple[int, int, int, str, float, float, int]],
    first: tuple[int, int, int],
    aged_ms: int,
) -> None:
    records, starts = _records(drawn), dict(zip((0, 1, 16), first, strict=True))
    plain, batch = _Plain.of(records, starts, aged_ms), _built(records, starts, aged_ms)
    found = dict(batch.groups.items())
    assert found == plain.groups
    for place, rows in plain.groups.items():
        assert str(list(found[place].items())) == str(list(rows.items())), "as they arrived"
    assert {p: sorted(lost.row for lost in rows) for p, rows in batch.losers().items()} == {
        p: sorted(rows) for p, rows in plain.losers.items()
    }
    places = [(r.partition, r.offset) for r in plain.rejected]
    assert [(x.record.partition, x.record.offset) for x in batch.dead_letters] == sorted(places)
    by_day: dict[int, dict[object, int]] = defaultdict(lambda: defaultdict(int))
    for (_, day_number), rows in plain.groups.items():
        for row in rows.values():
            by_day[row[2]][day_of(day_number)] += 1
    counts = batch.counts
    assert {p: c.stored_by_day for p, c in counts.items() if c.stored_by_day} == by_day
    assert sum(c.aged_out for c in counts.values()) == plain.aged_out
    assert sum(c.repeated for c in counts.values()) == plain.repeated
    assert sum(c.superseded for c in counts.values()) == plain.superseded


def _columns(codes: list[int], times: list[int], lengths: list[int]) -> Columns:
    known = DeviceCodes()
    for number, length in enumerate(lengths):
        known.add(f"{number:06d}".rjust(length, "x"))
    columns, count = Columns.of(known, QUANTITIES), len(codes)
    numbers = np.arange(count)
    columns.extend(
        np.array(times, np.int64),
        numbers,
        numbers,
        0,
        np.array(codes, np.int32),
        [np.zeros(count) for _ in QUANTITIES],
        [None for _ in QUANTITIES],
    )
    columns.trim()
    return columns


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=50),
    st.lists(st.integers(6, 9), min_size=10, max_size=10),
)
def test_rows_of_ids_of_one_length_are_neighbours_and_times_that_grow_stay_as_they_came(
    codes: list[int], lengths: list[int]
) -> None:
    groups, losers = group_rows(_columns(codes, list(range(len(codes))), lengths))
    found = [lengths[code] for code in groups.codes.tolist()]
    assert found == sorted(found)
    assert groups.rows == len(codes)
    assert not len(losers.losers)
    for code, start, count in zip(
        groups.codes.tolist(), groups.starts.tolist(), groups.counts.tolist(), strict=True
    ):
        places = groups.order[start : start + count].tolist()
        assert places == [at for at, other in enumerate(codes) if other == code]


def test_a_day_that_comes_back_after_another_is_one_group_in_the_order_of_arrival() -> None:
    times = [5, MS_PER_DAY + 1, 9, 3, MS_PER_DAY, 7]
    groups, losers = group_rows(_columns([0, 0, 1, 0, 0, 0], times, [6, 6]))
    found = [(place[1], list(rows)) for place, rows in groups.items()]
    assert found == [(0, [5, 3, 7]), (1, [MS_PER_DAY + 1, MS_PER_DAY]), (0, [9])]
    assert not len(losers.losers)


@given(st.lists(st.integers(0, 200_000)), st.sampled_from([1 << 16, 200_001]))
def test_more_devices_than_sixteen_bits_hold_are_ordered_all_the_same(
    numbers: list[int], count: int
) -> None:
    found = _order_by(np.array([n % count for n in numbers], np.int32), count)
    assert found.tolist() == sorted(range(len(numbers)), key=lambda at: numbers[at] % count)


_groups = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.integers(0, 2)),
    st.dictionaries(
        st.integers(0, 99), st.tuples(st.just(5), st.integers(0, 9), st.integers(0, 2))
    ).map(lambda rows: {ms: (*row, 1.0, 2.0) for ms, row in rows.items()}),
)


@given(_groups, st.lists(st.integers(0, 2)))
def test_groups_without_some_kafka_partitions_keep_the_other_rows(
    made: dict[Place, RowsByTime], gone: list[int]
) -> None:
    groups = RowGroups.of(made)
    left = groups.without_partitions(gone)
    assert dict(groups.items()) == {place: rows for place, rows in made.items() if rows}
    expected = {
        place: {ms: row for ms, row in rows.items() if row[2] not in gone}
        for place, rows in made.items()
    }
    assert dict(left.items()) == {place: rows for place, rows in expected.items() if rows}
    assert left.rows == sum(left.rows_by_partition().values())
    for place, rows in expected.items():
        assert left.rows_of(*place) == list(rows.values())


@given(_groups)
def test_chosen_groups_are_those_rows(made: dict[Place, RowsByTime]) -> None:
    groups = RowGroups.of(made)
    numbers = list(range(len(groups)))[::-2]
    chosen = groups.select(numbers)
    assert [groups.place(number) for number in numbers] == [place for place, _ in chosen.items()]
    assert chosen.columns.rows(chosen.places()) == [
        row for _, rows in chosen.items() for row in rows.values()
    ]
