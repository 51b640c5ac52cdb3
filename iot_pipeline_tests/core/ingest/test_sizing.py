"""A micro-batch grows with the devices, never past the memory there is."""

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ingest.sizing import (
    CONSUMER_BYTES,
    MOST_ROWS_PER_PARTITION,
    ROW_BYTES,
    ROWS_PER_PARTITION,
    largest_micro_batch,
    wanted_records,
)

_records = st.integers(1, 500_000)
_budgets = st.integers(128, 65_536)
_keys = st.integers(0, 10_000_000)


@given(records=_records, budget_mb=_budgets, keys=_keys, is_waiting=st.booleans())
def test_two_micro_batches_and_the_consumer_fit_the_budget(
    records: int, budget_mb: int, keys: int, is_waiting: bool
) -> None:
    wanted = wanted_records(records, largest_micro_batch(records, budget_mb), keys, is_waiting)
    assert wanted >= 1
    assert 2 * wanted * ROW_BYTES + CONSUMER_BYTES <= budget_mb * 1024 * 1024


@given(records=_records, budget_mb=_budgets, keys=_keys, more=_keys)
def test_more_devices_never_mean_a_smaller_micro_batch(
    records: int, budget_mb: int, keys: int, more: int
) -> None:
    largest = largest_micro_batch(records, budget_mb)
    for is_waiting in (False, True):
        wanted = wanted_records(records, largest, keys, is_waiting)
        assert wanted <= wanted_records(records, largest, keys + more, is_waiting)


def test_few_devices_take_what_the_setting_says() -> None:
    assert wanted_records(50_000, largest_micro_batch(50_000, 256), 100, True) == 50_000


def test_ten_thousand_devices_take_what_memory_allows_and_a_hundred_settings_take_eight() -> None:
    largest = largest_micro_batch(50_000, 256)
    assert 200_000 < wanted_records(50_000, largest, 10_000, False) == largest
    assert wanted_records(100, largest_micro_batch(100, 256), 10_000, False) == 800


def test_between_them_every_cassandra_partition_gets_its_rows() -> None:
    keys = 2_000
    assert wanted_records(50_000, 250_000, keys, False) == keys * ROWS_PER_PARTITION


def test_what_has_to_wait_for_the_writes_before_grows_until_cql_batches_are_full() -> None:
    assert wanted_records(50_000, 250_000, 500, True) == 500 * MOST_ROWS_PER_PARTITION
    assert wanted_records(50_000, 250_000, 2_000, True) == 250_000
