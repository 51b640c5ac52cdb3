from collections.abc import Sequence

from iot_pipeline.core.checks.device_table import some
from iot_pipeline.core.checks.topics import TopicRisk, mending_lines
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.stages.checks.machinery.check import KAFKA, Check
from iot_pipeline.stages.checks.machinery.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """Ask Kafka how both topics are kept."""
    report = facts.topics
    verdict = judge(report.risks, facts.settings.bootstrap_servers)
    if not report.not_looked_at:
        return verdict
    if verdict.passed:
        raise next(iter(report.not_looked_at.values()))
    unknown = "; ".join(map(str, report.not_looked_at.values()))
    return CheckVerdict(
        False,
        f"{verdict.sentence} Not looked at: {unknown.rstrip('.')}.",
        verdict.numbers,
        severity=verdict.severity,
    )


def judge(risks: Sequence[TopicRisk], bootstrap_servers: str) -> CheckVerdict:
    """Red where a record can be lost, or where none is taken; what else differs is said."""
    wrong = [risk for risk in risks if risk.severity is not None]
    notes = [risk for risk in risks if risk.severity is None]
    numbers = {"risks": len(wrong), "notes": len(notes)}
    if not wrong:
        remark = f" To know: {some(notes)}." if notes else ""
        return CheckVerdict(True, f"Kafka keeps both topics as expected.{remark}", numbers)
    severity = max((risk.severity for risk in wrong if risk.severity), key=list(Severity).index)
    # The worst first: what follows may be cut.
    wrong.sort(key=lambda risk: risk.severity is not severity)
    lines = mending_lines(wrong, bootstrap_servers)
    remedy = f" To set it: {', '.join(f'`{line}`' for line in lines)}." if lines else ""
    if any(risk.is_fatal and not risk.setting for risk in wrong):
        remedy = f" Launch the job setup_schema, or `iot setup`.{remedy}"
    return CheckVerdict(False, f"{some(wrong)}.{remedy}", numbers, severity=severity)


CHECK = Check(
    "topic_is_safe",
    "Kafka keeps both topics so that no record is lost: replicas, how many of them acknowledge, "
    "who may lead, compaction, retention by time and size, who stamps. Each with what it can cost.",
    look,
    order=85,
    severity=Severity.ERROR,
    asks=(KAFKA,),
    settings=(
        "IOT_TOPIC_REPLICATION",
        "IOT_TOPIC_RETENTION_HOURS",
        "IOT_TOPIC_COMPRESSION",
        "IOT_ACCEPT_TOPIC_RISKS",
    ),
)
