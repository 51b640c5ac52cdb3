"""The contracts of what audits and people leave behind, for the fakes and for the real clients."""

from dataclasses import replace
from datetime import UTC, date, datetime
from uuid import uuid4

from iot_pipeline.core.proof.audit_result import AuditResult, Fate
from iot_pipeline.core.proof.audited_days import AuditedDay
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.proof.mended import MendedRow
from iot_pipeline.core.reading.formats import Format, WriterSchema
from iot_pipeline.stages.ports.ledger import Acknowledgements
from iot_pipeline.stages.ports.proof import Audits, DeletionLog, MendLog
from iot_pipeline.stages.ports.readings import Declarations
from iot_pipeline_tests.core.reading.declared import of_one

NOW = datetime(2026, 3, 11, 12, tzinfo=UTC)


class DeletionLogContract:
    """`deletions` may have others in it already."""

    def test_a_deletion_is_remembered_with_what_it_covers_and_its_days(
        self, deletions: DeletionLog
    ) -> None:
        before = {part.name for part in deletions.deleted_parts()}
        deletion = Deletion(uuid4().hex, 1_735_444_918_316, 1_735_444_918_999, 17, "why", "me")
        deletions.record_deletion(deletion, NOW, {date(2024, 12, 29): 3})
        assert deletion in deletions.read_deletions()
        (part,) = [part for part in deletions.deleted_parts() if part.name not in before]
        assert part.rows_by_day == {date(2024, 12, 29): 3}
        assert part.deleted_at == NOW


class MendLogContract:
    """`mends` may have others in it already."""

    def test_a_mend_is_remembered_once_however_often_it_is_said(self, mends: MendLog) -> None:
        mended = MendedRow(uuid4().hex, 1_735_444_918_316, 3, 1 << 40, 1_735_444_920_000_992)
        before = len(mends.read_mended())
        for _ in range(2):
            mends.record_mend(mended, NOW, "me")
        assert mended in mends.read_mended()
        assert len(mends.read_mended()) == before + 1


class AuditsContract:
    """`audits_world` is an `Audits`, and a topic that it never saw."""

    def test_the_newest_audit_is_the_last_one(self, audits_world: tuple[Audits, str]) -> None:
        audits, topic = audits_world
        assert audits.read_last_audit(topic) is None
        for hours, lost in ((1, 7), (0, 3)):
            result = AuditResult([])
            result.fates[Fate.LOST] = lost
            at = NOW.replace(hour=NOW.hour - hours)
            audits.record_audit(topic, "uuid", f"audit-{hours}", at, result)
        last = audits.read_last_audit(topic)
        assert last is not None
        assert last.started_at == NOW
        assert last.fates["lost"] == 3

    def test_of_a_day_what_the_newest_audit_found_stays(
        self, audits_world: tuple[Audits, str]
    ) -> None:
        audits, topic = audits_world
        days = [date(2026, 3, 9), date(2026, 3, 10)]
        # The newer one is recorded first: two audits may be at work at once.
        for hours, lost, of in ((0, 0, days[:1]), (1, 7, days)):
            at = NOW.replace(hour=NOW.hour - hours)
            found = [
                AuditedDay(day, at, f"audit-{hours}", "stored 9", 9, 9 - lost, 12, lost=lost)
                for day in of
            ]
            audits.record_days(topic, at, found)
        kept = audits.read_audited_days(topic)
        assert {day: kept[day].lost for day in kept} == {days[0]: 0, days[1]: 7}
        assert kept[days[0]].audited_at == NOW
        assert (kept[days[1]].seen, kept[days[1]].rows) == ("stored 9", 2)


class AcknowledgementsContract:
    """`acknowledgements_world` is an `Acknowledgements`, and a topic that it never saw."""

    def test_the_first_acknowledgement_of_a_loss_stays(
        self, acknowledgements_world: tuple[Acknowledgements, str]
    ) -> None:
        losses, topic = acknowledgements_world
        assert losses.acknowledged_losses(topic) == {}
        first = losses.acknowledge_loss(topic, "0:1-5", "a long weekend", "me")
        again = losses.acknowledge_loss(topic, "0:1-5", "no", "you")
        assert (
            (again.reason, again.acknowledged_by)
            == (first.reason, first.acknowledged_by)
            == ("a long weekend", "me")
        )
        assert list(losses.acknowledged_losses(topic)) == ["0:1-5"]
        assert losses.acknowledged_losses(topic)["0:1-5"].reason == "a long weekend"


class DeclarationsContract:
    """`declarations` may have others in it already."""

    def test_a_declaration_is_kept_once_and_comes_back_whole(
        self, declarations: Declarations
    ) -> None:
        schema = WriterSchema("PROTOBUF", bytes(range(256)), message="a.b.Reading")
        names = [f"x_{uuid4().hex[:12]}" for _ in range(2)]
        first, second = (of_one(quantities=f"{{{name}: {{}}}}") for name in names)
        second = replace(second, format=Format("protobuf", schema))
        declarations.keep_declaration(first)
        (kept,) = [
            one for one in declarations.read_declarations() if one.fingerprint == first.fingerprint
        ]
        for declaration in (first, second, first):
            declarations.keep_declaration(declaration)
        found = [
            one
            for one in declarations.read_declarations()
            if one.fingerprint in (first.fingerprint, second.fingerprint)
        ]
        assert [one.fingerprint for one in found] == [second.fingerprint, first.fingerprint]
        assert found[1] == kept, "the first time stays"
        assert found[0].read().format == second.format
