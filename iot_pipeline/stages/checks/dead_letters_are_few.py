"""How many records could not be readings lately, why, and whose they are."""

from iot_pipeline.core.checks.losses import DEAD_LETTERS, judge_dead_letters
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.stages.checks.check import Check, Cost
from iot_pipeline.stages.checks.facts import RECENT, Facts
from iot_pipeline.stages.proof.dead_letters import read_newest_letters

# Letters are looked at from the end of their topic, as many for their reasons and devices.
_NEWEST_LETTERS = 200


def look(facts: Facts) -> CheckVerdict:
    """The ledger's last hour, and the newest letters of that time."""
    topic, since_ms = facts.settings.topic, (facts.now - RECENT).timestamp() * 1000
    rejected = sum(link.rejected for link in facts.recent)
    records = sum(link.accounted - link.holes for link in facts.recent)
    letters = []
    if rejected:
        found = read_newest_letters(
            facts.ports.log, facts.settings.dead_letter_topic, _NEWEST_LETTERS
        )
        letters = [
            item.letter
            for item in found.letters
            if item.letter.source.topic == topic and item.letter.delivered_ms >= since_ms
        ]
    return judge_dead_letters(rejected, records, letters, facts.settings.dead_letter_share)


CHECK = Check(
    DEAD_LETTERS,
    "The share of the last hour's records that could not be readings, by reason and device.",
    look,
    Severity.WARN,
    Cost.BOUNDED,
    order=100,
    settings=("IOT_DEAD_LETTER_SHARE",),
)
