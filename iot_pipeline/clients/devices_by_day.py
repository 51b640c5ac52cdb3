"""Which devices have rows on which day; without it every question about a day is a table scan."""

from collections.abc import Iterator
from datetime import date

from iot_pipeline.clients.cassandra import Table, all_rows
from iot_pipeline.core.reading.spans import BUCKETS, bucket_of
from iot_pipeline.core.times import Window

DEVICES_BY_DAY = "{ks}.devices_by_day"
_PAGE = 5_000
_DAYS = f"SELECT DISTINCT day, bucket FROM {DEVICES_BY_DAY}"
_DEVICES = (
    f"SELECT device_id FROM {DEVICES_BY_DAY} WHERE day = ? AND bucket = ? AND device_id > ? LIMIT ?"
)
_DAYS_OF_DEVICE = (
    f"SELECT day FROM {DEVICES_BY_DAY} WHERE day IN ? AND bucket = ? AND device_id = ?"
)
_DAYS_AT_ONCE = 100


class CassandraDeviceDays(Table):
    """A `DeviceDays`."""

    def days(self) -> list[date]:
        rows = self._run(_DAYS, doing="listing the days that have readings")
        return sorted({row.day.date() for row in rows})

    def devices(self, day: date) -> list[str]:
        """All buckets are asked at once, page by page."""
        found: list[str] = []
        last_of = dict.fromkeys(range(BUCKETS), "")
        while last_of:
            sent = {
                bucket: self._start(
                    _DEVICES, (day, bucket, last, _PAGE), f"listing the devices of {day}", all_rows
                )
                for bucket, last in last_of.items()
            }
            last_of = {}
            for bucket, pending in sent.items():
                names = [name for (name,) in self._client.finish(pending)]
                found += names
                if len(names) == _PAGE:
                    last_of[bucket] = names[-1]
        return sorted(found)

    def days_of(self, device_id: str, window: Window | None = None) -> Iterator[date]:
        """A hundred days are one question: a device that was silent for a year is found in four."""
        known = self.days()
        chosen = sorted(known, reverse=True) if window is None else window.days_within(known)
        for at in range(0, len(chosen), _DAYS_AT_ONCE):
            found = self._run(
                _DAYS_OF_DEVICE,
                (chosen[at : at + _DAYS_AT_ONCE], bucket_of(device_id), device_id),
                doing=f"looking for the days of {device_id}",
            )
            yield from sorted((row.day.date() for row in found), reverse=True)
