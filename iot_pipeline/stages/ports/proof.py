"""What is remembered of rows that are no longer as they were drained, and what audits proved."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Protocol

from iot_pipeline.core.fleet.report import LastAudit
from iot_pipeline.core.proof.audit_result import AuditResult
from iot_pipeline.core.proof.audited_days import AuditedDay
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.forgetting import Receipt
from iot_pipeline.core.proof.mended import MendedRow
from iot_pipeline.core.proof.settling import KeptSettlement
from iot_pipeline.core.rollups.days import DeletedPart
from iot_pipeline.stages.ports.answers import Answer


class DeletionLog(Protocol):
    """Readings that were deleted on purpose, remembered for good."""

    def read_deletions(self) -> Sequence[Deletion]: ...

    def start_deletions(self) -> Answer[Sequence[Deletion]]:
        """The same, without waiting."""

    def deleted_parts(self) -> Sequence[DeletedPart]:
        """The same, as the rollups of days take them."""

    def record_deletion(
        self, deletion: Deletion, deleted_at: datetime, rows_by_day: Mapping[date, int]
    ) -> None:
        """Written before the rows go, so that none goes unexplained."""


class Receipts(Protocol):
    """Devices that were forgotten; each is a deletion, too, from the moment it is begun."""

    def read_receipts(self) -> Sequence[Receipt]: ...

    def keep_receipt(self, receipt: Receipt) -> None:
        """In the place of one of the same device and moment."""


class MendLog(Protocol):
    """Torn rows that were written again whole, remembered for good."""

    def read_mended(self) -> Sequence[MendedRow]: ...

    def record_mend(self, mended: MendedRow, mended_at: datetime, mended_by: str) -> None:
        """Written before the row is; again, the same."""


class Audits(Protocol):
    """What audits proved."""

    def record_audit(
        self,
        topic: str,
        topic_id: str,
        audit_id: str,
        started_at: datetime,
        result: AuditResult,
    ) -> None:
        """Keep what it found of every offset."""

    def record_days(self, topic: str, started_at: datetime, days: Iterable[AuditedDay]) -> None:
        """Keep what an audit found of each day that it covered: the newest audit's stays."""

    def read_audited_days(self, topic: str) -> Mapping[date, AuditedDay]:
        """Of each day that an audit has covered whole, what the newest one found."""

    def read_last_audit(self, topic: str) -> LastAudit | None:
        """The newest audit of the topic, None when there was none."""


class Settlements(Protocol):
    """Why days have fewer rows than the ledger stored, as far as it was found out."""

    def read_settlement(self, topic: str, day: date) -> KeptSettlement:
        """An empty one where nothing is kept."""

    def keep_settlement(self, topic: str, day: date, kept: KeptSettlement) -> None:
        """In the place of an earlier one."""
