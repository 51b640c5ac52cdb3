"""Rows that no record explains: written by somebody else, or by records that are gone.

In bounded memory: one fingerprint per bucket of partitions, of what the records should have made
and of what is there; only buckets that differ are looked at row by row.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from iot_pipeline.core.audit import BUCKETS, AuditResult, Fate, Finding, RowSums, Window
from iot_pipeline.core.offsets import OffsetRange, in_rounds
from iot_pipeline.core.read_back import Place
from iot_pipeline.core.readings import ReadingDecoder
from iot_pipeline.stages.audit_ports import AuditConfig, AuditPorts
from iot_pipeline.stages.read_back import scan_rows
from iot_pipeline.stages.trace import find_records

# Keys held at once while rows without a record are named, about 100 bytes each.
MAX_EXPLAINED = 2_000_000


@dataclass(frozen=True, slots=True)
class StraySearch:
    """Looks for rows without a record.

    Args:
        topic: its name.
        ports: what is read.
        config: rules and limits.
        readable: the offsets that were read.
        span_us: write times, both inclusive, in which every record was read; others are not judged.
        newest_ms: Kafka timestamp of the newest record read.
        days: days since 1970 to look at; None: every partition of the table.
        result: where strays are counted and named.
        tell: called now and then.
    """

    topic: str
    ports: AuditPorts
    config: AuditConfig
    readable: Sequence[OffsetRange]
    span_us: tuple[int, int]
    newest_ms: int
    days: Sequence[int] | None
    result: AuditResult
    tell: Callable[[], None]

    def run(self, stored: RowSums) -> None:
        """Count and name the rows that none of the records read has made.

        Args:
            stored: fingerprints of the rows that the records read should have made.
        """
        low_us, high_us = self.span_us
        found = RowSums()
        for place, ms, written in self._scan(self._places()):
            for written_us in {us for us in written if us is not None}:
                if low_us <= written_us <= high_us:
                    found.add(place, ms, written_us)
        # A row that a record outside of the span has written is no difference.
        suspects = stored.differing(found)
        if suspects:
            self._name(suspects)

    def _name(self, suspects: set[int]) -> None:
        low_us, high_us = self.span_us
        # The keys of a slice of the buckets fit in memory; the log is read once per slice.
        share = max(1, MAX_EXPLAINED * BUCKETS // max(1, self.result.records))
        ordered = sorted(suspects)
        for at in range(0, len(ordered), share):
            buckets = set(ordered[at : at + share])
            explained = self._explained(buckets)
            places = (p for p in self._places() if RowSums.bucket_of(p) in buckets)
            for place, ms, written in self._scan(places):
                for written_us in sorted({us for us in written if us is not None}):
                    if (
                        low_us <= written_us <= high_us
                        and hash((place, ms, written_us)) not in explained
                        and not self._is_of_a_newer_record(place, ms, written_us)
                    ):
                        self.result.fates[Fate.STRAY] += 1
                        detail = f"no record wrote it, at {written_us} µs"
                        self.result.name(Finding(Fate.STRAY, place[0], ms, None, None, detail))
                        break

    def _explained(self, buckets: set[int]) -> set[int]:
        explained: set[int] = set()
        decoder = ReadingDecoder(self.config.rules)
        for ranges in in_rounds(self.readable):
            for records in self.ports.records.read(self.topic, list(ranges.values())):
                window = Window(decoder)
                window.add(records)
                for place, group in window.groups.items():
                    if RowSums.bucket_of(place) in buckets:
                        explained |= {
                            hash((place, ms, row[0])) for ms, rows in group.items() for row in rows
                        }
        return explained

    def _is_of_a_newer_record(self, place: Place, ms: int, written_us: int) -> bool:
        """Whether a record that came after those we read wrote it: clocks differ a little."""
        if written_us // 1000 < self.newest_ms:
            return False
        ports, rules = self.ports, self.config.rules
        return bool(
            find_records(ports.log, ports.records, self.topic, rules, place, ms, written_us)
        )

    def _places(self) -> Iterator[Place]:
        if self.days is None:
            yield from self.ports.store.all_places()
            return
        for day_number in self.days:
            for device_id in self.ports.store.devices_of(day_number):
                yield device_id, day_number

    def _scan(
        self, places: Iterable[Place]
    ) -> Iterator[tuple[Place, int, tuple[int | None, int | None]]]:
        """Every row of these partitions: (place, timestamp_ms, write times of its two cells)."""
        for place, found in scan_rows(self.ports.rows, places, self.config.retry_seconds):
            for ms, stored in found:
                yield place, ms, stored[2:]
            self.tell()
