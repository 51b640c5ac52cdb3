"""Durations as a person says them."""

import pytest

from iot_pipeline.core.durations import in_words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.01, "10 ms"), (0.099, "99 ms"), (0.0996, "0.1 s"), (-0.02, "-20 ms")]
)
def test_what_is_shorter_than_a_tenth_of_a_second_is_not_nothing(seconds, words):
    assert in_words(seconds) == words
