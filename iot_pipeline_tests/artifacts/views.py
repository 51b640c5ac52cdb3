"""A fleet's day made up for pictures and reports: as large and as restless as they come."""

import math
import random
from datetime import UTC, datetime, timedelta

from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.fleet.delays import Delays
from iot_pipeline.core.fleet.problems import Fleet
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.fleet.report import Health, LastAudit
from iot_pipeline.core.fleet.state import DeviceState
from iot_pipeline.core.fleet.view import MOST_LINES, FleetView, choose_rows, put_together
from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.ledger.flow import Flow, RunEnd
from iot_pipeline.core.reading.lag import TotalLag
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.times import MS_PER_HOUR

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
SLOT_MS = 600_000
NOW_MS = round(NOW.timestamp() * 1000)


def make_view(
    devices: int = 40, seed: int = 1, name: str = "sensor-in-district-{}", hours: int = 24
) -> FleetView:
    """Noisy curves, gaps everywhere, a thousand runs; every third device is silent."""
    chance = random.Random(seed)
    names = [name.format(number) for number in range(devices)]
    chance_delays = (round(1000 * (chance.lognormvariate(0, 3) - 2)) for _ in range(5_000))
    fleet = Fleet(
        NOW_MS,
        {device: _state(chance, number % 3 == 1, hours) for number, device in enumerate(names)},
        QualityLimits(QUANTITIES),
        delays=Delays.of(chance_delays if names else ()),
    )
    begin_ms = NOW_MS - 7_200_000
    runs = tuple(RunEnd(begin_ms + k * 7_000, chance.lognormvariate(1, 1.5)) for k in range(1_000))
    rates = tuple(chance.uniform(0, 3_000) for _ in range(60))
    flow = Flow(begin_ms, 120_000.0, rates, runs, 500_000, 1_234)
    slots = {
        device: _slots(chance, number, hours)
        for number, device in enumerate(names)
        if device in choose_rows(fleet, MOST_LINES)
    }
    return put_together(NOW, fleet, flow, slots, SLOT_MS)


def _state(chance: random.Random, is_silent: bool, hours: int) -> DeviceState:
    newest = NOW_MS - (7_200_000 if is_silent else 1_000)
    current = NOW_MS // MS_PER_HOUR
    first = current - hours + 1
    return DeviceState(
        begin_ms=first * MS_PER_HOUR,
        rows=8_000,
        arrived_ms=newest,
        tail=[newest - 10_000 * k for k in range(23, -1, -1)],
        values=(20.0, 50.0),
        unchanged=1,
        hours={hour: chance.randrange(361) for hour in range(first, current + 1)},
        interval_ms=10_000.0,
        regular_votes=4,
        next_hour=current,
    )


def _slots(chance: random.Random, number: int, hours: int) -> list[tuple[int, float | None]]:
    slots: list[tuple[int, float | None]] = []
    for at in range(6 * hours):
        start = (NOW_MS // MS_PER_HOUR - hours + 1) * MS_PER_HOUR + at * SLOT_MS
        count = chance.randrange(61)
        if count and start < NOW_MS:
            mean = 20 + 8 * math.sin(start / 1.3e7 + number) + chance.uniform(-2, 2)
            slots.append((start, mean))
    return slots


def verdict(name: str, sentence: str, severity: Severity | None = None) -> CheckVerdict:
    """Passed without a severity."""
    return CheckVerdict(severity is None, sentence, severity=severity or Severity.WARN, name=name)


def make_health(view: FleetView | None = None, **changes: object) -> Health:
    """All is well but for `changes`."""
    facts: dict[str, object] = {
        "now": NOW,
        "topic": "iot_data",
        "totals": Counts(stored=987_654, superseded=321, rejected=25, holes=17),
        "lost": {},
        "flaws": [],
        "lag": TotalLag(0, 0.0),
        "audit": LastAudit(NOW - timedelta(hours=3), {"stored": 987_000, "lost": 0}),
        "letters": {},
        "view": view or make_view(0),
        "verdicts": [verdict("ledger_has_no_gap", "The ranges follow each other.")],
    }
    return Health(**{**facts, **changes})  # type: ignore[arg-type]
