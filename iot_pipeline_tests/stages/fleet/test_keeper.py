"""A run's fleet: what it saw is kept, what it did not see is asked, and nothing turns by chance."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest

from iot_pipeline.core.fleet.problems import Fleet, Trouble
from iot_pipeline.core.fleet.quality import QualityLimits
from iot_pipeline.core.ingest.micro_batch import MicroBatch
from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.reading.quantities import QUANTITIES
from iot_pipeline.core.reading.row_groups import RowGroups
from iot_pipeline.core.reading.write_times import RowsByTime
from iot_pipeline.core.times import MS_PER_DAY, MS_PER_HOUR, moment_of
from iot_pipeline.errors import CassandraUnavailableError, SchemaMismatchError
from iot_pipeline.stages.fleet.keeper import SAVE_SECONDS, FleetKeeper, look_at_fleet
from iot_pipeline.stages.fleet.rows import FleetPorts
from iot_pipeline_tests.stages.fakes_fleet import FakeDeviceStates, kept_state
from iot_pipeline_tests.stages.fakes_quality import (
    HOUR,
    MINUTE,
    START_MS,
    Lapse,
    Sent,
    TimeLapse,
    judge_fleet,
)

LIMITS = QualityLimits(QUANTITIES)


def batch_of(rows: list[Sent]) -> MicroBatch:
    groups: dict[tuple[str, int], RowsByTime] = {}
    for offset, (name, ms, at, warm, damp) in enumerate(sorted(rows, key=lambda row: row[2])):
        group = groups.setdefault((name, ms // MS_PER_DAY), {})
        group[ms] = (at * 1000, offset, 0, warm, damp)
    arrived = [row[2] for row in rows]
    counts = Counts(stored=len(rows), first_record_ms=min(arrived), last_record_ms=max(arrived))
    return MicroBatch(RowGroups.of(groups), [], {0: 0}, {0: len(rows)}, {0: counts}, [])


@dataclass
class Place:
    """A table of readings and of states, and a clock that stands still unless it is moved."""

    sent: list[Sent]
    states: FakeDeviceStates = field(default_factory=FakeDeviceStates)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.table = TimeLapse(self.sent)

    @property
    def ports(self) -> FleetPorts:
        return FleetPorts(self.states, self.table, self.table, self.table)

    def keeper(self, *, is_alone: bool = False, sees_all: bool = True) -> FleetKeeper:
        return FleetKeeper(self.ports, LIMITS, is_alone, sees_all, lambda: self.seconds)

    def run(self, since_ms: int, until_ms: int, only: Collection[str] | None = None) -> FleetKeeper:
        """A run that sees what arrived then, a minute at a time, and keeps it at its end.

        With `only` it is the run of a lane, that of these devices.
        """
        self.table.as_of_ms = until_ms
        keeper = self.keeper(sees_all=only is None)
        keeper.load()
        for begin in range(since_ms, until_ms, MINUTE):
            rows = [row for row in self.sent if begin <= row[2] < min(begin + MINUTE, until_ms)]
            rows = [row for row in rows if only is None or row[0] in only]
            if rows:
                keeper.observe(batch_of(rows), begin + MINUTE)
        return keeper

    def look(self, at_ms: int) -> Fleet:
        self.table.as_of_ms = at_ms
        return look_at_fleet(self.ports, LIMITS, moment_of(at_ms), 0.0)


def named(fleet: Fleet) -> dict[Trouble, set[str]]:
    return {
        trouble: {problem.device_id for problem in problems}
        for trouble, problems in fleet.problems.items()
        if problems
    }


def stuck(reading: Sent) -> Sent:
    return (*reading[:3], 20.5, 44.0)


def lapse(hours: float = 1.5) -> Lapse:
    """room_1 is stuck, room_2 silent from the fortieth minute on, room_3's clock is ahead."""

    def change(name: str, reading: Sent) -> list[Sent]:
        if name == "room_1" and reading[1] > START_MS + 40 * MINUTE:
            return [stuck(reading)]
        if name == "room_2" and reading[1] > START_MS + 40 * MINUTE:
            return []
        if name == "room_3":
            return [(name, reading[1] + 10 * MINUTE, *reading[2:])]
        return [reading]

    return Lapse(hours=hours, change=change)


EXPECTED = {
    Trouble.STUCK: {"room_1"},
    Trouble.SILENT: {"room_2"},
    Trouble.CLOCK: {"room_3"},
    Trouble.INCOMPLETE: {"room_2"},
}


