"""Readings told in parts, on fakes: audited, replayed, mended, traced, and out of dead letters."""

import dataclasses
from pathlib import Path

import pytest

from iot_pipeline.core.proof.audit_result import Fate
from iot_pipeline.core.proof.deletions import Deletion
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.times import MS_PER_DAY
from iot_pipeline.errors import PermanentError
from iot_pipeline.settings_reading import load_declaration
from iot_pipeline.stages.ingest.drain import drain
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.audit import audit
from iot_pipeline.stages.proof.choosing import choose_ranges
from iot_pipeline.stages.proof.mend import mend
from iot_pipeline.stages.proof.replay import plan_replay, replay
from iot_pipeline.stages.proof.replay_dead_letters import replay_dead_letters
from iot_pipeline.stages.proof.trace import read_back_run, trace
from iot_pipeline_tests.load import reading_json
from iot_pipeline_tests.stages.fakes import NOW_MS, writer_id
from iot_pipeline_tests.stages.outside import FakeDeletions, Outside
from iot_pipeline_tests.stages.proof.test_replay_dead_letters import Letters
from iot_pipeline_tests.stages.world import CONFIG, T0, World

T0_MS = int(T0 * 1000)
KEY = ("d", T0_MS // MS_PER_DAY, T0_MS)
RUN = Run("run", writer_id(7))
PARTS = """\
version: 1
device: {path: device_id}
time: {path: timestamp, as: seconds}
quantities: {temperature: {optional: true}, humidity: {optional: true}}
"""


@pytest.fixture
def reading(tmp_path: Path) -> str:
    path = tmp_path / "parts.yaml"
    path.write_text(PARTS)
    return str(path)


def config_of(reading: str):
    rules = ReadingRules(load_declaration(Path(reading), "parts"))
    return dataclasses.replace(CONFIG, rules=rules)


def fates(outside: Outside) -> dict[Fate, int]:
    found = audit(choose_ranges(outside.ports), outside.ports, "a", every_place=True).fates
    return {fate: count for fate, count in found.items() if count}


def told(reading: str, *parts: tuple[float | None, float | None]) -> Outside:
    """Each part of one reading in a run of its own."""
    world = World()
    for temperature, humidity in parts:
        world.write(0, "d", T0, temperature, humidity)
        world.log.tick()
        world.drain(config=config_of(reading))
    return Outside(world, reading=reading)


def cells(outside: Outside) -> dict[str, float]:
    found = outside.world.store.cells[KEY]
    return {name: value for name, (_, value) in found.items()}


def test_parts_of_several_runs_are_all_stored_and_one_that_is_gone_is_replayed(reading: str):
    outside = told(reading, (20.0, None), (None, 50.0), (21.0, None), (21.0, None))
    assert cells(outside) == {"temperature": 21.0, "humidity": 50.0}
    # The first is superseded by an equal one of later.
    proved = {Fate.STORED: 2, Fate.SUPERSEDED: 1, Fate.REPEATED: 1}
    assert fates(outside) == proved
    read = read_back_run(outside.ports, [OffsetRange(0, 0, 4)])
    assert (read.rows, read.not_equal) == (1, 0)

    del outside.world.store.cells[KEY]["humidity"]
    assert fates(outside) == proved | {Fate.STORED: 1, Fate.LOST: 1}
    config, world = config_of(reading), outside.world
    plan = plan_replay(world.log, world.ledger, "iot_data", [OffsetRange(0, 0, 4)]).plan
    done = replay(plan, world.ports(), outside.ports, RUN, config)
    assert done.rows_not_whole == 0
    assert cells(outside) == {"temperature": 21.0, "humidity": 50.0}
    assert fates(outside) == proved


def test_parts_that_were_deleted_before_they_are_read_are_no_cells_of_the_ledger(reading: str):
    world, config = World(), config_of(reading)
    world.write(0, "d", T0, 20.0, None)
    world.write(0, "other", T0, 20.0, 50.0)
    moment_us = world.log.now_ms * 1000 + 999
    world.log.tick()
    world.write(0, "d", T0, None, 51.0)
    forgotten = Deletion("d", 0, 1 << 50, moment_us, "asked", is_forgotten=True)
    ports = dataclasses.replace(world.ports(), deletions=FakeDeletions(deletions=[forgotten]))
    drain(world.plan(), ports, RUN, config)
    (entry,) = world.ledger.read_entries("iot_data", [0])
    assert (entry.counts.stored, entry.counts.superseded) == (2, 1)
    assert sum(entry.counts.cells_by_day.values()) == 3
    assert cells(Outside(world, reading=reading)) == {"humidity": 51.0}


def test_a_trace_names_each_record_that_told_a_part(reading: str):
    outside = told(reading, (20.0, None), (20.0, 50.0), (21.0, None))
    found = trace(outside.ports, "d", T0_MS)
    assert found.is_whole
    assert [(row[1], numbers) for row, numbers in found.makers] == [(1, [1]), (2, [0])]
    assert found.made_by is not None
    assert found.made_by[1] == 2
    outside.world.store.cells[KEY]["humidity"] = (NOW_MS * 1000, 51.0)
    assert not trace(outside.ports, "d", T0_MS).is_whole


def test_a_torn_reading_becomes_what_the_records_that_win_say(reading: str):
    world = World(partitions=17)
    world.write(0, "d", T0, 90.0, 1.0)
    world.write(16, "d", T0, 1.0, 90.0)
    for partition in (0, 16):
        plan = world.plan(partitions=[partition])
        world.drain(plan, config=config_of(reading))
    outside = Outside(world, reading=reading)
    assert cells(outside) == {"temperature": 90.0, "humidity": 90.0}
    assert fates(outside)[Fate.TORN] == 1
    for is_mended in (True, False):
        done = mend(outside.ports, world.store, RUN, "d", T0_MS, "me", lambda: NOW_MS / 1000)
        assert done.is_mended == is_mended
        assert cells(outside) == {"temperature": 90.0, "humidity": 1.0}
        assert fates(outside) == {Fate.STORED: 1, Fate.SUPERSEDED: 1}


def test_which_of_two_partitions_has_a_cell_of_one_write_time_is_cassandras_word(reading: str):
    world = World(partitions=17)
    world.write(0, "d", T0, 1.0, 10.0)
    world.write(16, "d", T0, 90.0, 20.0)
    world.write(1, "d", T0, None, 5.0)
    for partition in (0, 16, 1):
        world.drain(world.plan(partitions=[partition]), config=config_of(reading))
    outside = Outside(world, reading=reading)
    assert cells(outside) == {"temperature": 90.0, "humidity": 5.0}
    assert fates(outside) == {Fate.STORED: 2, Fate.SUPERSEDED: 1}
    done = mend(outside.ports, world.store, RUN, "d", T0_MS, "me", lambda: NOW_MS / 1000)
    assert not done.is_mended


def test_a_value_with_the_write_time_of_a_record_that_does_not_tell_it_is_stray(reading: str):
    outside = told(reading, (20.0, None))
    stored = outside.world.store.cells[KEY]
    stored["humidity"] = (stored["temperature"][0], 50.0)
    assert fates(outside) == {Fate.STORED: 1, Fate.STRAY: 1}


def test_a_row_that_no_record_explains_is_not_mended(reading: str):
    outside = told(reading, (20.0, None))
    us, value = outside.world.store.cells[KEY]["temperature"]
    outside.world.store.cells[KEY]["temperature"] = (us + 5_000_000, value)
    with pytest.raises(PermanentError, match="Kafka has no record with one of the row's"):
        mend(outside.ports, outside.world.store, RUN, "d", T0_MS, "me", lambda: NOW_MS / 1000)


def test_dead_letters_of_one_reading_each_bring_their_part(reading: str):
    letters = Letters()
    for temperature, humidity in ((200.0, None), (None, 50.0), (201.0, None)):
        letters.add(reading_json("d", T0, temperature, humidity))
    outside = Outside(letters.world, reading=reading)
    ports = dataclasses.replace(letters.world.ports(), log=letters.log)
    result = replay_dead_letters(ports, outside.ports, RUN, config_of(reading))
    assert (result.letters, result.still_rejected.total()) == (3, 0)
    assert cells(outside)["humidity"] == 50.0
    assert sum(result.new_cells_by_day.values()) == 2
    assert sum(result.new_rows_by_day.values()) == 1
    (*_, counts) = letters.world.ledger.replays[-1]
    assert counts.cells_by_day == result.new_cells_by_day
