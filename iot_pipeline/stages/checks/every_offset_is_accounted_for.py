from collections.abc import Sequence

from iot_pipeline.core.checks.device_table import some
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity
from iot_pipeline.core.ledger.chain import ChainLink, LedgerEntry
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.stages.checks.machinery.check import CASSANDRA, Check
from iot_pipeline.stages.checks.machinery.facts import Facts


def look(facts: Facts) -> CheckVerdict:
    """A run: its entries against what it says it achieved. On its own: the whole ledger."""
    run = facts.run
    if run is None:
        return judge(facts.walk.entries)
    own = [link for link in facts.recent if link.run_id == run.run_id]
    return judge(own, run.committed, is_growing=run.is_growing)


def judge(
    entries: Sequence[LedgerEntry] | Sequence[ChainLink],
    achieved: Sequence[OffsetRange] = (),
    *,
    is_growing: bool = False,
) -> CheckVerdict:
    """Compare spans and sums, and what a run says with what the ledger has.

    Args:
        entries: as read back from the ledger.
        achieved: what the run says it committed; each must be in the ledger with just that end.
        is_growing: the run goes on, so the ledger may have the same range with a later end.
    """
    ingested = [entry for entry in entries if entry.outcome.is_ingested]
    span = sum(entry.span for entry in ingested)
    wrong = [
        f"{entry.partition}:{entry.start_offset}-{entry.end_offset} ({entry.span} offsets, "
        f"{entry.accounted} accounted for, run {entry.run_id})"
        for entry in ingested
        if entry.accounted != entry.span
    ]
    ends = {(entry.partition, entry.start_offset): entry.end_offset for entry in ingested}
    for item in achieved:
        end = ends.get((item.partition, item.start), 0)
        if end < item.end or (end > item.end and not is_growing):
            wrong.append(f"{item} (committed by this run, not in the ledger)")
    numbers = {
        "offsets": span,
        "accounted_for": sum(entry.accounted for entry in ingested),
        "left_unread": sum(entry.span for entry in entries if entry.outcome.is_loss),
        "ranges_wrong": len(wrong),
    }
    if wrong:
        said = (
            f"Not every offset has a fate: {some(wrong)}. This is a defect of ours, not of the "
            "data: keep the topic, run `iot audit` over these offsets to see what is missing, and "
            "drain them again."
        )
        return CheckVerdict(False, said, numbers, severity=Severity.ERROR)
    unread = numbers["left_unread"]
    said = (
        f"Each of {span:,} offsets is stored, superseded, repeated, rejected, ignored, aged out or "
        "a hole"
    )
    said += f"; {unread:,} more were left unread, see nothing_left_unread." if unread else "."
    return CheckVerdict(True, said, numbers)


CHECK = Check(
    "every_offset_is_accounted_for",
    "Each offset of the topic that was ingested is stored, superseded, repeated, rejected, "
    "ignored, aged out or a hole: span = the sum of these, as the ledger kept it.",
    look,
    order=10,
    severity=Severity.ERROR,
    is_free=True,
    asks=(CASSANDRA,),
    is_blocking=True,
    is_narrow_in_run=True,
)
