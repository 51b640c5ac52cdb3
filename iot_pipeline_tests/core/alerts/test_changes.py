"""A change is told once: counted over series of verdicts."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_pipeline.core.alerts.changes import (
    MOST_WAITING,
    Change,
    Memory,
    Message,
    Turn,
    note,
    put,
    send_due,
)
from iot_pipeline.core.alerts.conditions import (
    INGESTION_STANDS_STILL,
    RUN_FAILED,
    SERVER_IS_AWAY,
    Condition,
    Level,
    without_consequences,
)

GREEN, WARN, ERROR = Level.GREEN, Level.WARN, Level.ERROR
SETTLE = 30.0
SILENT, LAG, LATE = "devices_are_reporting", "lag_is_within_limit", "readings_are_on_time"


def condition(kind: str, level: Level, **more: str) -> Condition:
    return Condition(kind, level, f"{kind} is {level.name}", **more)


@dataclass(slots=True)
class Series:
    """Looks every ten seconds, and what was told of them."""

    memory: Memory = field(default_factory=Memory)
    told: list[tuple[int, list[tuple[str, Turn]]]] = field(default_factory=list)
    now_ms: int = 0

    def look(self, *conditions: Condition, times: int = 1, is_quiet: bool = False) -> None:
        for _ in range(times):
            self.memory, changes = note(
                self.memory,
                without_consequences(conditions, [LAG]),
                self.now_ms,
                settle_seconds=SETTLE,
                is_quiet=is_quiet,
            )
            if changes:
                said = [(change.condition.subject, change.turn) for change in changes]
                self.told.append((self.now_ms // 1000, said))
            self.now_ms += 10_000


def test_a_change_is_told_once_when_it_has_stood_for_the_settling_time() -> None:
    series = Series()
    series.look(condition(SILENT, GREEN), times=2)
    series.look(condition(SILENT, WARN), times=20)
    series.look(condition(SILENT, GREEN), times=20)
    assert series.told == [(50, [(SILENT, Turn.RED)]), (250, [(SILENT, Turn.GREEN)])]


def test_what_turns_back_in_time_is_not_told_at_all() -> None:
    series = Series()
    for _ in range(20):
        series.look(condition(LAG, WARN), times=3)
        series.look(condition(LAG, GREEN))
    assert series.told == []


def test_worse_is_told_and_swinging_between_warning_and_error_is_told_once() -> None:
    series = Series()
    series.look(condition(LAG, WARN), times=5)
    for _ in range(5):
        series.look(condition(LAG, ERROR), times=5)
        series.look(condition(LAG, WARN), times=5)
    assert [said for _, said in series.told] == [[(LAG, Turn.RED)], [(LAG, Turn.WORSE)]]
    series.look(condition(LAG, GREEN), times=5)
    assert series.told[-1][1] == [(LAG, Turn.GREEN)]


def test_what_changed_meanwhile_comes_along_in_one_message_worst_first() -> None:
    series = Series()
    series.look(condition(SILENT, WARN), condition(LATE, GREEN))
    series.look(condition(SILENT, WARN), condition(LATE, WARN), times=2)
    series.look(condition(SILENT, WARN), condition(LATE, WARN), condition(LAG, ERROR), times=9)
    assert series.told == [(30, [(LAG, Turn.RED), (SILENT, Turn.RED), (LATE, Turn.RED)])]


def test_a_subject_that_was_not_looked_at_stays_as_it_was_told() -> None:
    series = Series()
    series.look(condition(SILENT, WARN), times=5)
    series.look(times=50)
    series.look(condition(SILENT, WARN), times=50)
    assert len(series.told) == 1


def test_a_servers_death_is_one_message_and_its_return_another() -> None:
    """As it is recorded of a follow run: the tick sees it, the run fails, checks cannot look."""
    checks = [condition(f"check_{n}", GREEN) for n in range(10)]
    away = condition(SERVER_IS_AWAY, ERROR, name="Cassandra")
    failed = condition(RUN_FAILED, ERROR, name="rollups", away="Cassandra")
    still = condition(INGESTION_STANDS_STILL, ERROR)
    series = Series()
    series.look(*checks, condition(LAG, GREEN), times=3)
    series.look(away, *checks, times=2)
    series.look(away, failed, still, condition(LAG, WARN), times=60)
    back = condition(SERVER_IS_AWAY, GREEN, name="Cassandra")
    series.look(back, condition(INGESTION_STANDS_STILL, GREEN), condition(LAG, WARN), times=2)
    series.look(back, *checks, condition(LAG, GREEN), times=10)
    subject = "server_is_away/Cassandra"
    assert [said for _, said in series.told] == [[(subject, Turn.RED)], [(subject, Turn.GREEN)]]


def test_standing_still_covers_the_lag_and_a_failing_ingest_covers_both() -> None:
    red = [condition(INGESTION_STANDS_STILL, ERROR), condition(LAG, WARN)]
    assert [item.kind for item in without_consequences(red, [LAG])] == [INGESTION_STANDS_STILL]
    for name in ("ingest", "ingest iot_data/1-of-2"):
        failed = condition(RUN_FAILED, ERROR, name=name)
        assert without_consequences([*red, failed], [LAG]) == [failed]
    other = condition(RUN_FAILED, ERROR, name="ingest_of_others")
    assert [item.kind for item in without_consequences([*red, other], [LAG])] == [
        INGESTION_STANDS_STILL,
        RUN_FAILED,
    ]


def test_in_quiet_hours_only_errors_are_told_and_the_rest_as_it_stands_afterwards() -> None:
    series = Series()
    series.look(condition(SILENT, WARN), condition(LATE, WARN), times=20, is_quiet=True)
    assert series.told == []
    error = condition(LAG, ERROR)
    series.look(error, condition(SILENT, WARN), condition(LATE, GREEN), times=9, is_quiet=True)
    series.look(condition(LAG, GREEN), times=9, is_quiet=True)
    series.look(condition(SILENT, WARN), condition(LATE, GREEN))
    assert [said for _, said in series.told] == [
        [(LAG, Turn.RED)],
        [(LAG, Turn.GREEN)],
        [(SILENT, Turn.RED)],
    ]


@given(st.integers(0, 10_000))
def test_whatever_happens_red_and_green_take_turns_and_the_last_told_is_how_it_stands(
    seed: int,
) -> None:
    chance = random.Random(seed)
    series = Series()
    names = [SILENT, LATE, LAG]
    levels = dict.fromkeys(names, GREEN)
    for _ in range(100):
        if chance.random() < 0.3:
            levels[chance.choice(names)] = chance.choice([GREEN, WARN, ERROR])
        series.look(*(condition(n, level) for n, level in levels.items() if chance.random() < 0.8))
    series.look(*(condition(name, level) for name, level in levels.items()), times=5)
    for name in names:
        turns = [turn for _, said in series.told for subject, turn in said if subject == name]
        for before, after in zip([Turn.GREEN, *turns], turns, strict=False):
            assert (before is Turn.GREEN) == (after is Turn.RED)
        assert (turns[-1] is not Turn.GREEN if turns else False) == bool(levels[name])


def message(number: int, channel: str = "ops") -> Message:
    return Message(f"m{number}", channel, WARN, "title", "body", number)


@dataclass(slots=True)
class Outside:
    """Channels that take messages, but for those that are `down`."""

    down: set[str] = field(default_factory=set)
    taken: list[tuple[str, str, int]] = field(default_factory=list)

    def send(self, message: Message, dropped: int) -> str:
        if message.channel in self.down:
            return "it did not answer"
        self.taken.append((message.channel, message.message_id, dropped))
        return ""

    def send_all(
        self, memory: Memory, now_ms: int, names: Iterable[str] = ("ops", "mail")
    ) -> Memory:
        memory, self.failures = send_due(memory, now_ms, list(names), self.send)
        return memory

    failures: Sequence[tuple[str, str]] = ()


def test_a_channel_that_is_down_keeps_its_messages_in_order_and_no_other_waits() -> None:
    outside = Outside(down={"ops"})
    memory = put(Memory(), [message(1), message(2), message(3, "mail")])
    memory = outside.send_all(memory, 0)
    assert [item[:2] for item in outside.taken] == [("mail", "m3")]
    assert list(outside.failures) == [("ops", "it did not answer")]
    outside.down.clear()
    memory = outside.send_all(memory, 14_000)
    assert len(outside.taken) == 1, "it is not tried again so soon"
    memory = outside.send_all(memory, 15_000)
    assert [item[1] for item in outside.taken] == ["m3", "m1", "m2"]
    assert memory == Memory()


def test_what_waits_is_bounded_and_what_made_room_is_told() -> None:
    outside, memory, now_ms, waits = Outside(down={"ops"}), Memory(), 0, []
    for number in range(MOST_WAITING + 5):
        memory = put(memory, [message(number)])
        memory = outside.send_all(memory, now_ms)
        if outside.failures:
            waits.append(memory.retries["ops"].at_ms - now_ms)
        now_ms = memory.retries["ops"].at_ms
    assert len(memory.outbox) == MOST_WAITING
    assert (waits[0], max(waits)) == (15_000, 900_000)
    outside.down.clear()
    outside.send_all(memory, now_ms)
    assert outside.taken[0] == ("ops", "m5", 5)
    assert [dropped for _, _, dropped in outside.taken[1:]] == [0] * (MOST_WAITING - 1)


def test_a_channel_that_was_taken_away_leaves_nothing_behind() -> None:
    outside = Outside(down={"ops"})
    memory = outside.send_all(put(Memory(), [message(1)]), 0)
    assert outside.send_all(memory, 60_000, names=["mail"]) == Memory()


def test_a_change_knows_how_red_it_was() -> None:
    memory, changes = note(Memory(), [condition(LAG, ERROR)], 0, settle_seconds=0)
    assert [change.level for change in changes] == [ERROR]
    _, changes = note(memory, [condition(LAG, GREEN)], 1, settle_seconds=0)
    assert [(change.turn, change.level) for change in changes] == [(Turn.GREEN, ERROR)]
    assert isinstance(changes[0], Change)


@pytest.mark.parametrize("level", [WARN, ERROR])
def test_a_first_look_tells_what_is_red_already(level: Level) -> None:
    series = Series()
    series.look(condition(LAG, level), condition(SILENT, GREEN), times=9)
    assert [said for _, said in series.told] == [[(LAG, Turn.RED)]]
