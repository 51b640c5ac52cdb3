"""What is remembered of a day whose rows are fewer than the ledger stored."""

from iot_pipeline.core.proof.settling import Former


def test_rows_of_a_former_log_get_fewer_only_as_this_log_has_them() -> None:
    first = Former(stored=250, present=240)
    kept = first.keep({}, first.rows_left({}, 10))
    # More of the mirror is ingested: it may have had what was left.
    assert Former(250, 245).rows_left(kept, 5) == 5
    assert Former(250, 245).rows_left(kept, 10) == 10
    # Fewer without that: rows are missing.
    assert Former(250, 240).rows_left(kept, 9) == 10
    assert Former(250, 245).rows_left(kept, 4) == 5
    # A look that did not come to an end forgets nothing.
    assert Former(250, 240).keep(kept, None) == kept
    assert Former(0, 240).keep({}, Former(0, 240).rows_left({}, 7)) == {}
