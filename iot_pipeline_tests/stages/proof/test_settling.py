"""What a settlement of a day reads of a long ledger, and what it makes of replays."""

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot_pipeline.core.ledger.chain import LedgerEntry
from iot_pipeline.core.proof.settling import KeptSettlement, Settlement
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.stages.proof.settling import settle_day
from iot_pipeline_tests.stages.fake_ledger import FakeLedger
from iot_pipeline_tests.stages.proof.past import T0_MS, Past
from iot_pipeline_tests.stages.world import T0, World

DAY = date(2024, 12, 29)
SECONDS_PER_DAY = 86_400


class CountingLedger(FakeLedger):
    """Remembers which entries were given out."""

    def read_entries(
        self, topic: str, partitions: Sequence[int], *args: Any, **asked: Any
    ) -> list[LedgerEntry]:
        found = super().read_entries(topic, partitions, *args, **asked)
        GIVEN.extend(found)
        return found


GIVEN: list[LedgerEntry] = []


class Kept:
    """A `Settlements` that has nothing yet."""

    def read_settlement(self, topic: str, day: date) -> KeptSettlement:
        return KeptSettlement()

    def keep_settlement(self, topic: str, day: date, kept: KeptSettlement) -> None:
        self.kept = kept


def test_the_past_of_the_ledger_is_not_read_to_settle_a_day() -> None:
    world = World(partitions=2)
    for back in range(20, 0, -1):
        for partition in range(2):
            world.write(partition, at=T0 - back * SECONDS_PER_DAY)
        world.drain()
    for partition in range(2):
        # Sent again: one row.
        world.write(partition, at=T0)
        world.drain()
        world.write(partition, at=T0)
        world.drain()
    counting = CountingLedger(
        **{item.name: getattr(world.ledger, item.name) for item in fields(world.ledger)}
    )
    GIVEN.clear()
    kept = Kept()
    ports = replace(world.proof(), ledger=counting)
    settled = settle_day(ports, kept, range(2), DAY, 2, budget_seconds=60)
    assert settled.is_settled
    assert settled.explained == 2
    assert {day for entry in GIVEN for day in entry.counts.stored_by_day} == {DAY}


class Remembered:
    """A `Settlements` of one day."""

    def __init__(self) -> None:
        self.kept = KeptSettlement()

    def read_settlement(self, topic: str, day: date) -> KeptSettlement:
        return self.kept

    def keep_settlement(self, topic: str, day: date, kept: KeptSettlement) -> None:
        self.kept = kept


_SENT = st.tuples(st.integers(0, 3), st.sampled_from([20.0, 75.0]))
_RUNS = st.tuples(st.sampled_from(["both", "wider"]), st.lists(_SENT, max_size=4))


def settle(past: Past, kept: Remembered) -> tuple[int, Settlement | None]:
    """How many rows are missing, and why; None: no row is."""
    parts = past.world.ledger.stored_by_day("iot_data", [0], [DAY])
    missing = sum(part[DAY] for part in parts) - len(past.world.store.cells)
    if missing <= 0:
        return missing, None
    ports = past.outside("wider").ports
    return missing, settle_day(ports, kept, [0], DAY, missing, budget_seconds=60)


@settings(max_examples=60)
@given(
    st.lists(_RUNS, min_size=1, max_size=4),
    st.sampled_from([(0, 16), (0, 2), (1, 2), (2, 16)]),
    st.integers(0, 3) | st.none(),
)
def test_a_day_is_settled_after_now_added_rows_unless_one_is_missing(
    tmp_path_factory, runs, part: tuple[int, int], lost: int | None
) -> None:
    past, kept, sent = Past(tmp_path_factory.getbasetemp()), Remembered(), 0
    for name, records in runs:
        for second, temperature in records:
            past.world.write(0, "d", T0 + second, temperature, 50.0)
            past.world.log.tick()
            sent += 1
        past.drain(name)
    _, before = settle(past, kept)
    assert before is None or before.is_settled
    start, end = min(part[0], sent), min(sum(part), sent)
    if start < end:
        past.replay("wider", "now", OffsetRange(0, start, end))
    place = ("d", T0_MS // MS_PER_DAY, T0_MS + 1000 * (lost or 0))
    is_lost = lost is not None and past.world.store.cells.pop(place, None) is not None
    missing, after = settle(past, kept)
    assert missing >= is_lost
    assert not (is_lost and after is not None and after.is_settled)
    # Dead letters outside the replayed range may not be told from rows that it lost.
    if (start, end) == (0, sent) and not is_lost:
        assert after is None or after.is_settled


@pytest.mark.parametrize("lost", ["", "d", "hot"])
def test_rows_that_now_added_are_no_readings_sent_again(tmp_path: Path, lost: str) -> None:
    past, kept = Past(tmp_path), Remembered()
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.world.write(0, "hot", T0, 75.0, 50.0)
    past.drain("both")
    past.world.log.tick()
    past.world.write(0, "d", T0, 21.0, 50.0)
    past.drain("both")
    _, before = settle(past, kept)
    assert before is not None
    assert before.is_settled
    past.replay("wider", "now", OffsetRange(0, 0, 3))
    if lost:
        del past.world.store.cells[lost, T0_MS // MS_PER_DAY, T0_MS]
    # What was found of the day before is not believed of what it has now.
    missing, after = settle(past, kept)
    assert after is not None
    assert (missing, after.is_settled) == ((2, False) if lost else (1, True))


def test_a_row_that_now_added_of_a_dead_letter_is_missed(tmp_path: Path) -> None:
    past = Past(tmp_path)
    past.world.write(0, "d", T0, 20.0, 50.0)
    past.drain("both")
    past.world.write(0, "hot", T0, 75.0, 50.0)
    past.drain("both")
    past.replay("wider", "now", OffsetRange(0, 1, 2))
    del past.world.store.cells["hot", T0_MS // MS_PER_DAY, T0_MS]
    missing, settled = settle(past, Remembered())
    assert settled is not None
    assert (missing, settled.explained, settled.is_settled) == (1, 0, False)
