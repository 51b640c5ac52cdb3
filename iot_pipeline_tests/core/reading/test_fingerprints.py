"""Whether a log is the one that was read, by its last record and the holes after it."""

from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.reading.fingerprints import find_difference, fingerprint_of
from iot_pipeline.core.reading.messages import Record

PARTS = st.none() | st.binary(max_size=4)


def record(offset=7, ms=1_000, key=b"k", value=b"v"):
    return Record(0, offset, ms, key, value, None)


KNOWN = fingerprint_of(7, 1_000, b"k", b"v")


@given(PARTS, PARTS, PARTS, PARTS)
def test_two_records_have_one_digest_only_if_key_and_value_are_equal(key, value, other, another):
    one, two = fingerprint_of(1, 2, key, value), fingerprint_of(1, 2, other, another)
    assert (one == two) == ((key, value) == (other, another))


def test_a_digest_fits_into_a_bigint_and_stays_what_it_is():
    assert -(2**63) <= KNOWN.digest < 2**63
    assert KNOWN == (7, 1_000, 5383189495783512558)


def test_the_same_record_and_holes_after_it_are_no_difference():
    assert find_difference(KNOWN, [record()]) is None


def test_a_record_that_is_absent_shows_nothing():
    assert find_difference(KNOWN, []) is None


def test_another_record_in_its_place_is_one():
    assert "arrived at 1970-01-01T00:00:02.000Z" in find_difference(KNOWN, [record(ms=2_000)])
    assert "had another content" in find_difference(KNOWN, [record(value=b"w")])
    assert "had another content" in find_difference(KNOWN, [record(key=None)])
    assert "another content" not in find_difference(KNOWN, [record(ms=2_000)])


def test_a_record_where_a_hole_was_is_one_whether_or_not_the_last_record_is_there():
    for found in ([record(), record(8)], [record(9)]):
        assert f"is at offset {found[-1].offset}, where there was none" in (
            find_difference(KNOWN, found)
        )
