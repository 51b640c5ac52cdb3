"""Questions to both ledgers, `ingest_ledger` and `replay_ledger`; their names stand here alone."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from iot_pipeline.clients.cassandra import PLAIN_TUPLES
from iot_pipeline.clients.cassandra_answers import PendingAnswer, aware, by_day, ms_of
from iot_pipeline.clients.table import Table
from iot_pipeline.core.ledger.chain import FATES, ChainLink, Counts, LedgerEntry, Outcome
from iot_pipeline.core.ledger.declared import DeclaredReplay
from iot_pipeline.core.ledger.sums import EntryPlace
from iot_pipeline.core.reading.offsets import OffsetRange, parse_range
from iot_pipeline.core.rollups.days import IngestedPart, ReplayedPart

LEDGER = "{ks}.ingest_ledger"
REPLAYS = "{ks}.replay_ledger"
OF_PARTITION = "WHERE topic = ? AND kafka_partition = ?"

COUNT_COLUMNS = (*FATES, "stored_by_day", "cells_by_day")
# What an entry says beside its place.
ENTRY_COLUMNS = (
    "end_offset", "outcome", "cause", "run_id", "writer_id", *COUNT_COLUMNS, "first_record_at",
    "last_record_at", "updated_at", "declaration",
)  # fmt: skip
ENTRIES = (
    f"SELECT topic, kafka_partition, epoch, start_offset, {', '.join(ENTRY_COLUMNS)} "
    f"FROM {LEDGER} {OF_PARTITION}"
)
ENTRY_AT = f"{ENTRIES} AND epoch = ? AND start_offset = ?"
_FIRST = (
    f"SELECT start_offset FROM {LEDGER} {OF_PARTITION} AND epoch = ? "
    "ORDER BY epoch ASC, start_offset ASC LIMIT 1"
)
_AT_PLACES = f"{ENTRIES} AND (epoch, start_offset) IN ?"
_SINCE = " AND (epoch, start_offset) >= (?, ?)"
# No map, no time, no uuid: those are four fifths of what reading an entry costs the client.
_LINKS = (
    f"SELECT kafka_partition, epoch, start_offset, end_offset, outcome, run_id, {', '.join(FATES)}"
    f"{{more}} FROM {LEDGER} {OF_PARTITION}"
)
_PARTITIONS = f"SELECT DISTINCT topic, kafka_partition FROM {LEDGER}"
# A question for what is new stops soon: most of a page of 5,000 would be decoded in vain.
_NEW_ROWS_PER_PAGE = 200
# Where many Kafka partitions are asked for at once, their first pages are held together.
_MANY_PARTITIONS = 4
_ROWS_PER_PAGE_OF_MANY = 500
# Summed where the entries are: a year of them is 70,000 rows, and these are one.
_STORED_BY_DAY = f"SELECT {{sums}} FROM {LEDGER} {OF_PARTITION}"
_REPLAYED_BY_DAY = f"SELECT {{sums}} FROM {REPLAYS} WHERE topic = ?"
_DAYS_PER_SUM = 20
_INGESTED = (
    "SELECT kafka_partition, start_offset, end_offset, stored_by_day, first_record_at "
    f"FROM {LEDGER} {OF_PARTITION}"
)
_REPLAYED = (
    f"SELECT started_at, run_id, ranges, stored, stored_by_day FROM {REPLAYS} WHERE topic = ?"
)
_DECLARED = (
    "SELECT started_at, ranges, topic_id, declaration, stored_by_day, cells_by_day "
    f"FROM {REPLAYS} WHERE topic = ?"
)

_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


class LedgerReads(Table):
    """What `LedgerStore` can be asked; nothing of it is a serial read."""

    def partitions(self, topic: str) -> list[int]:
        """Kafka partitions the ledger knows, in order; asked of Cassandra alone."""
        # Keys of a table that has one partition per Kafka partition: a few hundred at most.
        rows = self._run(_PARTITIONS, doing=f"looking for the ledger of {topic}")
        return sorted(row.kafka_partition for row in rows if row.topic == topic)

    def read_entries(
        self,
        topic: str,
        partitions: Sequence[int],
        since: datetime | None = None,
        *,
        places: Mapping[int, EntryPlace] | None = None,
        outcomes: Collection[Outcome] = (),
        day: date | None = None,
        limit: int | None = None,
    ) -> list[LedgerEntry]:
        asked = []
        for partition in partitions:
            cql, values = ENTRIES, [topic, partition]
            if places and partition in places:
                cql, values = cql + _SINCE, [*values, *places[partition]]
            if outcomes:
                cql, values = f"{cql} AND outcome IN ?", [*values, [str(o) for o in outcomes]]
            if day is not None:
                cql, values = f"{cql} AND stored_by_day CONTAINS KEY ?", [*values, day]
            if limit is not None:
                cql, values = f"{cql} LIMIT ?", [*values, limit]
            if outcomes or day is not None:
                # One Cassandra partition: the filter saves the transport, and every run asks this.
                cql += " ALLOW FILTERING"
            asked.append((self._cql(cql), values, f"reading the ledger of {topic}[{partition}]"))
        entries = []
        for rows in self._client.streams(asked, page_rows=_page_rows(partitions, since)):
            for row in rows:
                entry = entry_of([row])
                if entry is None:
                    continue
                if since and entry.updated_at and entry.updated_at < since:
                    break
                entries.append(entry)
        return entries

    def first_offset(self, topic: str, partition: int, epoch: int) -> int | None:
        rows = self._run(
            _FIRST, (topic, partition, epoch), doing=f"asking where {topic}[{partition}] begins"
        )
        return rows[0].start_offset if rows else None

    def read_links(
        self, topic: str, partitions: Sequence[int], since: datetime | None = None
    ) -> list[ChainLink]:
        # A number: decoding a time costs the client as much as the rest of a link.
        more = ", toUnixTimestamp(updated_at)" if since else ""
        cql = _LINKS.format(ks=self._client.keyspace, more=more)
        before_ms = since.timestamp() * 1000 if since else 0.0
        asked = [
            (cql, (topic, partition), f"walking the ledger of {topic}[{partition}]")
            for partition in partitions
        ]
        links = []
        for rows in self._client.streams(
            asked, page_rows=_page_rows(partitions, since), profile=PLAIN_TUPLES
        ):
            for place, epoch, start, end, outcome, run_id, *counts in rows:
                # The checkpoint is static and outlives every row.
                if start is None:
                    continue
                if since:
                    updated_ms = counts.pop()
                    if updated_ms and updated_ms < before_ms:
                        break
                fates = [count or 0 for count in counts]
                links.append(
                    ChainLink(place, epoch, start, end, _OUTCOMES[outcome], run_id, *fates)
                )
        return links

    def read_at(
        self, topic: str, partition: int, places: Collection[EntryPlace]
    ) -> list[LedgerEntry]:
        doing = f"looking for entries of {topic}[{partition}]"
        asked = [tuple(place) for place in places]
        found = self._client.stream(self._cql(_AT_PLACES), (topic, partition, asked), doing=doing)
        return [entry for row in found if (entry := entry_of([row])) is not None]

    def stored_by_day(
        self,
        topic: str,
        partitions: Sequence[int],
        days: Sequence[date],
        since: Mapping[int, EntryPlace] | None = None,
        *,
        of_cells: bool = False,
    ) -> Iterator[dict[date, int]]:
        """A question per Kafka partition and one for replays, for every 20 days: one row each."""
        starts = since or {}
        column = "cells_by_day" if of_cells else "stored_by_day"
        for at in range(0, len(days), _DAYS_PER_SUM):
            part = tuple(days[at : at + _DAYS_PER_SUM])
            sums = ", ".join([f"SUM({column}[?])"] * len(part))
            asked: list[tuple[str, tuple[Any, ...], str]] = [
                (
                    _STORED_BY_DAY + (_SINCE if partition in starts else ""),
                    (topic, partition, *starts.get(partition, ())),
                    f"the ledger of {topic}[{partition}]",
                )
                for partition in partitions
            ]
            asked.append((_REPLAYED_BY_DAY, (topic,), f"replays of {topic}"))
            # All at once: each question takes as long as its Kafka partition has rows.
            sent = [self._start_sum(cql, sums, (*part, *place), what) for cql, place, what in asked]
            for pending in sent:
                row = self._client.finish(pending)
                yield {day: int(row[n] or 0) for n, day in enumerate(part)}

    def _start_sum(
        self, cql: str, sums: str, values: tuple[Any, ...], what: str
    ) -> PendingAnswer[Sequence[Any]]:
        template = cql.replace("{sums}", sums)
        return self._start(template, values, f"summing {what}", lambda rows: rows[0])

    def ingested_parts(self, topic: str) -> Iterator[IngestedPart]:
        for partition in self.partitions(topic):
            rows = self._client.stream(
                self._cql(_INGESTED),
                (topic, partition),
                doing=f"reading the days of the ledger of {topic}[{partition}]",
            )
            for row in rows:
                # The checkpoint is static: a partition without rows still answers with one.
                if row.start_offset is None:
                    continue
                yield IngestedPart(
                    OffsetRange(row.kafka_partition, row.start_offset, row.end_offset),
                    by_day(row.stored_by_day),
                    None if row.first_record_at is None else ms_of(row.first_record_at),
                )

    def replayed_parts(self, topic: str) -> list[ReplayedPart]:
        rows = self._client.stream(
            self._cql(_REPLAYED), (topic,), doing=f"reading the replays of {topic}"
        )
        return [
            ReplayedPart(
                f"replay {row.started_at} {row.run_id} {row.stored} {row.ranges}",
                [parse_range(text) for text in row.ranges or ()],
                row.stored or 0,
                by_day(row.stored_by_day),
            )
            for row in rows
        ]

    def declared_replays(self, topic: str) -> list[DeclaredReplay]:
        rows = self._client.stream(
            self._cql(_DECLARED), (topic,), doing=f"reading the replays of {topic}"
        )
        found = [
            DeclaredReplay(
                row.topic_id or "",
                row.declaration,
                [parse_range(text) for text in row.ranges or ()],
                aware(row.started_at),
                by_day(row.stored_by_day),
                by_day(row.cells_by_day),
            )
            for row in rows
            if row.declaration
        ]
        return found[::-1]


def _page_rows(partitions: Sequence[int], since: datetime | None) -> int | None:
    if since:
        return _NEW_ROWS_PER_PAGE
    return _ROWS_PER_PAGE_OF_MANY if len(partitions) > _MANY_PARTITIONS else None


def entry_of(rows: Sequence[Any]) -> LedgerEntry | None:
    """What the first of these rows of `ENTRIES` says; None where there is none."""
    # The checkpoint is static and outlives every row: a partition without rows still answers
    # with one that has no start_offset.
    if not rows or rows[0].start_offset is None:
        return None
    row = rows[0]
    return LedgerEntry(
        topic=row.topic,
        partition=row.kafka_partition,
        epoch=row.epoch,
        start_offset=row.start_offset,
        end_offset=row.end_offset,
        outcome=Outcome(row.outcome),
        run_id=row.run_id,
        writer_id=row.writer_id,
        counts=Counts(
            **{fate: getattr(row, fate) or 0 for fate in FATES},
            stored_by_day=by_day(row.stored_by_day),
            cells_by_day=by_day(row.cells_by_day),
            first_record_ms=None if row.first_record_at is None else ms_of(row.first_record_at),
            last_record_ms=None if row.last_record_at is None else ms_of(row.last_record_at),
        ),
        updated_at=aware(row.updated_at) if row.updated_at else None,
        cause=row.cause or "",
        declaration=row.declaration or "",
    )
