"""Find out why a day has fewer rows than the ledger stored: a bounded audit that is remembered.

Only what is new since the last look is compared, and what is newest once more where that does not
explain all: in time even a day that is too large for one look is settled.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime

from iot_pipeline.core.ledger.chain import LedgerEntry
from iot_pipeline.core.proof.audit_result import UNREAD, Fate
from iot_pipeline.core.proof.settling import (
    AddedOn,
    Former,
    KeptSettlement,
    Settlement,
    pieces_of,
)
from iot_pipeline.core.reading.offsets import Checkpoint
from iot_pipeline.core.reading.quantities import are_in_parts
from iot_pipeline.stages.ledger.chain import FIRST_EPOCH, read_present
from iot_pipeline.stages.ports.proof import Settlements
from iot_pipeline.stages.proof.as_ingested import as_ingested
from iot_pipeline.stages.proof.audit import audit
from iot_pipeline.stages.proof.ports import AuditPorts


def settle_day(
    ports: AuditPorts,
    settlements: Settlements,
    partitions: Sequence[int],
    day: date,
    missing: int,
    *,
    budget_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Settlement:
    """Compare the day's records with their rows, as many as there is time for.

    Args:
        missing: rows fewer than the ledger had stored when they were counted; cells where readings
            may be told in parts.
        budget_seconds: no piece is begun later; at least one is compared.
    """
    topic, deadline = ports.settings.topic, clock() + budget_seconds
    # Once for all pieces: it may read the ledger.
    ports = as_ingested(ports)
    checkpoints = ports.ledger.read_checkpoints(topic, partitions)
    lows = {mark.partition: mark.low for mark in ports.log.watermarks(topic)}
    in_parts = are_in_parts(ports.rules.quantities)
    replays = _added_on(ports, checkpoints, lows, day, in_parts)
    entries = read_present(ports.ledger, topic, checkpoints, lows, day=day)
    pieces = pieces_of(entries, day, replays)
    kept = settlements.read_settlement(topic, day)
    found = {str(piece): kept.pieces[str(piece)] for piece in pieces if str(piece) in kept.pieces}
    defects = unverifiable = 0
    # What was stored of a log of before a rebase counts too: it is in the ledger's sum.
    everything = ports.ledger.read_entries(topic, partitions, day=day)
    stored = _stored_on(everything, day, in_parts)
    present = _stored_on(entries, day, in_parts)
    former = Former(stored - present, present)

    def explain() -> tuple[int, int]:
        """Rows that the ledger has more than there are to be, and rows left of a former log."""
        beside = stored + sum(replay.added for replay in replays) - sum(found.values())
        left = former.rows_left(kept.pieces, beside - missing)
        return max(0, beside - left), left

    # What was never compared first; then the newest again, until all is explained.
    new = [piece for piece in pieces if str(piece) not in found]
    again = [piece for piece in pieces if str(piece) in found]
    for number, piece in enumerate([*new, *again]):
        is_known = len(found) == len(pieces)
        if is_known and missing <= explain()[0]:
            break
        if number and clock() > deadline:
            break
        result = audit([piece.offsets], ports, audit_id=None)
        defects += result.fates[Fate.LOST] + result.fates[Fate.TORN]
        unverifiable += sum(result.fates[fate] for fate in UNREAD)
        if not any(result.fates[fate] for fate in (Fate.LOST, Fate.TORN, *UNREAD)):
            rows = (result.cells_by_day if in_parts else result.stored_by_day)[day]
            # A dead letter that a replay made a row of is REJECTED where that row is lost: it must
            # not pass for one that was sent again.
            unsure = result.fates[Fate.REJECTED] * (len(ports.quantities) if in_parts else 1)
            found[str(piece)] = rows + min(piece.added, unsure)
    is_whole = len(found) == len(pieces)
    explained, left = explain() if is_whole else (0, None)
    compared = sum(piece.offsets.span for piece in pieces if str(piece) in found)
    settlement = Settlement(
        day,
        missing,
        explained,
        compared,
        sum(piece.offsets.span for piece in pieces),
        defects,
        unverifiable,
        former=former.stored,
    )
    settled_at = datetime.now(UTC) if settlement.is_settled else None
    remembered = found | former.keep(kept.pieces, left)
    settlements.keep_settlement(topic, day, KeptSettlement(remembered, explained, settled_at))
    return settlement


def _stored_on(entries: Sequence[LedgerEntry], day: date, in_parts: bool) -> int:
    if in_parts:
        return sum(entry.counts.cells_by_day.get(day, 0) for entry in entries)
    return sum(entry.counts.stored_by_day.get(day, 0) for entry in entries)


def _added_on(
    ports: AuditPorts,
    checkpoints: Mapping[int, Checkpoint],
    lows: Mapping[int, int],
    day: date,
    in_parts: bool,
) -> list[AddedOn]:
    """What replays added to the present log, where it was never rebased and has all their records.

    What others added is left out: of such a day less is explained than could be, never more.
    """
    if ports.ingested is None:
        return []
    topic_id = ports.log.topic_id(ports.settings.topic)
    firsts = {
        partition: lows.get(partition, checkpoint.next_offset)
        for partition, checkpoint in checkpoints.items()
        if checkpoint.epoch == FIRST_EPOCH
    }
    found = []
    for replay in ports.ledger.declared_replays(ports.settings.topic):
        added = (replay.cells_by_day if in_parts else replay.stored_by_day).get(day, 0)
        is_present = replay.topic_id == topic_id and all(
            item.partition in firsts and item.start >= firsts[item.partition]
            for item in replay.ranges
        )
        if added and is_present:
            found.append(AddedOn(FIRST_EPOCH, replay.ranges, added))
    return found