@pytest.fixture
def place() -> Place:
    return Place(lapse().sent())


END = START_MS + 90 * MINUTE


def test_a_run_says_what_it_saw_and_a_question_after_it_says_the_same(place: Place) -> None:
    keeper = place.run(START_MS, END)
    in_run = keeper.look(moment_of(END), 0.0)
    assert named(in_run) == EXPECTED
    keeper.save(is_last=True)
    assert place.states.written == 8
    assert named(place.look(END)) == EXPECTED
    assert [v.numbers for v in judge_fleet(place.look(END))][3] == (judge_fleet(in_run)[3].numbers)


def test_a_question_asks_each_device_for_what_is_newer_and_nothing_else(place: Place) -> None:
    keeper = place.run(START_MS, END)
    keeper.look(moment_of(END), 0.0)
    keeper.save(is_last=True)
    place.table.asked.clear()
    place.look(END)
    # Two days around midnight, and the hour that one lacks.
    assert place.table.questions <= 2 * 8 + 1


def test_the_next_run_goes_on_where_the_last_one_ended(place: Place) -> None:
    middle = START_MS + 50 * MINUTE
    first = place.run(START_MS, middle)
    first.look(moment_of(middle), 0.0)
    first.save(is_last=True)
    second = place.run(middle, END)
    assert named(second.look(moment_of(END), 0.0)) == EXPECTED


def test_a_lane_knows_the_devices_of_the_other_by_what_is_kept_and_by_their_rows(
    place: Place,
) -> None:
    names = sorted({row[0] for row in place.sent})
    one, other = names[::2], names[1::2]
    at = END - 9 * MINUTE
    first = place.run(START_MS, at, only=one)
    second = place.run(START_MS, at, only=other)
    second.save(is_last=True)
    assert named(first.look(moment_of(at), 0.0)) == EXPECTED, "some of each lane"
    for until in (END - 6 * MINUTE, END - 3 * MINUTE, END):
        for row in place.sent:
            if at <= row[2] < until:
                (first if row[0] in one else second).observe(batch_of([row]), until)
        at = place.table.as_of_ms = until
        if until == END:
            # No rows answer, as where there is no time to ask: what the other run keeps must do.
            second.save(is_last=True)
            place.seconds += SAVE_SECONDS
            first.ports = FleetPorts(place.states, *[TimeLapse([])] * 3)
        assert named(first.look(moment_of(at), 0.0)) == EXPECTED
    kept = dict(place.states.states)
    first.save(is_last=True)
    changed = {name for name, content in place.states.states.items() if kept.get(name) != content}
    assert changed == set(one), "the other run keeps those of its lane"


def test_a_run_that_was_killed_loses_nothing_but_a_look_at_the_rows(place: Place) -> None:
    """Nothing was kept of the newest minute: who is there is not called silent."""
    kept = START_MS + 88 * MINUTE
    first = place.run(START_MS, kept)
    first.look(moment_of(kept), 0.0)
    first.save(is_last=True)
    for fleet in (place.look(END), place.run(END, END).look(moment_of(END), 0.0)):
        assert named(fleet)[Trouble.SILENT] == {"room_2"}
        assert named(fleet)[Trouble.INCOMPLETE] == {"room_2"}


def test_a_clock_that_was_ahead_hides_none_of_what_came_since() -> None:
    """What it measured ten minutes ahead is still the newest by its own time."""

    def change(name: str, reading: Sent) -> list[Sent]:
        is_ahead = name == "room_3" and 30 * MINUTE <= reading[1] - START_MS < 40 * MINUTE
        return [(name, reading[1] + is_ahead * 10 * MINUTE, *reading[2:])]

    place = Place(Lapse(interval_ms=1_000, hours=1.0, change=change).sent())
    for kept in (39.5, 44):
        at = START_MS + int(kept * MINUTE)
        place.states = FakeDeviceStates()
        keeper = place.run(START_MS, at)
        keeper.look(moment_of(at), 0.0)
        keeper.save(is_last=True)
        assert set(named(place.look(at + 80_000))) == {Trouble.CLOCK}, kept


