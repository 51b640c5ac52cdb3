"""What runs keep beside the ledger: their cost, their limit, why they stopped."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from iot_pipeline.core.ingest.run_costs import Place as CostPlace
from iot_pipeline.core.ingest.run_costs import RunCost
from iot_pipeline.core.ingest.stopped import Stop
from iot_pipeline.core.ingest.throttle import SetLimit
from iot_pipeline.core.ingest.traces import BatchTrace
from iot_pipeline.stages.ports.answers import Answer


class RunCosts(Protocol):
    """What runs cost, by topic, lane and mode."""

    def read_costs(
        self, topic: str, places: Sequence[CostPlace], most: int
    ) -> Mapping[CostPlace, Sequence[RunCost]]:
        """Of each place the newest ones, newest first; of the last ninety days."""

    def keep_cost(self, topic: str, place: CostPlace, cost: RunCost) -> None:
        """The same run and time again is one."""


class Stops(Protocol):
    """Which Kafka partitions runs had to leave, and why: the newest of each."""

    def read_stops(self, topic: str) -> list[Stop]:
        """In the order of partitions; they may have been drained on since."""

    def keep_stop(self, topic: str, stop: Stop) -> None:
        """In the place of an earlier one."""


class Throttles(Protocol):
    """The limit that was set for all runs of a topic, if one was."""

    def read_limit(self, topic: str) -> SetLimit | None: ...

    def start_read(self, topic: str) -> Answer[SetLimit | None]:
        """The same, without waiting."""

    def keep_limit(self, topic: str, kept: SetLimit | None) -> None:
        """In the place of an earlier one; None: nothing is set."""


class Traces(Protocol):
    """Where it is told what micro-batches did."""

    def export(self, trace: BatchTrace) -> None:
        """Take it, to be sent later: returns at once, whether or not a collector answers."""

    def close(self) -> None:
        """Send what is left, within a few seconds."""
