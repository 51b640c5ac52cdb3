from collections.abc import Sequence

from iot_pipeline.core.checks.device_table import some
from iot_pipeline.core.checks.schema import Difference
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.stages.checks.machinery.check import Check
from iot_pipeline.stages.checks.machinery.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """Ask both servers how they are set up."""
    verdict = judge(facts.schema.differences)
    if verdict.passed and facts.schema.withheld:
        raise facts.schema.withheld[0]
    return verdict


def judge(differences: Sequence[Difference]) -> CheckVerdict:
    """Only a fatal difference is red; the others may be wanted, and are said."""
    fatal = [difference for difference in differences if difference.is_fatal]
    notes = [difference for difference in differences if not difference.is_fatal]
    numbers = {"differences": len(differences), "fatal": len(fatal)}
    if fatal:
        said = (
            f"{some(fatal)}. Launch the job setup_schema (or `iot setup`): it makes what is "
            "missing and says what it may not change."
        )
        return CheckVerdict(False, said, numbers, severity=Severity.ERROR)
    remark = f" Different on purpose? {some(notes)}." if notes else ""
    return CheckVerdict(True, f"Tables and topics are as expected.{remark}", numbers)


CHECK = Check(
    "schema_matches",
    "Tables and topics are what this version of the pipeline expects.",
    look,
    order=60,
    severity=Severity.ERROR,
)
