"""Is every offset accounted for: span = stored + superseded + rejected + aged_out + holes."""

from iot_pipeline.core.checks.verdicts import EVERY_OFFSET, CheckVerdict, Severity, judge_accounting
from iot_pipeline.stages.checks.check import CASSANDRA, Check, Cost
from iot_pipeline.stages.checks.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """A run: its entries against what it says it achieved. On its own: the whole ledger."""
    run = facts.run
    if run is None:
        return judge_accounting(facts.walk.links)
    own = [link for link in facts.recent if link.run_id == run.run_id]
    return judge_accounting(own, run.committed, is_growing=run.is_growing)


CHECK = Check(
    EVERY_OFFSET,
    "Each offset of the topic that was ingested is stored, superseded, rejected, aged out or a "
    "hole: span = the sum of these, as the ledger kept it.",
    look,
    Severity.ERROR,
    Cost.FREE,
    order=10,
    asks=(CASSANDRA,),
    is_blocking=True,
    is_narrow_in_run=True,
)
