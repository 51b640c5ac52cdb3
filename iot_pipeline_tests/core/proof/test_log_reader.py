"""The audit's own way to read many messages at once."""

import pytest

from iot_pipeline.core.proof.log_reader import LogReader
from iot_pipeline.core.reading.messages import Reading, ReadingRules
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline_tests.core.reading.encoded import encode_reading

RULES = ReadingRules()


@pytest.mark.parametrize("place", range(len(QUANTITIES)))
@pytest.mark.parametrize("limit", ["least", "greatest"])
def test_many_at_once_are_readings_only_when_each_keeps_every_limit(place, limit):
    middle = [(item.least + item.greatest) / 2 for item in QUANTITIES]
    at_limit, beyond = list(middle), list(middle)
    at_limit[place] = getattr(QUANTITIES[place], limit)
    beyond[place] = at_limit[place] + (1 if limit == "greatest" else -1)
    reader = LogReader(RULES)
    kept = [Reading("d", 1735444918.0, *values) for values in (middle, at_limit)]
    assert reader.read_all([encode_reading(reading) for reading in kept]) == kept
    broken = [*kept, Reading("d", 1735444918.0, *beyond)]
    assert reader.read_all([encode_reading(reading) for reading in broken]) is None


def test_many_names_are_forgotten_and_still_checked(monkeypatch):
    monkeypatch.setattr(LogReader, "_MAX_KNOWN", 3)
    reader = LogReader(RULES)
    for number in range(20):
        assert reader.read_all([encode_reading(Reading(f"d{number}", 1735444918.0, 1, 1))])
        assert reader.read_all([encode_reading(Reading("\a", 1735444918.0, 1, 1))]) is None
        assert len(reader._known) <= 3
