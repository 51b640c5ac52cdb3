"""What `iot audit --json` has for another program."""

from collections import Counter

from iot_pipeline.cli.audit import as_document
from iot_pipeline.core.proof.audit_result import AuditResult, Fate
from iot_pipeline.core.reading.offsets import OffsetRange


def test_json_says_what_the_proof_leaves_out() -> None:
    result = AuditResult(
        [OffsetRange(0, 0, 10)], Counter({Fate.STORED: 6, Fate.HOLES: 3, Fate.IGNORED: 1})
    )
    result.doubts = ["not compared: humidity, whose column was dropped"]
    result.notes = ["which days are proven could not be kept"]
    result.uncompared = [OffsetRange(0, 5, 8), OffsetRange(0, 2, 5)]
    found = as_document(result)
    assert (found["offsets"], found["proven"], found["holes"], found["ignored"]) == (10, 6, 3, 1)
    assert (found["doubts"], found["notes"]) == (result.doubts, result.notes)
    assert found["uncompared"] == ["0:2-8"]


def test_what_is_lost_or_torn_is_not_proven() -> None:
    fates = Counter({Fate.STORED: 4, Fate.LOST: 5, Fate.TORN: 1})
    found = as_document(AuditResult([OffsetRange(0, 0, 10)], fates))
    assert (found["proven"], found["lost"], found["torn"]) == (4, 5, 1)
