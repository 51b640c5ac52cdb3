"""The fleet as a person looks at it: the numbers of every picture, and who needs attention.

Belongs here: putting facts together. Does not belong here: gathering them (`stages.fleet_view`),
drawing them (`artifacts`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from iot_pipeline.core.devices import DeviceState
from iot_pipeline.core.fleet_day import Cell, completeness, natural_key, temperature_line
from iot_pipeline.core.fleet_problems import DeviceProblem, find_problems
from iot_pipeline.core.flow import Flow
from iot_pipeline.core.lateness import Lateness

# Of the small multiples; more are too small to read.
MOST_LINES = 12

Line = Sequence[tuple[int, float | None]]


@dataclass(frozen=True, slots=True)
class FleetView:
    """The fleet as of `now`; `devices` of `known` were looked at, evenly chosen.

    `completeness` has a row per device, `lines` at most MOST_LINES of them, those with problems
    first. `problems` are the worst first.
    """

    now: datetime
    known: int
    devices: Sequence[DeviceState]
    flow: Flow
    lateness: Lateness
    completeness: Mapping[str, Sequence[float | None]]
    lines: Mapping[str, Line]
    problems: Sequence[DeviceProblem]

    @property
    def words(self) -> dict[str, str]:
        """device_id -> the word for its problem."""
        return {problem.device_id: problem.word for problem in self.problems}


def put_together(
    now: datetime,
    known: int,
    devices: Sequence[DeviceState],
    board: Mapping[tuple[str, int], Cell],
    on_board: Sequence[str],
    flow: Flow,
    lateness: Lateness,
) -> FleetView:
    """The view; devices that were not looked at are in none of its parts but the lateness."""
    now_ms = round(now.timestamp() * 1000)
    cadences = {
        device.device_id: device.cadence_seconds
        for device in devices
        if device.cadence_seconds is not None
    }
    shares = completeness(board, on_board, cadences, now_ms)
    problems = find_problems(devices, lateness, shares, now)
    # Not a device without a reading on the board: an empty plot says nothing.
    lines = {name: temperature_line(board, name, now_ms) for name in on_board}
    drawable = [name for name, line in lines.items() if any(mean is not None for _, mean in line)]
    in_trouble = [problem.device_id for problem in problems if problem.device_id in set(drawable)]
    wanted = [*in_trouble[: MOST_LINES // 2], *drawable, *in_trouble]
    chosen = list(dict.fromkeys(wanted))[:MOST_LINES]
    lines = {name: lines[name] for name in sorted(chosen, key=natural_key)}
    return FleetView(now, known, devices, flow, lateness, shares, lines, problems)
