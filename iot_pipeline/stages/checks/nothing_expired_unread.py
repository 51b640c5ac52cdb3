from collections.abc import Sequence

from iot_pipeline.core.checks.device_table import some
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.ledger.chain import Outcome
from iot_pipeline.core.ledger.losses import Loss, find_losses
from iot_pipeline.stages.checks.machinery.check import CASSANDRA, Check
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.ledger.sums import KeptSums


def look(facts: Facts) -> CheckVerdict:
    """The ledger's losses, and what people have said of them."""
    topic, ledger = facts.settings.topic, facts.ports.ledger
    if facts.run is None:
        entries = ledger.read_entries(topic, facts.parts, outcome=Outcome.EXPIRED)
    else:
        entries = KeptSums(ledger, facts.ports.ledger_sums).read_expired(topic, facts.parts)
    seen = facts.ports.acknowledgements.acknowledged_losses(topic) if entries else {}
    return judge(find_losses(entries, seen))


def judge(losses: Sequence[Loss]) -> CheckVerdict:
    """A loss is red until a person has acknowledged it."""
    unseen = [loss for loss in losses if loss.acknowledgement is None]
    numbers = {
        "losses": len(losses),
        "unacknowledged": len(unseen),
        "records_at_most": sum(loss.entry.span for loss in losses),
    }
    if unseen:
        said = (
            f"Kafka deleted up to {sum(loss.entry.span for loss in unseen):,} records before they "
            f"were read: {some([loss.loss_id for loss in unseen])}. Raise the topic's "
            "retention.ms; `iot losses` lists them, `iot losses --acknowledge "
            f"{unseen[0].loss_id} --reason TEXT` notes that you have seen it."
        )
        return CheckVerdict(False, said, numbers, severity=Severity.ERROR)
    seen = f" but for {len(losses):,} acknowledged ranges" if losses else ""
    return CheckVerdict(True, f"Kafka deleted nothing unread{seen}.", numbers)


CHECK = Check(
    "nothing_expired_unread",
    "Kafka deleted no record before it was read, or a person has acknowledged that it did.",
    look,
    order=80,
    severity=Severity.ERROR,
    asks=(CASSANDRA,),
)
