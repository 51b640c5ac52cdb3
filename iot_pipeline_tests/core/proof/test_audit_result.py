"""An audit claims what it looked at, and names the rest."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from iot_pipeline.core.proof.audit_result import AuditResult, Fate, conclude
from iot_pipeline.core.reading.offsets import OffsetRange


def audited(
    offsets: int,
    *,
    is_stray_judged: bool = True,
    doubts: Sequence[str] = (),
    notes: Sequence[str] = (),
    **fates: int,
) -> list[str]:
    counted = Counter({Fate(name): number for name, number in fates.items()})
    ranges = [OffsetRange(0, 0, offsets)] if offsets else []
    result = AuditResult(ranges, counted, is_stray_judged=is_stray_judged)
    result.doubts, result.notes = [*doubts], [*notes]
    return conclude(result)


def test_what_was_compared_to_the_last_offset_is_whole() -> None:
    assert audited(1200, stored=1200) == [
        "nothing is lost, torn or stray: all 1,200 offsets are proven"
    ]


def test_strays_are_not_mentioned_as_absent_when_nobody_looked_for_them() -> None:
    (sentence,) = audited(5, stored=5, is_stray_judged=False)
    assert sentence.startswith("nothing is lost or torn: all 5 offsets are proven;")
    assert "were not looked for" in sentence


@pytest.mark.parametrize(
    "unproven",
    ["expired", "skipped", "unreadable", "unverifiable", "in_flight", "holes", "ignored"],
)
def test_nothing_is_claimed_of_what_could_not_be_compared(unproven: str) -> None:
    some: dict[str, Any] = {unproven: 680}
    first, why = audited(700, stored=20, **some)
    assert first == (
        "20 of 700 offsets are proven: none of these is lost or torn, and no row is stray"
    )
    word = {"in_flight": "in flight", "holes": "without a record (holes)"}.get(unproven, unproven)
    assert why.startswith(f"680 offsets {word}: ")
    one: dict[str, Any] = {unproven: 1}
    (_, why) = audited(21, stored=20, **one)
    assert why.startswith(f"1 offset {word}: ")
    (alone, *_) = audited(680, **some)
    if unproven in ("holes", "ignored"):
        assert (
            alone == "nothing to compare: there is no reading in 680 offsets, and no row is stray"
        )
    else:
        assert alone == "none of 680 offsets could be proven"


@pytest.mark.parametrize("fates", [{"stored": 5}, {"stored": 4, "holes": 1}, {"ignored": 5}])
def test_that_nobody_looked_for_strays_is_said_in_each_verdict(fates: dict[str, Any]) -> None:
    (first, *_) = audited(5, is_stray_judged=False, **fates)
    assert "rows without a record were not looked for" in first


def test_a_defect_comes_first_and_an_empty_audit_proves_nothing() -> None:
    assert audited(10, stored=8, lost=1, torn=1)[0].startswith("1 lost, 1 torn: ")
    assert audited(0) == ["nothing was audited: the ledger has no offsets there"]


def test_a_verdict_with_doubts_says_so_and_a_note_takes_nothing_from_it() -> None:
    doubt, note = "not compared: humidity", "which days are proven could not be kept"
    assert audited(3, stored=2, rejected=1, doubts=[doubt], notes=[note]) == [
        "nothing is lost, torn or stray: all 3 offsets are proven, but for the doubts below",
        doubt,
        note,
    ]
    assert audited(3, stored=3, notes=[note])[0].endswith("all 3 offsets are proven")
