"""The oracle itself, on facts made by hand: clean when all is well, and red for each lie."""

import dataclasses
from collections.abc import Callable
from datetime import date

import pytest

from iot_pipeline_tests.chaos.oracle import (
    LOSSES,
    Attempt,
    Entry,
    Facts,
    Found,
    Row,
    Stretch,
    judge,
)

MS = 1_735_444_918_316
DAY = date(2024, 12, 29)
ARRIVED = 1_800_000_000_000


def good() -> Facts:
    """Two readings with one key, one with another, a bad record; all of it as promised."""
    attempted = {
        0: Attempt(b"a", ("d", MS, 1.0, 2.0)),
        1: Attempt(b"b", ("d", MS, 3.0, 1.0)),
        2: Attempt(b"c", ("e", MS, 0.0, 0.0)),
        3: Attempt(b"bad", None),
        4: Attempt(b"never acknowledged", ("f", MS, 1.0, 1.0)),
    }
    records = [Found(0, n, ARRIVED, n, attempted[n].value) for n in range(4)]
    at = ARRIVED * 1000
    return Facts(
        attempted,
        frozenset(range(4)),
        records,
        ends={0: 4, 1: 0},
        letters=[(0, 3, b"bad"), (0, 3, b"bad")],
        rows={
            ("d", MS): Row((3.0, 1.0), (at + 16, at + 16), DAY),
            ("e", MS): Row((0.0, 0.0), (at + 32, at + 32), DAY),
        },
        devices={(DAY, "d"), (DAY, "e")},
        entries=[
            Entry(0, 0, 0, 2, "ingested", 1, 1, 0, 0, 0, 0, 0),
            Entry(0, 0, 2, 4, "ingested", 1, 0, 0, 1, 0, 0, 0),
        ],
        checkpoints={0: 4, 1: 0},
    )


def test_the_oracle_is_content_when_every_promise_is_kept() -> None:
    assert str(judge(good())) == "clean: 4 records, 2 rows"


def _change_row(facts: Facts, **changes: object) -> None:
    row = facts.rows["d", MS]
    facts.rows["d", MS] = dataclasses.replace(row, **changes)  # type: ignore[arg-type]


def _change_entry(facts: Facts, at: int, **changes: object) -> None:
    facts.entries[at] = dataclasses.replace(facts.entries[at], **changes)  # type: ignore[arg-type]


def _skip(facts: Facts) -> None:
    """The second range was passed over: nothing of it is stored, and the ledger says so."""
    facts.entries[1] = Entry(0, 0, 2, 4, "skipped", 0, 0, 0, 0, 0, 0, 0)
    facts.rows.pop(("e", MS))
    facts.letters.clear()


@pytest.mark.parametrize("outcome", LOSSES)
def test_what_the_ledger_says_was_left_unread_need_not_be_there(outcome: str) -> None:
    facts = good()
    _skip(facts)
    _change_entry(facts, 1, outcome=outcome)
    facts.unreadable += [Stretch(0, 0, 2, 4)] if outcome == "unreadable" else []
    assert str(judge(facts)) == "clean: 4 records, 1 rows"


def test_readings_sent_again_as_they_were_are_repeated() -> None:
    facts = good()
    facts.attempted = {**facts.attempted, 0: Attempt(b"a", ("d", MS, 3.0, 1.0))}
    assert judge(facts).kinds == {"ledger sums"}, "they do not differ"
    _change_entry(facts, 0, superseded=0, repeated=1)
    assert judge(facts).is_clean


def _cut(facts: Facts) -> None:
    """The log lost 2 and 3 after they were read; a repeat of 2's reading came in their place."""
    facts.attempted = {**facts.attempted, 5: Attempt(b"c", ("e", MS, 0.0, 0.0))}
    now = [dataclasses.replace(record, epoch=1) for record in facts.records[:2]]
    facts.records += [*now, Found(0, 2, ARRIVED + 9, 5, b"c", 1)]
    facts.acknowledged |= {5}
    facts.entries += [
        Entry(0, 0, 4, 4, "rebased", 0, 0, 0, 0, 0, 0, 0),
        Entry(0, 1, 2, 3, "ingested", 1, 0, 0, 0, 0, 0, 0),
    ]
    facts.epochs, facts.ends[0], facts.checkpoints[0] = {0: 1}, 3, 3
    at = (ARRIVED + 9) * 1000 + 32
    facts.rows["e", MS] = Row((0.0, 0.0), (at, at), DAY)


def test_a_log_that_was_cut_back_goes_on_in_a_new_epoch() -> None:
    facts = good()
    _cut(facts)
    assert judge(facts).is_clean, judge(facts)


def test_what_a_new_epoch_passes_over_must_have_been_read_in_the_old_one() -> None:
    facts = good()
    _cut(facts)
    # Another record where 1 was: 2 is where the new epoch begins.
    facts.records[5] = dataclasses.replace(facts.records[5], number=0, value=b"a")
    assert judge(facts).kinds == {"passed over by a new epoch"}


