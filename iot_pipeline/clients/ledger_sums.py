"""The ledger's sums, whole or since an entry, and what of them is kept."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from iot_pipeline.clients.cassandra import CassandraClient, PendingAnswer
from iot_pipeline.clients.ledger_store import ENTRIES, ENTRY_AT, entry_of
from iot_pipeline.core.ledger.chain import LedgerEntry, Outcome
from iot_pipeline.core.ledger.sums import EntryPlace, LedgerSum

_SINCE = " AND (epoch, start_offset) >= (?, ?)"
# One Cassandra partition: the filter saves the transport, and every run asks this.
_THAT_EXPIRED = " AND outcome = ? ALLOW FILTERING"
# Summed where the entries are: a year of them is 70,000 rows, and these are one.
_STORED_BY_DAY = "SELECT {sums} FROM {ks}.ingest_ledger WHERE topic = ? AND kafka_partition = ?"
_REPLAYED_BY_DAY = "SELECT {sums} FROM {ks}.replay_ledger WHERE topic = ?"
_DAYS_PER_SUM = 20
_READ_KEPT = "SELECT kafka_partition, kept FROM {ks}.ledger_sums WHERE topic = ?"
_WRITE_KEPT = "INSERT INTO {ks}.ledger_sums (topic, kafka_partition, kept) VALUES (?, ?, ?)"


class CassandraLedgerSums:
    """Asks both ledgers for sums; each question but `read_from` is answered by a row or a few."""

    def __init__(self, client: CassandraClient) -> None:
        self._client = client

    def _cql(self, template: str) -> str:
        return template.format(ks=self._client.keyspace)

    def stored_by_day(
        self,
        topic: str,
        partitions: Sequence[int],
        days: Sequence[date],
        since: Mapping[int, EntryPlace] | None = None,
    ) -> Iterator[dict[date, int]]:
        """Rows stored on these UTC days by both ledgers: one map per question, to be summed.

        A question per Kafka partition, and one for replays, for every 20 days; however long the
        ledger is, one row comes back.

        Args:
            topic: its name.
            partitions: which.
            days: which.
            since: the entry to begin with, of Kafka partitions whose older ones are left out.
        """
        starts = since or {}
        for at in range(0, len(days), _DAYS_PER_SUM):
            part = tuple(days[at : at + _DAYS_PER_SUM])
            sums = ", ".join(["SUM(stored_by_day[?])"] * len(part))
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
                (row,) = self._client.finish(pending)
                yield {day: int(row[n] or 0) for n, day in enumerate(part)}

    def _start_sum(self, cql: str, sums: str, values: tuple[Any, ...], what: str) -> PendingAnswer:
        asked = cql.format(ks=self._client.keyspace, sums=sums)
        return self._client.start(
            lambda: self._client.prepare(asked).bind(values), f"summing {what}"
        )

    def read_expired(
        self,
        topic: str,
        partitions: Sequence[int],
        since: Mapping[int, EntryPlace] | None = None,
    ) -> list[LedgerEntry]:
        """The entries with the outcome `expired` alone, filtered where they are.

        Args:
            topic: its name.
            partitions: which.
            since: the entry to begin with, of Kafka partitions whose older ones are left out.
        """
        starts = since or {}
        return [
            entry
            for partition in partitions
            for entry in self._read(
                (_SINCE if partition in starts else "") + _THAT_EXPIRED,
                (topic, partition, *starts.get(partition, ()), Outcome.EXPIRED.value),
                f"reading the losses of {topic}[{partition}]",
            )
        ]

    def read_from(
        self, topic: str, partition: int, place: EntryPlace | None, limit: int | None = None
    ) -> list[LedgerEntry]:
        """The entries from this one on, newest first; None: all. No more than `limit`."""
        condition, values = ("", ()) if place is None else (_SINCE, tuple(place))
        if limit is not None:
            condition, values = condition + " LIMIT ?", (*values, limit)
        doing = f"reading the newer ledger of {topic}[{partition}]"
        return self._read(condition, (topic, partition, *values), doing)

    def read_at(self, topic: str, partition: int, place: EntryPlace) -> LedgerEntry | None:
        """The entry that begins just here, if one does."""
        doing = f"looking for an entry of {topic}[{partition}]"
        values = (topic, partition, *place)
        return entry_of(self._client.execute(self._cql(ENTRY_AT), values, doing=doing))

    def _read(self, condition: str, values: tuple[Any, ...], doing: str) -> list[LedgerEntry]:
        rows = self._client.stream(self._cql(ENTRIES) + condition, values, doing=doing)
        found = (entry_of([row]) for row in rows)
        return [entry for entry in found if entry is not None]

    def read_sums(self, topic: str) -> dict[int, LedgerSum]:
        """The kept ones, by Kafka partition."""
        rows = self._client.execute(
            self._cql(_READ_KEPT), (topic,), doing=f"reading the kept sums of {topic}"
        )
        return {row.kafka_partition: _sum_of(row.kafka_partition, *row.kept) for row in rows}

    def write_sum(self, topic: str, kept: LedgerSum) -> None:
        """Keep it in the place of an earlier one."""
        value = (*kept.until, dict(kept.stored_by_day), [tuple(place) for place in kept.expired])
        self._client.execute(
            self._cql(_WRITE_KEPT),
            (topic, kept.partition, value),
            doing=f"keeping the sum of {topic}[{kept.partition}]",
        )


def _sum_of(partition: int, epoch: int, start: int, stored: Any, expired: Any) -> LedgerSum:
    return LedgerSum(
        partition,
        EntryPlace(epoch, start),
        {day.date(): rows for day, rows in (stored or {}).items()},
        tuple(EntryPlace(*place) for place in expired or ()),
    )
