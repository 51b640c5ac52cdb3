"""The days of readings side by side, asked of Cassandra alone."""

from datetime import UTC, datetime

from iot_pipeline.core.rollups.day_grid import SHOWN_DAYS, DayGrid, make_grid
from iot_pipeline.stages.ports.proof import Audits
from iot_pipeline.stages.rollups.rebuild import RollupPorts, read_day_facts


def read_grid(
    ports: RollupPorts,
    audits: Audits,
    topic: str,
    *,
    days: int = SHOWN_DAYS,
    now: datetime | None = None,
) -> DayGrid:
    """What audits and rollups found of each day, and whether anything has touched it since."""
    moment = now or datetime.now(UTC)
    # What was kept first: what the ledgers say later can only make a day "changed since".
    audited, counts = audits.read_audited_days(topic), ports.rollups.read_records(topic)
    return make_grid(read_day_facts(ports, topic, moment), audited, counts, moment, days)
