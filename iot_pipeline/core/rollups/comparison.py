"""A day's rollups beside the rows they were made of."""

from dataclasses import dataclass, field
from datetime import date


@dataclass(slots=True)
class DayComparison:
    """One day's rollups of one asset, compared with the rows they were made of.

    `rows` were read now, of `compared` of the day's `devices`; `counted` is the sum of the
    rollups' counts. `wrong` names devices with other values, or other counts, than a rebuild
    would write. `is_touched`: the ledgers say that rows changed since the rebuild, so a
    difference is what the next one is for.
    """

    day: date
    devices: int
    compared: int = 0
    rows: int = 0
    counted: int = 0
    wrong: list[str] = field(default_factory=list)
    is_touched: bool = False

    @property
    def is_off(self) -> bool:
        return self.counted != self.rows and not self.is_touched

    @property
    def is_stale(self) -> bool:
        return bool(self.wrong) and not self.is_touched
