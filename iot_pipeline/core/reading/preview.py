"""What records would become by a declaration: fates, an example of each, and the values' ends."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from iot_pipeline.core.reading.by_path import PathReader
from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.groups import DeviceGroup, find_group
from iot_pipeline.core.reading.messages import Ignored, ReadingRules, Record, Rejection
from iot_pipeline.core.times import in_utc, moment_of

READINGS = "reading"
IGNORED = "ignored"


@dataclass(slots=True)
class Fates:
    """How many records have one fate, and the first of them in words."""

    records: int
    example: Record
    said: str


@dataclass(slots=True)
class Preview:
    """Records by what they would become: a reading, ignored, or a reason to be none.

    `ends` has the least and the greatest value of each quantity that has numbers, `devices` those
    that readings are of. Which of the readings of one device and millisecond would win is not
    looked at.
    """

    records: int = 0
    fates: dict[str, Fates] = field(default_factory=dict)
    ends: dict[str, tuple[float, float]] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)

    def devices_by_group(self, groups: Sequence[DeviceGroup]) -> dict[DeviceGroup | None, int]:
        """How many of the devices each group has; None: those of no group."""
        found = Counter(find_group(groups, device_id) for device_id in self.devices)
        return {group: found[group] for group in (*groups, None)}

    @property
    def rejected(self) -> int:
        """How many would be dead letters."""
        return self.records - sum(
            self.fates[name].records for name in (READINGS, IGNORED) if name in self.fates
        )


def preview(records: Iterable[Record], rules: ReadingRules) -> Preview:
    """Read records by the rules; nothing else happens."""
    reader, result = PathReader(rules), Preview()
    for record in records:
        result.records += 1
        told = reader.read_record(record)
        if isinstance(told, Rejection):
            _count(result, told.reason.value, record, told.message)
        elif isinstance(told, Ignored):
            _count(result, IGNORED, record, told.rule)
        else:
            result.devices.add(told.device_id)
            values = {item.name: getattr(told, item.name) for item in rules.quantities}
            at = in_utc(moment_of(timestamp_ms(told.timestamp)))
            shown = ", ".join(f"{name} {_shown(value)}" for name, value in values.items())
            _count(result, READINGS, record, f"{told.device_id} at {at}: {shown}")
            for name, value in values.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    low, high = result.ends.get(name, (value, value))
                    result.ends[name] = min(low, value), max(high, value)
    return result


def _count(result: Preview, fate: str, record: Record, said: str) -> None:
    known = result.fates.setdefault(fate, Fates(0, record, said))
    known.records += 1


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    return f"{value:g}" if isinstance(value, float) else str(value)
