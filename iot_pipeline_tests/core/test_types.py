"""Quantities of every type, in columns, in rows, in rollups and in what is known of devices."""

import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.fleet.kept_states import decode, encode, form_of
from iot_pipeline.core.fleet.problems import Trouble
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.series import Series
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.fleet.states import FleetStates
from iot_pipeline.core.ingest.micro_batch import MicroBatchBuilder
from iot_pipeline.core.ingest.winners import group_rows
from iot_pipeline.core.reading.chunks import RecordChunk
from iot_pipeline.core.reading.columns import DTYPES, Columns, DeviceCodes, bytes_per_row
from iot_pipeline.core.reading.declaration import SEED
from iot_pipeline.core.reading.decoding import ReadingDecoder
from iot_pipeline.core.reading.kept_values import kept_columns, kept_values
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.reading.quantities import RANGES, first_number
from iot_pipeline.core.reading.read_chunk import read_chunk
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.core.rollups.statistics import (
    as_cells,
    columns_of,
    from_cells,
    is_same,
    merge,
    summarize,
    types_of,
)
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.settings_reading import declared_limits
from iot_pipeline_tests.core.reading.air import KINDS
from iot_pipeline_tests.core.reading.declared import of_one

NOW_MS = 1_772_409_600_000
TYPES = [str, float, float, int, int, bool]
VALUES = ("ok", 612.0, 0.5, -7, 2**40 + 1, True)


def columns_of_kinds(rows: int) -> Columns:
    codes = DeviceCodes()
    columns = Columns.of(codes, KINDS)
    columns.extend(
        np.arange(rows) + NOW_MS,
        (np.arange(rows) + NOW_MS) * 1000,
        np.arange(rows),
        0,
        np.full(rows, codes.add("d"), np.int32),
        [
            np.fromiter((value for _ in range(rows)), column.dtype, rows)
            for value, column in zip(VALUES, columns.values, strict=True)
        ],
        [None for _ in VALUES],
    )
    columns.trim()
    return columns


def test_a_value_comes_out_of_its_column_as_what_it_was() -> None:
    columns = columns_of_kinds(5_000)
    groups, losers = group_rows(columns)
    assert not len(losers.losers)
    ((_, rows),) = groups.items()
    assert len(rows) == 5_000
    for row in rows.values():
        assert row[3:] == VALUES
        assert [type(value) for value in row[3:]] == TYPES
    again = RowGroups.of(dict(groups.items()))
    assert dict(again.items()) == dict(groups.items())


def test_messages_become_columns_of_their_types_the_plain_ones_and_the_others() -> None:
    decoder = ReadingDecoder(ReadingRules(SEED.with_quantities(KINDS)))
    names = [quantity.name for quantity in KINDS]
    messages = [
        {
            "device_id": f"d{n}",
            "timestamp": 1_772_409_600 + n,
            **dict(zip(names, VALUES, strict=True)),
        }
        for n in range(3)
    ]
    messages[1]["more"] = 1
    messages.append({**messages[0], "errors": 2**31})
    messages.append({**messages[0], "is_open": 1})
    values = [msgspec.json.encode(message) for message in messages]
    chunk = RecordChunk(0, [*range(5)], [NOW_MS] * 5, values, [None] * 5, [None] * 5)
    read = read_chunk(decoder, chunk)
    assert [at for at, _ in read.rejections] == [3, 4]
    assert [column.dtype for column in read.values] == [DTYPES[item.type] for item in KINDS]
    assert [tuple(column.tolist()) for column in read.values] == [(value,) * 3 for value in VALUES]


def test_the_texts_of_a_micro_batch_are_counted() -> None:
    def kept_bytes(text: str) -> int:
        rules = ReadingRules(SEED.with_quantities((KINDS[0], KINDS[1])))
        builder = MicroBatchBuilder({0: 0}, ReadingDecoder(rules))
        said = {"device_id": "d", "timestamp": NOW_MS / 1000, "state": text, "co2": 1.0}
        builder.add(RecordChunk(0, [0], [NOW_MS], [msgspec.json.encode(said)], [None], [None]))
        return builder.kept_bytes

    assert kept_bytes("x" * 10_000) - kept_bytes("") == 10_000