def test_an_hour_that_seems_to_lack_readings_is_counted_before_it_is_called_so() -> None:
    """Of room_1 nothing was kept for a quarter of an hour; whether it was silent, rows tell."""
    middle = START_MS + 80 * MINUTE
    place = Place(Lapse(hours=1.5).sent())
    place.run(START_MS, START_MS + 65 * MINUTE).save(is_last=True)
    older = place.states.states["room_1"]
    place.run(START_MS + 65 * MINUTE, middle).save(is_last=True)
    place.states.states["room_1"] = older
    assert named(place.run(middle, END).look(moment_of(END), 0.0)) == {}
    gone = range(START_MS + 65 * MINUTE, middle)
    place.table = TimeLapse(r for r in place.sent if r[0] != "room_1" or r[2] not in gone)
    found = named(place.run(middle, END).look(moment_of(END), 0.0))
    assert found == {Trouble.INCOMPLETE: {"room_1"}}


def test_an_hour_that_a_replay_has_filled_is_not_red_for_the_rest_of_the_day() -> None:
    """No run folds what is replayed: the table is asked again, by runs and without them."""
    place = Place(Lapse(hours=1.5).sent())
    whole, gone = place.table, range(START_MS + 65 * MINUTE, START_MS + 80 * MINUTE)
    place.table = TimeLapse(r for r in place.sent if r[0] != "room_1" or r[2] not in gone)
    keeper = place.keeper()
    place.table.as_of_ms = END
    keeper.load()
    assert named(keeper.look(moment_of(END), 0.0)) == {Trouble.INCOMPLETE: {"room_1"}}
    keeper.save(is_last=True)
    place.table = whole
    later = END + MINUTE
    assert Trouble.INCOMPLETE not in named(place.look(later))
    place.table.as_of_ms = later
    in_run = place.keeper()
    assert Trouble.INCOMPLETE not in named(in_run.look(moment_of(later), 0.0))
    in_run.save(is_last=True)
    state = kept_state(place.states.states["room_1"])
    assert state is not None
    assert state.hours[START_MS // MS_PER_HOUR + 1] == 180, "and kept: the next run need not ask"


@pytest.mark.parametrize(
    "wiped", [None, SchemaMismatchError("no table device_states")], ids=["empty", "missing"]
)
def test_states_that_are_gone_are_made_again_from_rows(
    place: Place, wiped: SchemaMismatchError | None
) -> None:
    place.states.failure = wiped
    assert named(place.look(END)) == EXPECTED
    place.states.failure = None
    place.look(END)
    assert len(place.states.states) == 8, "and kept"


def test_what_was_red_stays_so_when_there_is_no_time_to_look(place: Place) -> None:
    keeper = place.run(START_MS, END)
    before = named(keeper.look(moment_of(END), 0.0))
    keeper.save(is_last=True)
    place.table.as_of_ms = END
    hurried = place.keeper()
    assert named(hurried.look(moment_of(END), 0.0, budget_seconds=-1.0)) == before


def test_devices_that_nobody_had_time_for_are_said_and_are_not_green() -> None:
    place = Place(Lapse(devices=60, hours=0.5).sent())
    place.table.as_of_ms = START_MS + 30 * MINUTE
    now = moment_of(place.table.as_of_ms)
    hurried = place.keeper().look(now, 0.0, budget_seconds=-1.0)
    assert 0 < len(hurried.states) < 60
    assert hurried.unlooked == 60 - len(hurried.states)
    nothing = replace(hurried, states={}, unlooked=60)
    for verdict in judge_fleet(nothing):
        assert not verdict.passed
        assert not verdict.is_looked
        assert "60 devices" in verdict.sentence


def test_what_lags_makes_nobody_silent_and_no_hour_incomplete(place: Place) -> None:
    keeper = place.run(START_MS, START_MS + 30 * MINUTE)
    lagging = keeper.look(moment_of(END), lag_seconds=3_600.0)
    assert set(named(lagging)) == {Trouble.CLOCK}


def test_rows_that_a_person_deleted_are_not_missed() -> None:
    """Neither by a run that saw them pass, nor by states that are made from what is left."""
    whole = Lapse(hours=1.5).sent()
    since, until = START_MS + 30 * MINUTE, START_MS + 50 * MINUTE
    left = [r for r in whole if not (r[0] == "room_4" and since <= r[1] < until)]
    seen = Place(whole)
    keeper = seen.run(START_MS, END)
    seen.table = TimeLapse(left)
    keeper.ports = seen.ports
    assert named(keeper.look(moment_of(END), 0.0)) == {}
    made = Place(left)
    assert named(made.look(END)) == {Trouble.INCOMPLETE: {"room_4"}}
    told = Place(left)
    told.table.deletions = [Deletion("room_4", since, until, END * 1000, "asked for")]
    assert named(told.look(END)) == {}


def test_what_a_look_after_the_end_found_is_known_to_the_next_run(place: Place) -> None:
    keeper = place.run(START_MS, END)
    keeper.save(is_last=True)
    found = keeper.look(moment_of(END), 0.0)
    place.table.as_of_ms = END
    for name, state in found.states.items():
        kept = kept_state(place.states.states[name])
        assert kept is not None
        assert kept.lacking == state.lacking
        assert kept.next_hour == state.next_hour > 0
    assert found.states["room_2"].lacking


def test_states_are_kept_once_a_minute_and_only_those_that_changed(place: Place) -> None:
    keeper = place.run(START_MS, START_MS + 30 * MINUTE)
    keeper.save()
    assert place.states.written == 0, "not sooner than a minute after the start"
    place.seconds += SAVE_SECONDS
    keeper.save()
    keeper.save()
    assert place.states.written == 8
    one = [r for r in place.sent if r[0] == "room_5"][200:201]
    keeper.observe(batch_of(one), START_MS)
    place.seconds += SAVE_SECONDS
    keeper.save()
    assert place.states.written == 8 + 1


def test_keeping_ends_in_time_and_what_was_not_kept_is_kept_the_next_time() -> None:
    place = Place(Lapse(devices=40, hours=0.2).sent())
    place.states.part = 10
    keeper = place.run(START_MS, START_MS + 12 * MINUTE)
    ticks = iter(range(1_000_000))
    keeper.clock = lambda: float(next(ticks))
    keeper.save(is_last=True, budget_seconds=2.0)
    assert 0 < place.states.written < 40
    keeper.save(is_last=True, budget_seconds=1_000.0)
    assert place.states.written == len(place.states.states) == 40, "none of them twice"


@pytest.mark.parametrize("error", [CassandraUnavailableError("away"), SchemaMismatchError("no")])
def test_a_table_that_cannot_be_written_is_said_and_ends_nothing(
    place: Place,
    error: CassandraUnavailableError | SchemaMismatchError,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeper = place.run(START_MS, START_MS + 10 * MINUTE)
    place.states.failure = error
    keeper.save(is_last=True)
    assert place.states.written == 0
    assert f"states of 8 devices are not kept, rows tell them again: {error}" in caplog.text
    place.states.failure = None
    keeper.save(is_last=True)
    assert place.states.written == 8


def test_observing_asks_cassandra_nothing(place: Place) -> None:
    place.states.failure = CassandraUnavailableError("away")
    keeper = place.keeper()
    keeper.observe(batch_of(place.sent[:500]), END)
    place.seconds += 10
    keeper.observe(batch_of(place.sent[500:600]), END)
    with pytest.raises(CassandraUnavailableError):
        keeper.look(moment_of(END), 0.0)


def test_what_is_kept_goes_before_what_was_seen_until_it_was_read(place: Place) -> None:
    middle = START_MS + 60 * MINUTE
    first = place.run(START_MS, middle)
    first.look(moment_of(middle), 0.0)
    first.save(is_last=True)
    second = place.keeper()
    rest = [row for row in place.sent if middle <= row[2] < END]
    second.observe(batch_of(rest), END)
    place.seconds += 10
    second.observe(batch_of(rest[-1:]), END)
    place.table.as_of_ms = END
    fleet = second.look(moment_of(END), 0.0)
    assert named(fleet) == EXPECTED
    assert fleet.states["room_0"].begin_ms < START_MS + MINUTE


def test_a_look_while_readings_pass_sees_a_fleet_that_stands_still() -> None:
    rows = Lapse(devices=30, hours=0.5, interval_ms=2_000).sent()
    rows.sort(key=lambda row: row[2])
    keeper = FleetKeeper(Place([]).ports, LIMITS)
    keeper.load()

    def ingest() -> None:
        for at in range(0, len(rows), 500):
            keeper.observe(batch_of(rows[at : at + 500]), END)

    now = moment_of(START_MS + HOUR // 2)
    with ThreadPoolExecutor(1) as pool:
        ingesting = pool.submit(ingest)
        while not ingesting.done():
            fleet = keeper.look(now, 0.0)
            assert all(sum(s.hours.values()) == s.rows for s in fleet.states.values())
            keeper.save(is_last=True)
    ingesting.result()
    fleet = keeper.look(now, 0.0)
    assert sum(state.rows for state in fleet.states.values()) == len(rows)
