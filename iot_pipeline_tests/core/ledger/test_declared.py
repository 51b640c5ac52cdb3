"""Which declaration reads which offset, against a model that has one word per offset."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.ledger.chain import Counts, LedgerEntry, Outcome
from iot_pipeline.core.ledger.declared import DeclaredReplay, declared_parts, split
from iot_pipeline.core.reading.offsets import OffsetRange

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_NAMES = st.sampled_from(["", "a", "b"])
_RANGES = st.tuples(st.integers(0, 30), st.integers(1, 12)).map(
    lambda place: OffsetRange(0, place[0], place[0] + place[1])
)


def entry(start: int, end: int, declaration: str, outcome: Outcome) -> LedgerEntry:
    return LedgerEntry(
        "t", 0, 0, start, end, outcome, "r", None, Counts(), _AT, declaration=declaration
    )


@given(
    st.lists(st.tuples(st.integers(1, 8), _NAMES, st.booleans()), max_size=6),
    st.lists(st.tuples(_RANGES, st.sampled_from(["a", "b", "c"])), max_size=3),
    st.lists(_RANGES, max_size=3),
)
def test_the_ledger_says_it_and_the_latest_replay_over_it(chain, replayed, asked) -> None:
    at, entries, model = 0, [], {}
    for span, name, is_lost in chain:
        outcome = Outcome.EXPIRED if is_lost else Outcome.INGESTED
        entries.append(entry(at, at + span, name, outcome))
        if not is_lost:
            model |= dict.fromkeys(range(at, at + span), name)
        at += span
    for item, name in replayed:
        model |= {offset: name for offset in range(item.start, item.end) if offset in model}
    replays = [DeclaredReplay("id", name, [item]) for item, name in replayed]
    parts = declared_parts(entries[::-1], replays)
    for item in asked:
        found = {
            offset: name
            for name, ranges in split(parts, [item]).items()
            for part in ranges
            for offset in range(part.start, part.end)
        }
        assert found == {offset: model.get(offset, "") for offset in range(item.start, item.end)}


def test_neighbours_of_one_declaration_are_one_range() -> None:
    entries = [entry(at, at + 1, "a", Outcome.INGESTED) for at in range(50)]
    assert declared_parts(entries, []) == {0: [(OffsetRange(0, 0, 50), "a")]}
