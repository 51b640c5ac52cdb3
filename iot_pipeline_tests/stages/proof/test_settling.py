"""What a settlement of a day reads of a long ledger."""

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import date
from typing import Any

from iot_pipeline.core.ledger.chain import LedgerEntry
from iot_pipeline.core.proof.settling import KeptSettlement
from iot_pipeline.stages.proof.settling import settle_day
from iot_pipeline_tests.stages.fake_ledger import FakeLedger
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
