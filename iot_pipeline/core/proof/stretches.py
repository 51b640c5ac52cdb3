"""Records of a stretch of the log as an audit reads them, and where dead letters are known."""

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import attrgetter

from iot_pipeline.core.proof.audit_result import Fate
from iot_pipeline.core.proof.log_reader import LogReader
from iot_pipeline.core.proof.read_back import StoredRow
from iot_pipeline.core.reading.by_path import Told
from iot_pipeline.core.reading.declared_times import timestamp_ms
from iot_pipeline.core.reading.kept_values import kept_columns
from iot_pipeline.core.reading.messages import Headers, Ignored, Rejection
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.reading.spans import Place
from iot_pipeline.core.reading.write_times import Row, write_times_us
from iot_pipeline.core.times import MS_PER_DAY

_time_of = attrgetter("timestamp")


@dataclass(frozen=True, slots=True)
class RawRecords:
    """Messages of any of the partitions as they came, each partition's in order.

    Parallel lists: an object per record would cost as much as all else that is done with it. There
    is at least one message, or none and `unreadable` offsets that were jumped over. Keys and
    headers are there where a reading needs them, else those lists are empty.
    """

    partitions: Sequence[int]
    offsets: Sequence[int]
    produced_ms: Sequence[int]
    values: Sequence[bytes | None]
    unreadable: tuple[OffsetRange, ...] = ()
    message_keys: Sequence[bytes | None] = ()
    headers: Sequence[Headers | None] = ()

    def __len__(self) -> int:
        return len(self.offsets)

    def told(self, reader: LogReader) -> Iterator[Told]:
        """What each message tells, read one by one."""
        nothing = [None] * len(self)
        return map(
            reader.read,
            self.values,
            self.message_keys or nothing,
            self.headers or nothing,
            self.produced_ms,
        )

    def at(self, place: int) -> "RawRecords":
        """One of them alone."""
        one = slice(place, place + 1)
        return RawRecords(
            self.partitions[one],
            self.offsets[one],
            self.produced_ms[one],
            self.values[one],
            (),
            self.message_keys[one],
            self.headers[one],
        )

    def where(self, is_wanted: Iterable[bool]) -> "RawRecords":
        """Those of them, maybe none, at whose places `is_wanted` is true."""
        chosen = list(is_wanted)
        return RawRecords(
            list(compress(self.partitions, chosen)),
            list(compress(self.offsets, chosen)),
            list(compress(self.produced_ms, chosen)),
            list(compress(self.values, chosen)),
            (),
            list(compress(self.message_keys, chosen)),
            list(compress(self.headers, chosen)),
        )


class LetterIndex:
    """Coordinates of dead letters, eight bytes each."""

    def __init__(self, places: Iterable[tuple[int, int]] = ()) -> None:
        offsets: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))
        for partition, offset in places:
            offsets[partition].append(offset)
        self._offsets = {p: array("q", sorted(found)) for p, found in offsets.items()}

    def __contains__(self, place: tuple[int, int]) -> bool:
        offsets = self._offsets.get(place[0])
        if not offsets:
            return False
        at = bisect_left(offsets, place[1])
        return at < len(offsets) and offsets[at] == place[1]


@dataclass(frozen=True, slots=True)
class Tie:
    """A row with a record's write time and other values: another record, or a torn row.

    `otherwise` is the record's fate where it is another record's.
    """

    place: Place
    timestamp_ms: int
    row: Row
    stored: StoredRow
    otherwise: Fate


@dataclass(slots=True)
class Stretch:
    """Consecutive records of the log, decoded, by the row that each should have made.

    `groups` maps place -> timestamp_ms -> the row, or several in the order of arrival (`rows_in`).
    """

    reader: LogReader
    groups: dict[Place, dict[int, Row | list[Row]]] = field(default_factory=dict)
    rejected: list[tuple[int, int]] = field(default_factory=list)
    ignored: int = 0
    records: int = 0

    _of_day: dict[int, dict[str, dict[int, Row | list[Row]]]] = field(default_factory=dict)

    def add(self, records: RawRecords) -> None:
        self.records += len(records)
        readings = self.reader.read_all(records.values)
        if readings is None:
            readings = []
            is_reading = []
            for at, told in enumerate(records.told(self.reader)):
                is_reading.append(not isinstance(told, Rejection | Ignored))
                if isinstance(told, Rejection):
                    self.rejected.append((records.partitions[at], records.offsets[at]))
                elif isinstance(told, Ignored):
                    self.ignored += 1
                else:
                    readings.append(told)
            records = records.where(is_reading)
        times = list(map(timestamp_ms, map(_time_of, readings)))
        days = {ms // MS_PER_DAY for ms in times}
        rows = zip(
            write_times_us(records.produced_ms, records.offsets, records.partitions),
            records.offsets,
            records.partitions,
            *kept_columns(self.reader.columns_of(readings), self.reader.columns),
            strict=True,
        )
        devices = [reading.device_id for reading in readings]
        # Almost always all of one day, and then a device is found by its name alone.
        one_day = days.pop() if len(days) == 1 else None
        groups = self._of_day.setdefault(one_day, {}) if one_day is not None else {}
        for device_id, ms, row in zip(devices, times, rows, strict=True):
            if one_day is None:
                groups = self._of_day.setdefault(ms // MS_PER_DAY, {})
            group = groups.get(device_id)
            if group is None:
                groups[device_id] = group = {}
                self.groups[device_id, ms // MS_PER_DAY] = group
            rival = group.setdefault(ms, row)
            if rival is not row:
                if isinstance(rival, list):
                    rival.append(row)
                else:
                    group[ms] = [rival, row]


def rows_in(found: Row | list[Row]) -> Sequence[Row]:
    """The rows of one key, as a `Stretch` keeps them: a list for each would cost as much as all."""
    return found if isinstance(found, list) else (found,)
