"""What audits proved."""

from datetime import datetime

from iot_pipeline.clients.cassandra import Table, aware
from iot_pipeline.core.fleet.report import LastAudit
from iot_pipeline.core.proof.audit_result import AuditResult, Fate

_AUDITS = "{ks}.audits"
_RECORD = (
    f"INSERT INTO {_AUDITS} (topic, started_at, audit_id, topic_id, ranges, fates, stored_by_day, "
    "superseded_by_day, is_stray_judged, findings, seconds) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_LAST = f"SELECT started_at, fates FROM {_AUDITS} WHERE topic = ? LIMIT 1"


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
        self._run(
            _RECORD,
            (
                topic,
                started_at,
                audit_id,
                topic_id,
                [str(item) for item in result.ranges],
                {fate.value: result.fates[fate] for fate in Fate},
                dict(result.stored_by_day),
                dict(result.superseded_by_day),
                result.is_stray_judged,
                [str(finding) for finding in result.findings],
                result.seconds,
            ),
            doing="recording the audit",
        )

    def read_last_audit(self, topic: str) -> LastAudit | None:
        rows = self._run(_LAST, (topic,), doing=f"reading the last audit of {topic}")
        if not rows:
            return None
        return LastAudit(aware(rows[0].started_at), dict(rows[0].fates or {}))
