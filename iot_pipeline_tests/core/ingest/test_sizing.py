"""A micro-batch grows with the devices, never past the memory there is."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ingest.sizing import (
    CONSUMER_BYTES,
    GROUP_BYTES,
    MAX_GROWTH,
    MOST_ROWS_PER_PARTITION,
    OBJECT_BYTES,
    ROWS_PER_PARTITION,
    memory_of_micro_batch,
    row_bytes,
    wanted_records,
)
from iot_pipeline.core.reading.columns import DeviceCodes
from iot_pipeline.core.reading.quantities import QUANTITIES

_records = st.integers(1, 500_000)
_budgets = st.integers(128, 65_536)
_keys = st.integers(0, 10_000_000)
_ROW = row_bytes(QUANTITIES)
_ROOMY = memory_of_micro_batch(65_536)


@given(_records, _budgets, st.integers(0, 1 << 32), _keys, st.booleans(), st.booleans())
def test_two_micro_batches_and_the_consumer_fit_the_budget(
    records: int, budget_mb: int, device_bytes: int, keys: int, is_waiting: bool, are_objects: bool
) -> None:
    wanted = wanted_records(
        records,
        _ROW,
        memory_of_micro_batch(budget_mb),
        device_bytes,
        keys,
        is_waiting=is_waiting,
        are_objects=are_objects,
    )
    assert wanted >= 1
    row = _ROW + (OBJECT_BYTES if are_objects else 0)
    kept = device_bytes + keys * GROUP_BYTES
    # With a record more than nothing where the devices take it all: it ends at once.
    assert wanted == 1 or (2 * (wanted * row + kept) + CONSUMER_BYTES <= budget_mb * 1024 * 1024)


@given(_records, _keys, _keys, st.booleans())
def test_more_devices_never_mean_a_smaller_micro_batch_where_memory_suffices(
    records: int, keys: int, more: int, is_waiting: bool
) -> None:
    fewer, many = (
        wanted_records(records, _ROW, _ROOMY, 0, count, is_waiting=is_waiting)
        for count in (keys, keys + more)
    )
    assert fewer <= many <= records * MAX_GROWTH


def test_few_devices_take_what_the_setting_says() -> None:
    memory = memory_of_micro_batch(256)
    assert wanted_records(50_000, _ROW, memory, 30_000, 100, is_waiting=True) == 50_000
    assert wanted_records(50_000, _ROW, 0, 3_000_000, 10_000, is_waiting=True) == 50_000, (
        "it never grows"
    )


def test_with_the_memory_there_is_a_hundred_rows_per_cassandra_partition_of_ten_thousand() -> None:
    memory = memory_of_micro_batch(256)
    assert wanted_records(50_000, _ROW, memory, 3_000_000, 10_000, is_waiting=True) == 1_000_000
    assert wanted_records(50_000, _ROW, memory, 21_000_000, 100_000, is_waiting=True) > 700_000
    assert wanted_records(100, _ROW, memory, 3_000_000, 10_000, is_waiting=False) == 2_000


def test_between_them_every_cassandra_partition_gets_its_rows() -> None:
    wanted = wanted_records(50_000, _ROW, _ROOMY, 0, 2_000, is_waiting=False)
    assert wanted == 2_000 * ROWS_PER_PARTITION


def test_what_has_to_wait_for_the_writes_before_grows_until_cql_batches_are_full() -> None:
    wanted = wanted_records(50_000, _ROW, _ROOMY, 0, 500, is_waiting=True)
    assert wanted == 500 * MOST_ROWS_PER_PARTITION


def test_what_devices_take_grows_with_their_ids() -> None:
    short, long = DeviceCodes(), DeviceCodes()
    for number in range(1_000):
        short.add(f"{number:08d}")
        long.add(f"{number:0256d}")
    for codes, each in ((short, 8), (long, 256)):
        kept = sum(map(sys.getsizeof, [*codes.ids, *codes.encoded, *codes.values()]))
        kept += sum(map(sys.getsizeof, [codes, codes.ids, codes.encoded]))
        assert kept <= codes.size_bytes <= kept * 2, each
