"""What runs cost, remembered for ninety days."""

from collections.abc import Sequence
from typing import Any

from iot_pipeline.clients.cassandra_answers import aware
from iot_pipeline.clients.table import Table
from iot_pipeline.core.ingest.run_costs import Place, RunCost

_COSTS = "{ks}.run_costs"
_NEWEST = (
    f"SELECT ended_at, run_id, stored, seconds, cpu_seconds, p99_ms FROM {_COSTS} "
    "WHERE topic = ? AND lane = ? AND mode = ? LIMIT ?"
)
_LIVE_SECONDS = 90 * 86_400


class CassandraRunCosts(Table):
    """A `RunCosts`."""

    def keep_cost(self, topic: str, place: Place, cost: RunCost) -> None:
        row = {
            "topic": topic,
            "lane": place.lane,
            "mode": place.mode.value,
            "ended_at": cost.ended_at,
            "run_id": cost.run_id,
            "stored": cost.stored,
            "seconds": cost.seconds,
            "cpu_seconds": cost.cpu_seconds,
            "p99_ms": cost.p99_ms,
        }
        doing = f"keeping what run {cost.run_id} cost"
        self._insert(_COSTS, row, doing=doing, more="USING TTL ?", more_values=(_LIVE_SECONDS,))

    def read_costs(
        self, topic: str, places: Sequence[Place], most: int
    ) -> dict[Place, Sequence[RunCost]]:
        sent = [
            self._start(
                _NEWEST,
                (topic, place.lane, place.mode.value, most),
                f"reading what runs of {topic} cost, lane {place.lane}",
                _costs,
            )
            for place in places
        ]
        return {
            place: self._client.finish(pending) for place, pending in zip(places, sent, strict=True)
        }


def _costs(rows: Sequence[Any]) -> Sequence[RunCost]:
    return [RunCost(aware(ended_at), *of_run) for ended_at, *of_run in rows]
