"""What the page of the dead letters shows: how many a run added, of which reasons, from whom."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import dagster as dg

from iot_pipeline.core.checks.device_table import DeviceTable
from iot_pipeline.core.proof.dead_letters import StoredLetter, sender_of
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.words import plain
from iot_pipeline.defs.names import DEAD_LETTERS
from iot_pipeline.errors import TransientError
from iot_pipeline.stages.ports import RecordLogReader
from iot_pipeline.stages.proof.dead_letters import read_newest_letters

# Letters of one observation that are read back; more than these are counted, not sorted.
_MOST_READ = 200
# A run that stays goes on while its report is made: letters that came since are passed over.
_COME_SINCE = 20
_SHOWN = 5


def observe_dead_letters(
    log: RecordLogReader,
    topic: str,
    dead_letter_topic: str,
    ranges: Sequence[OffsetRange],
    rejected: int,
) -> dg.AssetObservation:
    """The letters of these ranges of the topic, for the page of the dead letters.

    Costs two questions and one read from the end of the dead letters, at most 200 letters.
    `rejected` is how many there are, at least 1, as the ledger has it.
    """
    metadata: dict[str, Any] = {"rejected": rejected}
    try:
        marks = log.watermarks(dead_letter_topic)
        most = min(rejected, _MOST_READ) + _COME_SINCE
        found = read_newest_letters(log, dead_letter_topic, most).letters
    except TransientError as exc:
        # The letters are there; a broker that went away now must not fail the run for a table.
        summary = f"{_counted(rejected)} could not be readings; why was not read: {exc}"
        return _observation(summary, metadata)
    letters = [item.letter for item in found if _is_of(item.letter, topic, ranges)]
    reasons = Counter(letter.reason for letter in letters)
    kept = sum(mark.last_stable - mark.low for mark in marks)
    said = ", ".join(f"{reason} ({count:,})" for reason, count in reasons.most_common())
    summary = f"{_counted(rejected)} could not be readings: {said or 'reasons not read'}"
    if len(letters) < rejected:
        summary += f", of the newest {len(letters):,}"
    metadata |= {"kept": kept, **dict(sorted(reasons.items()))}
    metadata["newest"] = dg.MetadataValue.md(_table(letters, rejected))
    return _observation(f"{summary}. {kept:,} are kept in {dead_letter_topic}", metadata)


def _observation(summary: str, metadata: dict[str, Any]) -> dg.AssetObservation:
    return dg.AssetObservation(
        asset_key=DEAD_LETTERS,
        description=plain(f"{summary}; `iot dead-letters list` shows them"),
        metadata={"summary": summary, **metadata},
    )


def _counted(records: int) -> str:
    return "1 record" if records == 1 else f"{records:,} records"


def _is_of(letter: StoredLetter, topic: str, ranges: Sequence[OffsetRange]) -> bool:
    source = letter.source
    return source.topic == topic and any(
        item.partition == source.partition and item.start <= source.offset < item.end
        for item in ranges
    )


def _table(letters: Sequence[StoredLetter], rejected: int) -> str:
    rows = [
        (
            sender_of(letter) or "(unknown)",
            letter.reason,
            plain(letter.message).replace("|", "\\|"),
        )
        for letter in letters[:_SHOWN]
    ]
    return DeviceTable(("device", "reason", "why"), rows, rejected - len(rows)).markdown()
