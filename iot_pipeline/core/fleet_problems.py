"""Devices that somebody should look at, and why, in a sentence each.

Belongs here: choosing and wording. Does not belong here: the facts (`stages.devices`,
`stages.lateness`, `stages.fleet_day`), and the verdicts of checks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from iot_pipeline.core.devices import DeviceState, silent_first
from iot_pipeline.core.durations import in_words
from iot_pipeline.core.lateness import Lateness

_INCOMPLETE_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class DeviceProblem:
    """One device's trouble: `word` for a label, `sentence` for a table."""

    device_id: str
    word: str
    sentence: str


def find_problems(
    devices: Iterable[DeviceState],
    lateness: Lateness,
    completeness: Mapping[str, Sequence[float | None]],
    now: datetime,
) -> list[DeviceProblem]:
    """Silent devices, the longest first, then late ones, wrong clocks, missing readings.

    A device is named once: one that is silent is incomplete as well, and that is no news.
    """
    problems: dict[str, DeviceProblem] = {}

    def add(device_id: str, word: str, sentence: str) -> None:
        problems.setdefault(device_id, DeviceProblem(device_id, word, sentence))

    for device in silent_first(devices):
        if device.silent_since is None:
            break
        usual = device.cadence_seconds
        rhythm = "" if usual is None else f", usually one every {in_words(usual)}"
        ago = in_words((now - device.silent_since).total_seconds())
        add(device.device_id, "silent", f"no reading for {ago}{rhythm}")
    for name, seconds in lateness.late:
        add(name, "late", f"its readings reach Kafka {in_words(seconds)} after they were measured")
    for name, seconds in lateness.ahead:
        add(name, "clock", f"its clock is {in_words(-seconds)} ahead")
    gaps = [
        (min(known), sum(share < _INCOMPLETE_SHARE for share in known), name)
        for name, shares in completeness.items()
        if (known := [share for share in shares if share is not None])
    ]
    for least, hours, name in sorted(gaps):
        if hours:
            of = "hour" if hours == 1 else "hours"
            add(name, "gaps", f"readings missing in {hours} {of}, {1 - least:.0%} in the worst")
    return list(problems.values())
