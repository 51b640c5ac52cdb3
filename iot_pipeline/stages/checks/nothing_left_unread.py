from collections.abc import Sequence

from iot_pipeline.core.checks.device_table import some
from iot_pipeline.core.checks.topics import is_compacted
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.ledger.chain import LOSSES, Outcome
from iot_pipeline.core.ledger.losses import Loss, find_losses, say_losses, sum_losses
from iot_pipeline.core.words import counted
from iot_pipeline.stages.checks.machinery.check import CASSANDRA, Check
from iot_pipeline.stages.checks.machinery.facts import Facts
from iot_pipeline.stages.ledger.sums import KeptSums

_ADVICE = {
    Outcome.EXPIRED: "Raise the topic's retention.ms.",
    Outcome.SKIPPED: "While Kafka has them, `iot replay --offsets {}` ingests them after all.",
    Outcome.UNREADABLE: "`iot losses` has the cause of each.",
}


def look(facts: Facts) -> CheckVerdict:
    """The ledger's losses, and what people have said of them."""
    topic, ledger = facts.settings.topic, facts.ports.ledger
    if facts.run is None:
        entries = ledger.read_entries(topic, facts.parts, outcomes=LOSSES)
    else:
        entries = KeptSums(ledger, facts.ports.ledger_sums).read_losses(topic, facts.parts)
    seen = facts.ports.acknowledgements.acknowledged_losses(topic) if entries else {}
    compacted = compacted_at_most(facts) if is_compacted(facts.topic.config) else 0
    return judge(find_losses(entries, seen), compacted)


def compacted_at_most(facts: Facts) -> int:
    """Offsets that were holes when they were read: of the last hour in a run, else of all time.

    Compaction makes most of them on a topic that compacts; transactions make some too.
    """
    links = facts.recent if facts.run is not None else facts.walk.entries
    return sum(link.holes for link in links)


def judge(losses: Sequence[Loss], compacted: int = 0) -> CheckVerdict:
    """A loss is red until a person has acknowledged it.

    `compacted` offsets may have been dropped by Kafka before they were read: they are holes in the
    ledger, not losses, and `topic_is_safe` is red while it goes on.
    """
    unseen = [loss for loss in losses if loss.acknowledgement is None]
    offsets = sum_losses(losses)
    numbers = {
        "losses": len(losses),
        "unacknowledged": len(unseen),
        "records_at_most": sum(offsets.values()),
        "compacted_at_most": compacted,
        **{f"{outcome}_at_most": offsets.get(outcome, 0) for outcome in LOSSES},
    }
    if unseen:
        first = {loss.entry.outcome: loss.entry.offsets for loss in reversed(unseen)}
        advice = [said.format(first[why]) for why, said in _ADVICE.items() if why in first]
        said = (
            f"Records were left unread: {say_losses(sum_losses(unseen))} "
            f"({some([loss.loss_id for loss in unseen])}). {' '.join(advice)} `iot losses` lists "
            f"them, `iot losses --acknowledge {unseen[0].loss_id} --reason TEXT` notes that you "
            "have seen it."
        )
        return CheckVerdict(False, said, numbers, severity=Severity.ERROR)
    if losses:
        all_of_them = "the loss" if len(losses) == 1 else f"all {len(losses):,} losses"
        seen = f"a person has acknowledged {all_of_them}"
        return CheckVerdict(True, f"No new one: {seen} ({say_losses(offsets)}).", numbers)
    if compacted:
        unread = counted(compacted, "offset was", "offsets were")
        said = f"The ledger has no loss, but up to {unread} compacted unread."
        return CheckVerdict(True, f"{said} See the check topic_is_safe.", numbers)
    return CheckVerdict(True, "The ledger has no loss: no offset was left unread.", numbers)


CHECK = Check(
    "nothing_left_unread",
    "No record was left unread: deleted by Kafka before, passed over by a rebase, or unreadable. "
    "Or a person has acknowledged it.",
    look,
    order=80,
    severity=Severity.ERROR,
    asks=(CASSANDRA,),
)