def test_a_device_whose_text_changes_is_calm() -> None:
    states = FleetStates(QualityLimits(KINDS))
    for second, text in enumerate(("ok", "low")):
        ms = NOW_MS + second * 1000
        rows: RowsByTime = {ms: (ms * 1000, second, 0, text, *VALUES[1:])}
        states.fold(RowGroups.of({("d", NOW_MS // MS_PER_DAY): rows}))
    assert states.devices["d"].values[0] == "low"


def test_limits_of_a_number_are_those_of_its_column_and_others_have_none() -> None:
    kinds = (
        "{f: {type: float}, i: {type: int, max: 9999999999}, t: {type: text}, b: {type: boolean}}"
    )
    found = of_one(quantities=kinds)
    limits = [(item.least, item.greatest) for item in found.quantities[:2]]
    assert limits == [RANGES["float"], RANGES["int"]]
    names = declared_limits(found).model_fields
    assert {"f_max", "i_min", "jump_i"} <= names.keys()
    assert not {"t_max", "b_min", "jump_t", "deviation_b"} & names.keys()


def test_a_row_takes_about_what_is_said_of_it() -> None:
    columns = columns_of_kinds(1_000)
    arrays: list[np.ndarray] = [
        columns.ms,
        columns.written_us,
        columns.offset,
        columns.partition,
        columns.code,
    ]
    taken = sum(array.itemsize for array in [*arrays, *columns.values])
    assert bytes_per_row(KINDS) == taken


@given(st.floats(-3e38, 3e38))
def test_what_a_column_of_floats_keeps_is_the_nearest_of_32_bits(value: float) -> None:
    (kept,) = struct.unpack(">f", struct.pack(">f", value))
    values = ("ok", value, value, 1, 2, False)
    assert kept_values(values, KINDS) == ("ok", value, kept, 1, 2, False)
    columns = kept_columns([[one] for one in values], KINDS)
    assert tuple(next(column) for column in columns) == ("ok", value, kept, 1, 2, False)
    # As the columns of a micro-batch keep it.
    assert np.array([value], np.float32).tolist() == [kept]


def test_text_and_truth_have_a_count_a_first_and_a_last_in_rollups() -> None:
    rows = [(NOW_MS + n, *(("ok", "low")[n % 2], *VALUES[1:5], n > 5)) for n in range(10)]
    rollup = summarize(rows, KINDS)
    assert rollup.stats["state"].numbers == {"first": "ok", "last": "low"}
    assert rollup.stats["is_open"].numbers == {"first": False, "last": True}
    assert rollup.stats["errors"]["mean"] == -7
    cells = as_cells(rollup, KINDS)
    assert len(cells) == len(columns_of(KINDS))
    assert is_same(from_cells(cells, KINDS), rollup)
    assert is_same(merge(summarize(rows[:3], KINDS), summarize(rows[3:], KINDS)), rollup)
    assert not is_same(rollup, summarize([*rows[:9], (rows[9][0], "ok", *rows[9][2:])], KINDS))
    types = types_of(KINDS)
    assert [types["state_first"], types["is_open_last"]] == ["text", "boolean"]
    assert [types["ticks_max"], types["errors_count"]] == ["double", "bigint"]
    assert "state_min" not in types
    empty = as_cells(summarize([], KINDS), KINDS)
    assert from_cells(empty, KINDS).stats == {}


@pytest.mark.parametrize("co2", [612.0, 6_000.0])
def test_devices_are_judged_by_their_numbers_and_known_by_all_values(co2: float) -> None:
    states = FleetStates(QualityLimits(KINDS))
    for number in range(6):
        rows: RowsByTime = {
            NOW_MS + n * 1000: ((NOW_MS + n * 1000) * 1000, n, 0, "ok", co2, 0.5, n, 2**40, n > 3)
            for n in range(10)
        }
        states.fold(RowGroups.of({(f"d{number}", NOW_MS // MS_PER_DAY): rows}))
    states.settle(NOW_MS + 10_000)
    fleet = states.fleet(NOW_MS + 10_000)
    assert len(fleet.problems[Trouble.IMPLAUSIBLE]) == (6 if co2 > 5_000 else 0)
    state = states.devices["d0"]
    form = form_of(KINDS)
    assert state.values == ("ok", co2, 0.5, 9, 2**40, True)
    assert decode(DeviceState, encode(state, form), form) == state


def test_a_device_that_repeats_text_and_all_else_is_stuck_and_its_values_are_said() -> None:
    states = FleetStates(QualityLimits(KINDS))
    rows: RowsByTime = {
        NOW_MS + n * 1000: ((NOW_MS + n * 1000) * 1000, n, 0, *VALUES) for n in range(100)
    }
    states.fold(RowGroups.of({("d", NOW_MS // MS_PER_DAY): rows}))
    (problem,) = states.fleet(NOW_MS + 100_000).problems[Trouble.STUCK]
    assert problem.sentence.startswith(
        "always ok and 612 ppm and 0.5 and -7 and 1.09951e+12 and true"
    )


def test_a_line_has_no_place_for_text() -> None:
    series = Series.of("d", len(KINDS))
    series.extend([(NOW_MS, *VALUES)])
    assert np.isnan(series.values[0][0])
    assert [line[0] for line in series.values[1:]] == [612.0, 0.5, -7.0, 2.0**40 + 1, 1.0]
    assert first_number(KINDS).name == "co2"
