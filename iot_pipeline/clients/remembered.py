"""What audits proved and what people did, remembered for good: a small table each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, date, datetime
from typing import Any

from iot_pipeline.clients.cassandra_answers import PendingAnswer, aware, by_day, ms_of
from iot_pipeline.clients.table import Table
from iot_pipeline.core.fleet.report import LastAudit
from iot_pipeline.core.ingest.stopped import Stop
from iot_pipeline.core.ingest.throttle import Limit, SetLimit
from iot_pipeline.core.ledger.losses import Acknowledgement
from iot_pipeline.core.proof.audit_result import AuditResult, Fate
from iot_pipeline.core.proof.audited_days import AuditedDay
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.forgetting import Progress, Receipt
from iot_pipeline.core.proof.mended import MendedRow
from iot_pipeline.core.proof.settling import KeptSettlement
from iot_pipeline.core.rollups.days import DeletedPart
from iot_pipeline.core.times import us_of

_AUDITS = "{ks}.audits"
_LAST_AUDIT = f"SELECT started_at, fates FROM {_AUDITS} WHERE topic = ? LIMIT 1"
_AUDITED_DAYS = "{ks}.audited_days"
_OF_DAY = tuple(field.name for field in fields(AuditedDay))
_AUDITED = f"SELECT {', '.join(_OF_DAY)} FROM {_AUDITED_DAYS} WHERE topic = ?"
_SETTLEMENTS = "{ks}.settled_days"
_SETTLED = f"SELECT pieces, explained, settled_at FROM {_SETTLEMENTS} WHERE topic = ? AND day = ?"
_STOPS = "{ks}.stopped_partitions"
_STOPPED = f"SELECT * FROM {_STOPS} WHERE topic = ?"
_THROTTLES = "{ks}.throttles"
_THROTTLED = (
    f"SELECT max_rows_per_second, max_bytes_per_second, set_at, set_by FROM {_THROTTLES} "
    "WHERE topic = ?"
)
_UNTHROTTLE = f"DELETE FROM {_THROTTLES} WHERE topic = ?"
_LOSSES = "{ks}.acknowledged_losses"
_ACKNOWLEDGED = f"SELECT * FROM {_LOSSES} WHERE topic = ?"
# All of them: people delete seldom, and rows are torn seldom.
_DELETIONS = "{ks}.deletions"
_LIST = 0
_DELETED = f"SELECT * FROM {_DELETIONS} WHERE list = {_LIST}"
_OF_DELETION = ("device_id", "since", "until", "deleted_us", "reason", "deleted_by")
_DELETED_PLAINLY = (
    f"SELECT {', '.join(_OF_DELETION)}, forgotten FROM {_DELETIONS} WHERE list = {_LIST}"
)
_MENDS = "{ks}.mended_rows"
_MENDED = f"SELECT * FROM {_MENDS}"
_MENDS_OF = f"SELECT COUNT(*) FROM {_MENDS} WHERE device_id = ?"
_DROP_MENDS = f"DELETE FROM {_MENDS} WHERE device_id = ?"


class CassandraAudits(Table):
    """An `Audits`."""

    def record_audit(
        self,
        topic: str,
        topic_id: str,
        audit_id: str,
        started_at: datetime,
        result: AuditResult,
    ) -> None:
        row = {
            "topic": topic,
            "started_at": started_at,
            "audit_id": audit_id,
            "topic_id": topic_id,
            "ranges": [str(item) for item in result.ranges],
            "fates": {fate.value: result.fates[fate] for fate in Fate},
            "stored_by_day": dict(result.stored_by_day),
            "superseded_by_day": dict(result.superseded_by_day),
            "is_stray_judged": result.is_stray_judged,
            "findings": [str(finding) for finding in result.findings],
            "seconds": result.seconds,
        }
        self._insert(_AUDITS, row, doing="recording the audit")

    def record_days(self, topic: str, started_at: datetime, days: Iterable[AuditedDay]) -> None:
        # With the time at which it began: of two audits at once the newer one's stays.
        for day in days:
            self._insert(
                _AUDITED_DAYS,
                {"topic": topic, **{name: getattr(day, name) for name in _OF_DAY}},
                doing=f"recording the audit of {day.day}",
                more="USING TIMESTAMP ?",
                more_values=(us_of(started_at),),
            )

    def read_audited_days(self, topic: str) -> dict[date, AuditedDay]:
        rows = self._run(_AUDITED, (topic,), doing=f"reading which days of {topic} were audited")
        found = (
            AuditedDay(
                **{
                    **{name: getattr(row, name) for name in _OF_DAY},
                    "day": row.day.date(),
                    "audited_at": aware(row.audited_at),
                }
            )
            for row in rows
        )
        return {item.day: item for item in found}

    def read_last_audit(self, topic: str) -> LastAudit | None:
        rows = self._run(_LAST_AUDIT, (topic,), doing=f"reading the last audit of {topic}")
        if not rows:
            return None
        return LastAudit(aware(rows[0].started_at), dict(rows[0].fates or {}))


class CassandraSettlements(Table):
    """A `Settlements`."""

    def read_settlement(self, topic: str, day: date) -> KeptSettlement:
        doing = f"reading what is known of the rows of {day}"
        rows = self._run(_SETTLED, (topic, day), doing=doing)
        if not rows:
            return KeptSettlement()
        at = rows[0].settled_at
        pieces = dict(rows[0].pieces or {})
        return KeptSettlement(pieces, rows[0].explained or 0, aware(at) if at else None)

    def keep_settlement(self, topic: str, day: date, kept: KeptSettlement) -> None:
        row = {"topic": topic, "day": day, "pieces": dict(kept.pieces)}
        row |= {"explained": kept.explained, "settled_at": kept.settled_at}
        self._insert(_SETTLEMENTS, row, doing=f"remembering what is known of the rows of {day}")


class CassandraStops(Table):
    """A `Stops`."""

    def read_stops(self, topic: str) -> list[Stop]:
        return [
            Stop(
                row.kafka_partition,
                row.epoch,
                row.next_offset,
                aware(row.stopped_at),
                row.run_id,
                row.cause,
            )
            for row in self._run(_STOPPED, (topic,), doing="reading which partitions stand still")
        ]

    def keep_stop(self, topic: str, stop: Stop) -> None:
        row = {
            "topic": topic,
            "kafka_partition": stop.partition,
            "epoch": stop.epoch,
            "next_offset": stop.next_offset,
            "stopped_at": stop.since,
            "run_id": stop.run_id,
            "cause": stop.cause,
        }
        self._insert(_STOPS, row, doing=f"remembering why partition {stop.partition} stands still")


class CassandraThrottles(Table):
    """A `Throttles`."""

    def read_limit(self, topic: str) -> SetLimit | None:
        rows = self._run(_THROTTLED, (topic,), doing=_doing_throttle("reading", topic))
        return _set_limit(rows)

    def start_read(self, topic: str) -> PendingAnswer[SetLimit | None]:
        return self._start(_THROTTLED, (topic,), _doing_throttle("reading", topic), _set_limit)

    def keep_limit(self, topic: str, kept: SetLimit | None) -> None:
        if kept is None:
            self._run(_UNTHROTTLE, (topic,), doing=_doing_throttle("taking back", topic))
            return
        row = {
            "topic": topic,
            "max_rows_per_second": kept.limit.rows_per_second,
            "max_bytes_per_second": kept.limit.bytes_per_second,
            "set_at": kept.set_at,
            "set_by": kept.set_by,
        }
        self._insert(_THROTTLES, row, doing=_doing_throttle("setting", topic))


def _doing_throttle(what: str, topic: str) -> str:
    return f"{what} the limit of {topic}"


def _set_limit(rows: Sequence[Any]) -> SetLimit | None:
    if not rows:
        return None
    most_rows, most_bytes, set_at, set_by = rows[0]
    return SetLimit(Limit(most_rows or 0, most_bytes or 0), aware(set_at), set_by or "")


class CassandraAcknowledgedLosses(Table):
    """An `Acknowledgements`."""

    def acknowledge_loss(self, topic: str, loss_id: str, reason: str, by: str) -> Acknowledgement:
        now = datetime.now(UTC)
        row = {"topic": topic, "loss_id": loss_id, "acknowledged_at": now}
        row |= {"reason": reason, "acknowledged_by": by}
        doing = f"acknowledging the loss {loss_id}"
        (found,) = self._insert(_LOSSES, row, doing=doing, more="IF NOT EXISTS")
        return Acknowledgement(now, reason, by) if found[0] else _acknowledgement(found)

    def acknowledged_losses(self, topic: str) -> dict[str, Acknowledgement]:
        rows = self._run(_ACKNOWLEDGED, (topic,), doing="reading acknowledged losses")
        return {row.loss_id: _acknowledgement(row) for row in rows}


def _acknowledgement(row: Any) -> Acknowledgement:
    return Acknowledgement(aware(row.acknowledged_at), row.reason, row.acknowledged_by)


class CassandraDeletions(Table):
    """A `DeletionLog`, and the `Receipts` among them."""

    def read_deletions(self) -> list[Deletion]:
        return [
            _deletion(row[:-1], row.forgotten)
            for row in self._run(_DELETED_PLAINLY, doing="reading deletions")
        ]

    def start_deletions(self) -> PendingAnswer[list[Deletion]]:
        return self._start(
            _DELETED_PLAINLY,
            (),
            "reading deletions",
            lambda rows: [_deletion(row[:-1], row[-1]) for row in rows],
        )

    def read_receipts(self) -> list[Receipt]:
        return [
            Receipt(
                _deletion([getattr(row, name) for name in _OF_DELETION], row.forgotten),
                aware(row.deleted_at),
                Progress(row.forgotten),
                by_day(row.rows_by_day),
                dict(row.found or {}),
                by_day(row.cells_by_day),
            )
            for row in self._run(_DELETED, doing="reading receipts")
            if row.forgotten
        ]

    def keep_receipt(self, receipt: Receipt) -> None:
        row = _deletion_row(receipt.deletion, receipt.forgotten_at, receipt.rows_by_day)
        row |= {"forgotten": receipt.progress.value, "found": dict(receipt.found)}
        row["cells_by_day"] = dict(receipt.cells_by_day)
        doing = f"recording that {receipt.device_id} is forgotten"
        self._insert(_DELETIONS, row, doing=doing)

    def deleted_parts(self) -> list[DeletedPart]:
        return [
            DeletedPart(
                f"deletion {row.device_id} {row.deleted_at} {row.since}",
                aware(row.deleted_at),
                by_day(row.rows_by_day),
            )
            for row in self._run(_DELETED, doing="reading deletions")
        ]

    def record_deletion(
        self, deletion: Deletion, deleted_at: datetime, rows_by_day: Mapping[date, int]
    ) -> None:
        row = _deletion_row(deletion, deleted_at, rows_by_day)
        doing = f"recording the deletion of readings of {deletion.device_id}"
        self._insert(_DELETIONS, row, doing=doing)


def _deletion(plain: Sequence[Any], forgotten: str | None) -> Deletion:
    device_id, since, until, deleted_us, reason, deleted_by = plain
    return Deletion(
        device_id,
        ms_of(since),
        ms_of(until),
        deleted_us,
        reason,
        deleted_by,
        is_forgotten=bool(forgotten),
    )


def _deletion_row(
    deletion: Deletion, deleted_at: datetime, rows_by_day: Mapping[date, int]
) -> dict[str, Any]:
    return {
        "list": _LIST,
        "device_id": deletion.device_id,
        "deleted_at": deleted_at,
        "since": deletion.since_ms,
        "until": deletion.until_ms,
        "deleted_us": deletion.deleted_us,
        "rows_by_day": dict(rows_by_day),
        "reason": deletion.reason,
        "deleted_by": deletion.deleted_by,
    }


class CassandraMendedRows(Table):
    """A `MendLog`."""

    def count_mends(self, device_id: str) -> int:
        rows = self._run(_MENDS_OF, (device_id,), doing=f"counting mended rows of {device_id}")
        return int(rows[0][0])

    def delete_mends(self, device_id: str) -> None:
        self._run(_DROP_MENDS, (device_id,), doing=f"deleting what was mended of {device_id}")

    def read_mended(self) -> list[MendedRow]:
        return [
            MendedRow(
                row.device_id,
                ms_of(row.timestamp),
                row.kafka_partition,
                row.kafka_offset,
                row.mended_us,
            )
            for row in self._run(_MENDED, doing="reading mended rows")
        ]

    def record_mend(self, mended: MendedRow, mended_at: datetime, mended_by: str) -> None:
        row = {
            "device_id": mended.device_id,
            "timestamp": mended.timestamp_ms,
            "kafka_partition": mended.partition,
            "kafka_offset": mended.offset,
            "mended_us": mended.written_us,
            "mended_at": mended_at,
            "mended_by": mended_by,
        }
        self._insert(_MENDS, row, doing=f"recording the mend of a row of {mended.device_id}")
