"""Dead letters read again by the rules of now, on fakes."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pytest

from iot_pipeline.core.proof.dead_letters import (
    REASON,
    SOURCE_OFFSET,
    SOURCE_PARTITION,
    SOURCE_TOPIC,
    TIMESTAMP_MS,
)
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.reading.groups import DeviceGroup
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.reading.retention import Retention
from iot_pipeline.core.reading.write_times import write_time_us
from iot_pipeline.core.rollups.days import ReplayedPart, gather_facts
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.stages.ingest.config import DrainConfig
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.ports.readings import SensorData
from iot_pipeline.stages.proof.replay_dead_letters import LetterReplay, replay_dead_letters
from iot_pipeline_tests.core.reading.limits import limited_seed
from iot_pipeline_tests.load import reading_json
from iot_pipeline_tests.stages.fakes import NOW_MS, FakeLog, writer_id
from iot_pipeline_tests.stages.faults import Crash, FailingLog, Faults, How
from iot_pipeline_tests.stages.world import CONFIG, T0, World

DLQ = "iot_data.dlq"
HOT = 200.0  # above the rule of then, below that of now
RELAXED = dataclasses.replace(
    CONFIG, rules=ReadingRules(limited_seed(temperature={"greatest": 300.0}))
)


class Letters:
    """A dead-letter topic, and a world whose store takes what is replayed."""

    def __init__(self) -> None:
        self.world, self.log = World(), FakeLog(topic=DLQ)
        self.offset = 0

    def add(
        self,
        value: bytes | None,
        reason: str = "out_of_range",
        headers: Mapping[str, bytes] | None = None,
    ) -> int:
        self.offset += 1
        known = {
            SOURCE_TOPIC: b"iot_data",
            SOURCE_PARTITION: b"0",
            SOURCE_OFFSET: str(self.offset).encode(),
            REASON: reason.encode(),
            TIMESTAMP_MS: str(NOW_MS).encode(),
            **(headers or {}),
        }
        self.log.append(0, value, headers=[(k, v) for k, v in known.items() if v != b""])
        return self.offset

    def hot(self, device: str = "d", at: float = T0, temperature: float = HOT) -> int:
        return self.add(reading_json(device, at, temperature))

    def replay(
        self,
        config: DrainConfig = RELAXED,
        deletions: Sequence[Deletion] = (),
        faults: Faults | None = None,
        rows: SensorData | None = None,
        **options: Any,
    ) -> LetterReplay:
        faults = faults or Faults()
        ports = dataclasses.replace(self.world.ports(faults), log=FailingLog(self.log, faults))
        return replay_dead_letters(
            ports,
            self.world.proof(rows, deletions),
            Run("replay", writer_id(7)),
            config,
            **options,
        )

    def rows(self) -> dict[str, float]:
        return {device: row[0] for (device, _), row in self.world.store.rows().items()}


def total(result: LetterReplay) -> int:
    others = result.stored + result.present + result.superseded + result.aged_out
    return others + result.still_rejected.total()


def test_what_a_fixed_rule_accepts_is_stored_with_its_original_write_time():
    letters = Letters()
    offset = letters.hot()
    result = letters.replay()
    assert (result.letters, result.stored) == (1, 1)
    ((written,),) = letters.world.store.write_times().values()
    assert written == write_time_us(NOW_MS, offset, 0)
    assert letters.world.journal.count(("sent", None)) >= 1
    (_, _, run_id, ranges, counts) = letters.world.ledger.replays[-1]
    assert (run_id, ranges, counts.stored) == ("replay", [], 1)
    assert sum(counts.stored_by_day.values()) == 1
    assert letters.world.ledger.checkpoints == {}


def test_a_second_replay_finds_the_rows_there_and_counts_none_again():
    letters = Letters()
    letters.hot()
    letters.replay()
    again = letters.replay()
    assert (again.stored, again.present, again.new_rows_by_day) == (0, 1, {})


def test_what_still_fails_stays_counted_and_nothing_is_resent():
    letters = Letters()
    letters.add(b"no reading", "not_json")
    letters.hot(temperature=999.0)
    letters.hot("ok")
    result = letters.replay()
    assert (result.letters, result.stored) == (3, 1)
    assert result.still_rejected == {"not_json": 1, "out_of_range": 1}
    assert letters.world.letters.delivered == []
    assert letters.log.end(0) == 3


def test_only_letters_of_the_reason_asked_for_are_replayed():
    letters = Letters()
    letters.hot("a")
    letters.add(reading_json("b", T0), "too_large")
    result = letters.replay(reason="too_large")
    assert (result.letters, set(letters.rows())) == (1, {"b"})


def test_a_later_record_keeps_its_row_and_an_older_one_gives_way():
    letters = Letters()
    letters.world.log.now_ms = NOW_MS + 5
    letters.world.write(device="later", at=T0, temperature=1.0)
    letters.world.log.now_ms = NOW_MS - 5
    letters.world.write(device="older", at=T0, temperature=2.0)
    letters.world.drain()
    letters.hot("later")
    letters.hot("older")
    result = letters.replay()
    assert letters.rows() == {"later": 1.0, "older": HOT}
    assert (result.stored, result.superseded) == (1, 1)
    assert result.new_rows_by_day == {}, "the row was counted by the run that made it"


def test_of_two_letters_of_one_key_the_later_wins():
    letters = Letters()
    letters.hot(temperature=250.0)
    letters.hot(temperature=200.0)
    result = letters.replay()
    assert letters.rows() == {"d": 200.0}
    assert (result.stored, result.superseded) == (1, 1)


def test_letters_that_came_twice_or_are_of_another_topic_are_not_counted():
    letters = Letters()
    offset = letters.hot()
    letters.add(reading_json("d", T0, HOT), headers={SOURCE_OFFSET: str(offset).encode()})
    letters.add(reading_json("x", T0, HOT), headers={SOURCE_TOPIC: b"another"})
    letters.log.append(0, b"no headers at all")
    assert letters.replay().letters == 1
    assert set(letters.rows()) == {"d"}


def test_deleted_readings_stay_deleted_old_ones_age_out_and_a_letter_without_a_time_fails():
    letters = Letters()
    letters.hot("deleted")
    for name in ("old", "kept"):
        at = {TIMESTAMP_MS: str(NOW_MS - 9 * MS_PER_DAY).encode()}
        letters.add(reading_json(name, T0, HOT), headers=at)
    letters.add(reading_json("timeless", T0, HOT), headers={TIMESTAMP_MS: b""})
    ms, kept = int(T0 * 1000), DeviceGroup("kept", ("kept",), retention_days=0)
    result = letters.replay(
        dataclasses.replace(RELAXED, retention=Retention.of(5.0, [kept])),
        [Deletion("deleted", ms, ms + 1, 2**62, "wrong")],
        wall_clock=lambda: NOW_MS / 1000,
    )
    assert (result.superseded, result.aged_out) == (1, 1)
    assert result.still_rejected == {"no_timestamp": 1}
    assert set(letters.rows()) == {"kept"}
    assert total(result) == result.letters == 4


def test_rows_that_cassandra_refuses_are_still_rejected():
    letters = Letters()
    letters.world.store.refuse = lambda device, _ms: device == "refused"
    for number in range(400):
        letters.hot(f"d{number % 4}", T0 + number)
    letters.hot("refused")
    result = letters.replay()
    assert (result.stored, result.still_rejected) == (400, {"rejected_by_cassandra": 1})
    assert total(result) == result.letters


def test_no_dead_letters_is_a_replay_of_nothing():
    letters = Letters()
    assert letters.replay().letters == 0
    assert len(letters.world.ledger.replays) == 1


def _with_replaced_and_new_rows() -> Letters:
    """Two letters were replayed; two more would replace a row of one day and add one to another."""
    letters = Letters()
    letters.hot(at=T0 - 86_400)
    letters.hot()
    letters.replay()
    later = {TIMESTAMP_MS: str(NOW_MS + 1).encode()}
    letters.add(reading_json("d", T0 - 86_400, HOT - 1), headers=later)
    letters.hot("new")
    return letters


def _first_write_of(letters: Letters) -> int:
    """The number of the call that first sends rows."""
    faults = Faults()
    letters.replay(faults=faults)
    return 1 + next(at for at, seam in enumerate(faults.calls) if "store.send_" in seam)


@pytest.mark.parametrize("how", [How.CRASH_BEFORE, How.CRASH_AFTER])
def test_a_replay_that_dies_has_touched_the_days_it_was_writing(how):
    at = _first_write_of(_with_replaced_and_new_rows())
    letters = _with_replaced_and_new_rows()
    seen = _days_seen(letters)
    with pytest.raises(Crash):
        letters.replay(faults=Faults(at, how))
    died = _days_seen(letters)
    assert seen
    assert all(died[day] != seen[day] for day in seen), "each day is another one than before"
    again = letters.replay()
    assert (_days_seen(letters) != died) == bool(again.stored)
    assert total(again) == again.letters == 4


def test_a_day_that_nothing_else_names_is_named_before_its_rows_are_written():
    def a_letter() -> Letters:
        letters = Letters()
        letters.hot()
        return letters

    letters = a_letter()
    with pytest.raises(Crash):
        letters.replay(faults=Faults(_first_write_of(a_letter()), How.CRASH_AFTER))
    assert letters.rows() == {"d": HOT}
    assert _days_seen(letters)
    # Its rows are counted by nobody: more than the ledgers say is a warning, fewer is a loss.
    assert not sum(letters.world.ledger.replays[-1][4].stored_by_day.values())


def _days_seen(letters: Letters) -> dict[date, str]:
    """What tells the rollups whether a day is as it was when they were made."""
    replays = {
        (started_at, run_id): ReplayedPart(
            f"{started_at} {run_id} {counts.stored}", ranges, counts.stored, counts.stored_by_day
        )
        for _, started_at, run_id, ranges, counts in letters.world.ledger.replays
    }
    facts = gather_facts([], list(replays.values()), [], datetime.now(UTC))
    return {day: found.seen for day, found in facts.items()}
