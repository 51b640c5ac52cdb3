from collections.abc import Sequence

from iot_pipeline.core.checks.cql_script import say_statements
from iot_pipeline.core.checks.device_table import some
from iot_pipeline.core.checks.schema import Difference
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.stages.checks.machinery.check import CASSANDRA, Check
from iot_pipeline.stages.checks.machinery.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """Ask Cassandra how the tables are."""
    return judge(facts.schema.differences, is_external=facts.settings.schema == "external")


def judge(differences: Sequence[Difference], *, is_external: bool = False) -> CheckVerdict:
    """Only a fatal difference is red; the others may be wanted, and are said."""
    fatal = [difference for difference in differences if difference.is_fatal]
    notes = [difference for difference in differences if not difference.is_fatal]
    numbers = {"differences": len(differences), "fatal": len(fatal)}
    if fatal:
        if is_external:
            said = f"{some(fatal)}. In CQL: {say_statements(fatal) or 'not by one statement.'}"
            return CheckVerdict(False, said, numbers, severity=Severity.ERROR)
        said = (
            f"{some(fatal)}. Launch the job setup_schema (or `iot setup`): it makes what is "
            "missing and says what it may not change."
        )
        return CheckVerdict(False, said, numbers, severity=Severity.ERROR)
    remark = f" Different on purpose? {some(notes)}." if notes else ""
    return CheckVerdict(True, f"The tables are as expected.{remark}", numbers)


CHECK = Check(
    "schema_matches",
    "The tables are what this version of the pipeline expects.",
    look,
    order=60,
    severity=Severity.ERROR,
    asks=(CASSANDRA,),
)
