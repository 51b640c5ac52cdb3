"""How long rows live after their records arrived in Kafka: of every device, or of its group.

Belongs here: which rows have outlived it. Does not belong here: how long Kafka keeps records, and
how a row is told its time to live (`clients.reading_store`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from iot_pipeline.core.reading.groups import DeviceGroup, find_group
from iot_pipeline.core.times import MS_PER_DAY

if TYPE_CHECKING:
    # Nothing here needs it before a row is written, and commands that read no row start without it.
    from iot_pipeline.core.reading.columns import DeviceCodes, Ints


@dataclass(frozen=True, slots=True)
class Retention:
    """How long rows live, in days; 0 is for ever. `groups` are there where one of them differs."""

    days: float = 0.0
    groups: tuple[DeviceGroup, ...] = ()

    @classmethod
    def of(cls, days: float, groups: Sequence[DeviceGroup]) -> Self:
        """That of every device and those of the groups."""
        is_by_group = any(group.retention_days not in (None, days) for group in groups)
        return cls(days, tuple(groups) if is_by_group else ())

    def days_of(self, device_id: str) -> float:
        """How long the rows of a device live."""
        group = find_group(self.groups, device_id)
        return self._of_group(group) if group is not None else self.days

    def milliseconds_of(self, device_id: str) -> int:
        """The same in milliseconds; 0: for ever."""
        days = self.days_of(device_id)
        return max(1, int(days * MS_PER_DAY)) if days else 0

    def aged_before_ms(self, device_id: str, now_seconds: float) -> int:
        """Rows of the device whose records arrived in Kafka before have outlived their retention.

        0 where they live for ever.
        """
        return _aged_before_ms(self.days_of(device_id), now_seconds)

    def some_aged_before_ms(self, now_seconds: float) -> int:
        """No row of a record that arrived then or later has; 0: none ever does."""
        return max(_aged_before_ms(days, now_seconds) for days in self._each())

    @property
    def may_end(self) -> bool:
        """Whether rows of any device do not live for ever."""
        return self.shortest_days > 0

    @property
    def longest_days(self) -> float:
        """After this no row is left; 0: those of some devices live for ever."""
        return 0.0 if 0 in self._each() else max(self._each())

    @property
    def shortest_days(self) -> float:
        """Before this no row is gone; 0: none ever is."""
        return min(filter(None, self._each()), default=0.0)

    def _of_group(self, group: DeviceGroup) -> float:
        return self.days if group.retention_days is None else group.retention_days

    def _each(self) -> list[float]:
        return [self.days, *map(self._of_group, self.groups)]


FOR_EVER = Retention()


class RetentionByCode:
    """That of each device by its code: found out once per device, then taken by numpy."""

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self._codes: DeviceCodes | None = None
        self._milliseconds: Ints | None = None

    def milliseconds(self, codes: "DeviceCodes") -> "Ints":
        """By code, at least one; 0: for ever."""
        import numpy as np

        known = self._milliseconds
        if known is None or self._codes is not codes:
            known = np.zeros(0, np.int64)
        if len(known) < len(codes.ids) or not len(known):
            more = [self.retention.milliseconds_of(name) for name in codes.ids[len(known) :]]
            known = np.concatenate([known, np.array(more or [0], np.int64)])
            if codes.ids:
                self._codes, self._milliseconds = codes, known
        return known

    def aged_before_ms(self, codes: "DeviceCodes", now_seconds: float) -> "Ints":
        """`Retention.aged_before_ms` by code."""
        import numpy as np

        lives_ms = self.milliseconds(codes)
        return np.where(lives_ms > 0, int(now_seconds * 1000) - lives_ms, 0)


def _aged_before_ms(days: float, now_seconds: float) -> int:
    return int(now_seconds * 1000 - days * MS_PER_DAY) if days else 0
