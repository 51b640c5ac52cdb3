"""Did Kafka delete records before they were read, and has a person seen it?"""

from iot_pipeline.core.checks.losses import EXPIRED, judge_losses
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.ledger.losses import find_losses
from iot_pipeline.stages.checks.check import CASSANDRA, Check, Cost
from iot_pipeline.stages.checks.facts import Facts
from iot_pipeline.stages.ledger.sums import KeptSums


def look(facts: Facts) -> CheckVerdict:
    """The ledger's losses, and what people have said of them."""
    topic, sums = facts.settings.topic, facts.ports.ledger_sums
    ledger = sums if facts.run is None else KeptSums(sums)
    entries = ledger.read_expired(topic, facts.parts)
    seen = facts.ports.audit_store.acknowledged_losses(topic) if entries else {}
    return judge_losses(find_losses(entries, seen))


CHECK = Check(
    EXPIRED,
    "Kafka deleted no record before it was read, or a person has acknowledged that it did.",
    look,
    Severity.ERROR,
    Cost.BOUNDED,
    order=80,
    asks=(CASSANDRA,),
)
