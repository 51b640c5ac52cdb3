"""Dead letters read back: what was sent is what is found, once."""

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.clients import dead_letters
from iot_pipeline.core.proof.dead_letters import (
    LetterReader,
    SourceCoordinates,
    StoredLetter,
    preview,
)
from iot_pipeline.core.reading.messages import DeadLetter, Reason, Record

SOURCE = Record(3, 42, 1_700_000_000_000, b"k", b"\xff not json", [("trace", b"1"), ("none", None)])


def sent(source: Record = SOURCE, message: str = "why") -> list[Record]:
    """The records that delivering this letter puts into the topic, from offset 100 on."""
    letter = DeadLetter(source, Reason.NOT_JSON, message)
    return [
        Record(0, 100 + at, 1_700_000_001_000, source.message_key, value, headers)
        for at, (value, headers) in enumerate(dead_letters._messages("iot", "uuid", letter))
    ]


def read(records: list[Record]) -> list[StoredLetter]:
    reader = LetterReader()
    return [letter for record in records if (letter := reader.add(record))]


def test_a_letter_is_read_as_it_was_sent() -> None:
    assert read(sent()) == [
        StoredLetter(
            source=SourceCoordinates("iot", "uuid", 3, 42),
            reason="not_json",
            message="why",
            message_key=b"k",
            value=b"\xff not json",
            headers=(("trace", b"1"), ("none", None)),
            produced_ms=1_700_000_000_000,
            delivered_ms=1_700_000_001_000,
            dlq_partition=0,
            dlq_offset=100,
        )
    ]


def test_a_letter_that_came_again_is_dropped() -> None:
    assert len(read(sent() + sent())) == 1


def test_the_same_offset_of_another_incarnation_is_another_letter() -> None:
    again = [
        Record(
            r.partition,
            r.offset,
            r.produced_ms,
            r.message_key,
            r.value,
            [(n, b"new" if n == "iot.topic_id" else v) for n, v in r.headers or ()],
        )
        for r in sent()
    ]
    assert len(read(sent() + again)) == 2


@given(st.data())
def test_parts_are_joined_in_whatever_order_and_however_often_they_come(
    data: st.DataObject,
) -> None:
    value = bytes(range(256)) * 30_000
    large = Record(1, 7, 5, b"k", value)
    parts = sent(large)
    assert len(parts) == 3
    order = data.draw(st.lists(st.sampled_from(range(3)), min_size=3, max_size=8))
    letters = read([parts[at] for at in order])
    if set(order) == {0, 1, 2}:
        assert [letter.value for letter in letters] == [value]
        assert letters[0].dlq_offset == 100
    else:
        assert letters == []


def test_parts_that_never_came_are_counted() -> None:
    reader = LetterReader()
    for record in sent(Record(1, 7, 5, b"k", b"x" * 4_000_000))[:1]:
        assert reader.add(record) is None
    assert reader.incomplete == 1


def test_headers_of_our_names_in_the_source_neither_lie_about_the_letter_nor_get_lost() -> None:
    # As when somebody sends a letter back to the source and it is rejected again.
    first = sent()[0]
    spoofed = Record(5, 6, 7, None, None, [*(first.headers or ()), ("iot.part", b"1/9")])
    (letter,) = read(sent(spoofed))
    assert letter.source == SourceCoordinates("iot", "uuid", 5, 6)
    assert letter.headers == tuple(spoofed.headers or ())
    assert letter.value is None


def test_records_that_are_no_letters_are_counted_apart() -> None:
    reader = LetterReader()
    assert reader.add(Record(0, 0, 0, None, b"x")) is None
    assert reader.add(Record(0, 1, 0, None, b"x", [("iot.reason", b"not_json")])) is None
    assert reader.foreign == 2


def test_a_message_that_was_cut_inside_a_character_is_still_text() -> None:
    (letter,) = read(sent(message="é" * 600))
    assert set(letter.message) == {"é"}


def test_a_preview_is_one_printable_line() -> None:
    assert preview(None) == "(no value)"
    assert preview(b"") == ""
    assert preview(b'{"a":1}\n\x00\xff') == '{"a":1}\\n\\x00\\xff'
    assert preview(b"x" * 80) == "x" * 80
    assert preview(b"x" * 81) == "x" * 80 + "…"
    assert preview("é".encode() * 1000, 10) == "é" * 10 + "…"
