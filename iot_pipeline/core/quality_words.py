"""What verdicts on devices share: names, how much was looked at, and words people read.

Belongs here: the form of a verdict on devices. Does not belong here: what is judged
(`core.data_quality`, `core.reporting`, `core.completeness`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from iot_pipeline.core.checks import CheckVerdict, Severity
from iot_pipeline.core.device_table import DeviceTable, as_word
from iot_pipeline.core.durations import in_words

PLAUSIBLE = "values_are_plausible"
REPORTING = "devices_are_reporting"
ON_TIME = "readings_are_on_time"
NOT_STUCK = "no_stuck_sensors"
CLOCKS = "clocks_are_right"
COMPLETE = "readings_are_complete"

MOST_SUSPECTS = 200
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the fleet was looked at; a sample where time or readings were too many."""

    devices: int
    looked_at: int
    rows: int = 0
    rows_seen: int = 0

    @property
    def remark(self) -> str:
        """Empty when everything was looked at."""
        parts = []
        if self.looked_at < self.devices:
            parts.append(f"{self.looked_at:,} of {self.devices:,} devices")
        if self.rows_seen < self.rows:
            parts.append(f"{self.rows_seen:,} of {self.rows:,} readings")
        return f" A sample: {' and '.join(parts)}; the others next time." if parts else ""

    def numbers(self) -> dict[str, int | float]:
        return {"devices": self.devices, "devices_looked_at": self.looked_at}


def unique(names: Iterable[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(names))


def green(
    name: str, sentence: str, numbers: dict[str, int | float], coverage: Coverage
) -> CheckVerdict:
    """A verdict that has passed; without anything to look at it says so."""
    if not coverage.looked_at and name != REPORTING:
        sentence = "Not enough history yet: there were no recent readings to look at."
    return CheckVerdict(name, True, Severity.WARN, sentence + coverage.remark, numbers)


def red(
    name: str,
    sentence: str,
    numbers: dict[str, int | float],
    coverage: Coverage,
    worst: DeviceTable,
    suspects: Sequence[str],
) -> CheckVerdict:
    """A verdict to look at, with the worst devices."""
    return CheckVerdict(
        name,
        False,
        Severity.WARN,
        sentence + coverage.remark,
        numbers,
        worst,
        tuple(suspects[:MOST_SUSPECTS]),
    )


def name_some(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    shown = ", ".join(as_word(name) for name in names[:SHOWN])
    rest = f" and {len(names) - SHOWN:,} more devices" if len(names) > SHOWN else ""
    return f"{shown}{rest}"


def instant(ms: int) -> str:
    """UTC, to the second."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def span(ms: float) -> str:
    """A time as people say it."""
    return in_words(ms / 1000)