def in_parts() -> Facts:
    """The first two tell one reading in parts; the second tells a value of the first again."""
    facts, at = good(), ARRIVED * 1000
    facts.attempted = {
        **facts.attempted,
        0: Attempt(b"a", ("d", MS, 1.0, 2.0)),
        1: Attempt(b"b", ("d", MS, 3.0, None)),
    }
    facts.rows["d", MS] = Row((3.0, 2.0), (at + 16, at), DAY)
    _change_entry(facts, 0, stored=2, superseded=0)
    return facts


def test_of_a_reading_told_in_parts_each_value_is_the_last_one_told() -> None:
    assert judge(in_parts()).is_clean, judge(in_parts())


@pytest.mark.parametrize(
    "change",
    [
        {"values": (1.0, 2.0)},
        {"values": (3.0, None), "times_us": (ARRIVED * 1000 + 16, None)},
        {"times_us": (ARRIVED * 1000 + 16, ARRIVED * 1000 + 16)},
    ],
)
def test_a_part_that_is_lost_torn_or_older_is_found(change: dict[str, object]) -> None:
    facts = in_parts()
    _change_row(facts, **change)
    assert judge(facts).kinds == {"not its winner"}


def test_a_value_that_no_message_told_is_a_stray() -> None:
    facts = in_parts()
    facts.attempted = {**facts.attempted, 0: Attempt(b"a", ("d", MS, 1.0, None))}
    _change_entry(facts, 0, stored=1, superseded=1)
    assert judge(facts).kinds == {"stray"}


def _bomb(facts: Facts) -> None:
    """Offsets 4 to 6 cannot be read by anyone."""
    facts.unreadable.append(Stretch(0, 0, 4, 7))
    facts.entries.append(Entry(0, 0, 4, 7, "unreadable", 0, 0, 0, 0, 0, 0, 0))
    facts.ends[0] = facts.checkpoints[0] = 7


def test_what_no_client_can_read_is_a_loss_of_that_name() -> None:
    facts = good()
    _bomb(facts)
    assert judge(facts).is_clean, judge(facts)


LIES: list[tuple[str, Callable[[Facts], object]]] = [
    ("lost", lambda f: f.rows.pop(("e", MS))),
    ("stray", lambda f: f.rows.update({("f", MS): f.rows["e", MS]})),
    ("not its winner", lambda f: _change_row(f, values=(1.0, 1.0))),
    ("not its winner", lambda f: _change_row(f, values=(1.0, 2.0))),
    ("not its winner", lambda f: _change_row(f, values=(3.0, None))),
    ("not its winner", lambda f: _change_row(f, times_us=(ARRIVED * 1000 + 16, ARRIVED * 1000))),
    ("under a wrong day", lambda f: _change_row(f, day=date(2024, 12, 30))),
    ("device not noted", lambda f: f.devices.discard((DAY, "e"))),
    ("no dead letter", lambda f: f.letters.clear()),
    ("a letter of no bad record", lambda f: f.letters.append((0, 1, b"b"))),
    ("a letter of no bad record", lambda f: f.letters.append((0, 3, b"changed"))),
    ("acknowledged and gone from the topic", lambda f: f.records.pop(1)),
    ("never attempted", lambda f: f.records.append(Found(0, 4, ARRIVED, 9, b"x"))),
    ("ledger gap", lambda f: _change_entry(f, 1, start=3)),
    ("ledger overlap", lambda f: _change_entry(f, 1, start=1)),
    ("ledger gap", lambda f: f.entries.pop(0)),
    ("ledger sums", lambda f: _change_entry(f, 0, stored=2)),
    ("ledger sums", lambda f: _change_entry(f, 1, rejected=0, stored=2)),
    ("ledger sums", lambda f: _change_entry(f, 0, superseded=0, holes=1)),
    ("ledger sums", lambda f: _change_entry(f, 0, superseded=0, repeated=1)),
    ("ledger sums", lambda f: _change_entry(f, 1, stored=0, superseded=1)),
    ("ledger sums", lambda f: _change_entry(f, 1, outcome="skipped")),
    ("checkpoint off the chain", lambda f: (_skip(f), f.entries.pop(1))),
    ("lost", lambda f: (_skip(f), _change_entry(f, 1, outcome="ingested", stored=1, rejected=1))),
    ("checkpoint off the chain", lambda f: f.checkpoints.update({0: 3})),
    ("called unreadable", lambda f: (_bomb(f), f.unreadable.clear())),
    ("unreadable and not lost", lambda f: (_bomb(f), _change_entry(f, 2, outcome="ingested"))),
    ("ledger gap", lambda f: (_cut(f), _change_entry(f, 1, start=3))),
    ("checkpoint off the chain", lambda f: (_cut(f), f.epochs.update({0: 0}))),
    ("lost", lambda f: (_cut(f), f.rows.pop(("e", MS)))),
    ("not drained", lambda f: f.ends.update({1: 7})),
]


@pytest.mark.parametrize(("kind", "lie"), LIES, ids=[f"{n}-{k}" for n, (k, _) in enumerate(LIES)])
def test_the_oracle_notices(kind: str, lie: Callable[[Facts], object]) -> None:
    facts = good()
    lie(facts)
    assert kind in judge(facts).kinds
