from collections import Counter, defaultdict
from collections.abc import Sequence

from iot_pipeline.core.checks.device_table import MOST_ROWS, DeviceTable, name_some
from iot_pipeline.core.checks.verdicts import CheckVerdict
from iot_pipeline.core.proof.dead_letters import StoredLetter, sender_of
from iot_pipeline.core.reading.messages import Reason
from iot_pipeline.stages.checks.machinery.check import Check
from iot_pipeline.stages.checks.machinery.facts import RECENT, Facts
from iot_pipeline.stages.proof.dead_letters import read_newest_letters

# How many letters, from the end of their topic, are read for their reasons and devices.
_NEWEST_LETTERS = 200
# Among so few records one bad one is already a large share.
_FEW_RECORDS = 100


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
    return judge(rejected, records, letters, facts.settings.dead_letter_share)


def judge(
    rejected: int, records: int, newest: Sequence[StoredLetter], limit: float
) -> CheckVerdict:
    """The share of the last hour's records that were rejected, why, and whose they are.

    `newest` are dead letters of that hour, a sample of the newest where there are many; `limit` is
    the share that is fine.
    """
    share = rejected / records if records else 0.0
    reasons = Counter(letter.reason for letter in newest)
    numbers = {
        "rejected": rejected,
        "records": records,
        "share": round(share, 6),
        **{reason.value: reasons[reason.value] for reason in Reason},
    }
    table, names = _senders(newest)
    if share <= limit or (records < _FEW_RECORDS and rejected <= 1):
        said = f"{rejected:,} of {records:,} records of the last hour could not be readings."
        return CheckVerdict(True, said, numbers, table)
    common = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    option = f" --reason {common[0][0]}" if common else ""
    whose = f" They come from {name_some(names)}." if names else ""
    said = (
        f"{rejected:,} of {records:,} records of the last hour ({share:.1%}) could not be "
        f"readings; the limit is {limit:.1%}.{whose} The newest are: "
        f"{_counted(common) or 'not in the topic'}. `iot dead-letters list{option}` shows them. "
        "Once the sender or the rule is right, the job replay_dead_letters stores what is a "
        "reading by then."
    )
    return CheckVerdict(False, said, numbers, table)


def _senders(letters: Sequence[StoredLetter]) -> tuple[DeviceTable, list[str]]:
    """Who sent them, those with the most first: a row per device, and the names alone."""
    by_device: defaultdict[str, list[StoredLetter]] = defaultdict(list)
    for letter in letters:
        by_device[sender_of(letter) or "(unknown)"].append(letter)
    names = sorted(by_device, key=lambda name: (-len(by_device[name]), name))
    rows = []
    for name in names[:MOST_ROWS]:
        latest = max(by_device[name], key=lambda letter: letter.delivered_ms)
        reasons = Counter(letter.reason for letter in by_device[name]).most_common()
        place = f"`{latest.source.partition}:{latest.source.offset}`"
        rows.append((name, f"{len(by_device[name]):,}", _counted(reasons), place))
    columns = ("device", "dead letters", "reasons", "the latest, for `iot dead-letters show`")
    return DeviceTable(columns, rows, len(names) - len(rows)), names


def _counted(reasons: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{reason} ({count:,})" for reason, count in reasons)


CHECK = Check(
    "dead_letters_are_few",
    "The share of the last hour's records that could not be readings, by reason and device.",
    look,
    order=100,
    settings=("IOT_DEAD_LETTER_SHARE",),
)
