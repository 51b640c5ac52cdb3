from collections.abc import Sequence

from iot_pipeline.core.checks.device_table import some
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.ledger.chain import Flaw, find_flaws
from iot_pipeline.stages.checks.machinery.check import CASSANDRA, Check
from iot_pipeline.stages.checks.machinery.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """A run walks the last hour, without judging its end. On its own: the whole ledger."""
    if facts.run is not None:
        return judge(find_flaws(facts.recent, []), len(facts.recent), "the last hour of the ledger")
    return judge(facts.walk.flaws, len(facts.walk.entries), "the whole ledger")


def judge(flaws: Sequence[Flaw], entries: int, part: str) -> CheckVerdict:
    """The ranges tile the log; `part` says which part of the ledger was walked."""
    numbers = {"entries": entries, "flaws": len(flaws)}
    if flaws:
        said = (
            f"In {part}: {some(flaws)}. Offsets there were skipped or counted twice. Stop the "
            "sensor, look at `iot ledger`, and drain the missing offsets with "
            "`iot replay --offsets P:START-END` while Kafka has them."
        )
        return CheckVerdict(False, said, numbers, severity=Severity.ERROR)
    said = f"{entries:,} ranges in {part} follow each other without gap or overlap."
    return CheckVerdict(True, said, numbers)


CHECK = Check(
    "ledger_has_no_gap",
    "The ranges of all runs follow each other, per Kafka partition, without gap or overlap. A run "
    "walks the last hour; on its own the check walks the whole ledger.",
    look,
    order=30,
    severity=Severity.ERROR,
    is_free=True,
    asks=(CASSANDRA,),
    is_narrow_in_run=True,
)
