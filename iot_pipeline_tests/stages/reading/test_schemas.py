"""Schemas are asked for before messages are read; a registry that is away judges nothing."""

from dataclasses import dataclass, field, replace

import pytest

from iot_pipeline.core.reading.declaration import SEED
from iot_pipeline.core.reading.formats import Format, Unknown, WriterSchema, frame
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.errors import RegistryUnavailableError
from iot_pipeline.stages.reading.schemas import learn_schemas

FOUND = WriterSchema("AVRO", b"{}")


@dataclass
class AwayFor:
    """A registry that does not answer so often, and then knows every id but 9."""

    times: int
    asked: list[int] = field(default_factory=list)

    def find(self, schema_id: int) -> WriterSchema | Unknown:
        self.asked.append(schema_id)
        if len(self.asked) <= self.times:
            raise RegistryUnavailableError("away")
        return Unknown("none") if schema_id == 9 else FOUND


def rules_of(name: str) -> ReadingRules:
    declared = replace(SEED, format=Format(name), counts_unknown=False)  # type: ignore[arg-type]
    return ReadingRules(declared)


def test_each_id_is_asked_for_once_and_again_while_the_registry_is_away() -> None:
    rules, source = rules_of("avro"), AwayFor(1)
    values = [frame(3) + b"x", None, frame(9), frame(3) + b"y", b"{}"]
    learn_schemas(rules, source, values, 60)
    learn_schemas(rules, source, values, 60)
    assert source.asked == [3, 3, 9]
    assert (rules.schemas.find(3), rules.schemas.find(9)) == (FOUND, Unknown("none"))


def test_a_registry_that_stays_away_is_an_error_and_nothing_is_known() -> None:
    rules = rules_of("avro")
    with pytest.raises(RegistryUnavailableError):
        learn_schemas(rules, AwayFor(1_000), [frame(3)], 0)
    assert rules.schemas.find(3) is None


@pytest.mark.parametrize("name", ["json", "json-schema"])
def test_json_asks_for_nothing(name: str) -> None:
    source = AwayFor(0)
    learn_schemas(rules_of(name), source, [frame(3)], 0)
    assert source.asked == []
