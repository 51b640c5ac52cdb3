"""Do the ledger's ranges follow each other without gap or overlap?"""

from iot_pipeline.core.checks.verdicts import NO_GAP, CheckVerdict, Severity, judge_chain
from iot_pipeline.core.ledger.chain import find_flaws
from iot_pipeline.stages.checks.check import CASSANDRA, Check, Cost
from iot_pipeline.stages.checks.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """A run walks the last hour, without judging its end. On its own: the whole ledger."""
    if facts.run is not None:
        return judge_chain(find_flaws(facts.recent, []), len(facts.recent), is_whole=False)
    return judge_chain(facts.walk.flaws, len(facts.walk.links), is_whole=True)


CHECK = Check(
    NO_GAP,
    "The ranges of all runs follow each other, per Kafka partition, without gap or overlap. A run "
    "walks the last hour; on its own the check walks the whole ledger.",
    look,
    Severity.ERROR,
    Cost.FREE,
    order=30,
    asks=(CASSANDRA,),
    is_narrow_in_run=True,
)
