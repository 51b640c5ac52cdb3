"""A fleet's day made up for pictures and reports: as large and as restless as they come."""

import math
import random
from datetime import UTC, datetime, timedelta

from iot_pipeline.core.checks import CheckVerdict, Severity
from iot_pipeline.core.devices import NewestRow, describe_device
from iot_pipeline.core.fleet_day import HOUR_MS, SLOT_MS, SLOTS, Cell, Slot, last_hours
from iot_pipeline.core.fleet_view import FleetView, put_together
from iot_pipeline.core.flow import Flow, RunEnd
from iot_pipeline.core.health import Health, LastAudit
from iot_pipeline.core.lag import TotalLag
from iot_pipeline.core.lateness import Arrival, sum_up
from iot_pipeline.core.ledger import Counts
from iot_pipeline.core.quality_limits import QualityLimits

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)


def make_view(devices: int = 40, seed: int = 1, name: str = "sensor-in-district-{}") -> FleetView:
    """Noisy curves, gaps everywhere, a thousand runs; every third device is silent."""
    chance = random.Random(seed)
    names = [name.format(number) for number in range(devices)]
    cells = [
        Cell(device, hour, NOW_MS, tuple(slots))
        for number, device in enumerate(names)
        for hour in last_hours(NOW_MS)
        if (slots := _slots(chance, number, hour))
    ]
    states = []
    for number, device in enumerate(names):
        age_ms = 7_200_000 if number % 3 == 1 else 1_000
        rows = [NewestRow(NOW_MS - age_ms - 10_000 * k, 20.0, 50.0, None) for k in range(31)]
        states.append(describe_device(device, rows, None, NOW, QualityLimits()))
    begin_ms = NOW_MS - 7_200_000
    runs = tuple(RunEnd(begin_ms + k * 7_000, chance.lognormvariate(1, 1.5)) for k in range(1_000))
    rates = tuple(chance.uniform(0, 3_000) for _ in range(60))
    flow = Flow(begin_ms, 120_000.0, rates, runs, 500_000, 1_234)
    arrivals = [
        Arrival(chance.choice(names), chance.lognormvariate(0, 3) - 2)
        for _ in range(5_000 if names else 0)
    ]
    board = {(cell.device_id, cell.hour): cell for cell in cells}
    return put_together(NOW, devices, states, board, names, flow, sum_up(arrivals))


def _slots(chance: random.Random, number: int, hour: int) -> list[Slot]:
    slots = []
    for at in range(SLOTS):
        start = hour * HOUR_MS + at * SLOT_MS
        count = chance.randrange(61)
        if count and start < NOW_MS:
            mean = 20 + 8 * math.sin(start / 1.3e7 + number) + chance.uniform(-2, 2)
            slots.append(Slot(start, count, mean, start))
    return slots


def verdict(name: str, sentence: str, severity: Severity | None = None) -> CheckVerdict:
    """Passed without a severity."""
    return CheckVerdict(name, severity is None, severity or Severity.WARN, sentence)


def make_health(view: FleetView | None = None, **changes: object) -> Health:
    """All is well but for `changes`."""
    facts: dict[str, object] = {
        "now": NOW,
        "topic": "iot_data",
        "totals": Counts(stored=987_654, superseded=321, rejected=25, holes=17),
        "expired": 0,
        "flaws": [],
        "lag": TotalLag(0, 0.0),
        "audit": LastAudit(NOW - timedelta(hours=3), {"stored": 987_000, "lost": 0}),
        "letters": {},
        "view": view or make_view(0),
        "verdicts": [verdict("ledger_has_no_gap", "The ranges follow each other.")],
    }
    return Health(**{**facts, **changes})  # type: ignore[arg-type]
