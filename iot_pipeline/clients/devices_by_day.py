"""Which devices have rows on which day; without it every question about a day is a table scan."""

from collections.abc import Iterator, Sequence
from datetime import date
from heapq import merge
from typing import Any

from iot_pipeline.clients.cassandra_answers import PendingAnswer, all_rows
from iot_pipeline.clients.table import Table
from iot_pipeline.core.reading.spans import BUCKETS, bucket_of
from iot_pipeline.core.times import Window

DEVICES_BY_DAY = "{ks}.devices_by_day"
# Of each bucket one is held and one on its way; who walks many days at once has them of each.
_PAGE = 2_000
_DAYS = f"SELECT DISTINCT day, bucket FROM {DEVICES_BY_DAY}"
_OF_BUCKET = f"FROM {DEVICES_BY_DAY} WHERE day = ? AND bucket = ?"
_DEVICES = f"SELECT device_id {_OF_BUCKET} AND device_id {{after}} ? LIMIT ?"
_COUNT = f"SELECT COUNT(*) {_OF_BUCKET}"
_DAYS_OF_DEVICE = (
    f"SELECT day FROM {DEVICES_BY_DAY} WHERE day IN ? AND bucket = ? AND device_id = ?"
)
_DROP_DAY = (
    f"DELETE FROM {DEVICES_BY_DAY} USING TIMESTAMP ? WHERE day = ? AND bucket = ? AND device_id = ?"
)
_DAYS_AT_ONCE = 100

_Names = Sequence[tuple[Any, ...]]


class CassandraDeviceDays(Table):
    """A `DeviceDays`."""

    def days(self) -> list[date]:
        rows = self._run(_DAYS, doing="listing the days that have readings")
        return sorted({row.day.date() for row in rows})

    def devices(self, day: date) -> list[str]:
        return list(self.walk(day))

    def walk(self, day: date, since: str = "") -> Iterator[str]:
        """All buckets are asked at once, page by page; the next page travels meanwhile."""
        first = {bucket: self._start_page(day, bucket, since, True) for bucket in range(BUCKETS)}
        return merge(*(self._pages(day, bucket, asked) for bucket, asked in first.items()))

    def _pages(self, day: date, bucket: int, asked: PendingAnswer[_Names]) -> Iterator[str]:
        while True:
            names = [name for (name,) in self._client.finish(asked)]
            if len(names) < _PAGE:
                yield from names
                return
            asked = self._start_page(day, bucket, names[-1])
            yield from names

    def _start_page(
        self, day: date, bucket: int, name: str, is_included: bool = False
    ) -> PendingAnswer[_Names]:
        cql = _DEVICES.format(ks="{ks}", after=">=" if is_included else ">")
        return self._start(
            cql, (day, bucket, name, _PAGE), f"listing the devices of {day}", all_rows
        )

    def count(self, day: date) -> int:
        doing = f"counting the devices of {day}"
        sent = [
            self._start(_COUNT, (day, bucket), doing, lambda rows: int(rows[0][0]))
            for bucket in range(BUCKETS)
        ]
        return sum(map(self._client.finish, sent))

    def delete_days(self, device_id: str, days: Sequence[date], until_us: int) -> None:
        """Out of the index, as it was noted up to then."""
        for day in days:
            values = (until_us, day, bucket_of(device_id), device_id)
            self._run(_DROP_DAY, values, doing=f"deleting {device_id} from the devices of {day}")

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
