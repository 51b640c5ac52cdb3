"""Messages that are not as declared are told of: the field, the share, the first offset, a line."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from iot_pipeline.core.checks.verdicts import CheckVerdict
from iot_pipeline.core.reading.declaration_file import parse_declaration
from iot_pipeline.settings import Settings
from iot_pipeline.stages.checks.fields_are_as_declared import look
from iot_pipeline.stages.checks.machinery.facts import Facts, RunFacts
from iot_pipeline.stages.ingest.progress import DrainProgress
from iot_pipeline_tests.stages.fakes import FakeLog
from iot_pipeline_tests.stages.world import T0, World

DEVICES = 10
PASSING = parse_declaration(
    """
    version: 1
    device: key
    time: {path: ts, as: milliseconds}
    quantities: {temperature: {path: t, unit: "°C"}}
    """,
    "test",
)
IGNORING = parse_declaration(
    """
    version: 1
    device: key
    time: {path: ts, as: milliseconds}
    quantities: {temperature: {path: t, unit: "°C"}}
    ignore:
    - {path: kind, equals: heartbeat}
    """,
    "test",
)


class Topic:
    """A world whose messages may be anything; a second passes between two of a device."""

    def __init__(self, partitions: int = 1, declaration: Any = None) -> None:
        self.world = World(partitions)
        self.settings = Settings()
        if declaration is not None:
            self.settings = type("Declared", (Settings,), {"_declared": declaration})()
        self.log: FakeLog = self.world.log
        self.log.poll_records = 500

    def send(self, count: int, partition: int = 0, **told: Any) -> None:
        for number in range(count):
            device = f"device_{number % DEVICES}"
            if number % DEVICES == 0:
                self.log.tick(1000)
            ms = self.log.now_ms
            whole = {"device_id": device, "timestamp": T0, "temperature": 20.0, "humidity": 50.0}
            if self.settings.declaration.device.is_key:
                whole = {"ts": ms, "t": 20.0}
            value = {key: one(number) if callable(one) else one for key, one in told.items()}
            message = {k: v for k, v in (whole | value).items() if v is not ...}
            self.log.append(partition, json.dumps(message).encode(), device.encode())

    def look(self, **options: Any) -> CheckVerdict:
        verdict = self.look_if_time(**options)
        assert verdict is not None
        return verdict

    def look_if_time(self, **options: Any) -> CheckVerdict | None:
        ports: Any = SimpleNamespace(
            settings=self.settings, log=self.log, audit_ports=self.world.proof()
        )
        now = datetime.fromtimestamp(self.log.now_ms / 1000, UTC)
        return look(Facts(ports, now, **options))


def test_messages_as_declared_are_green_and_say_what_was_looked_at():
    topic = Topic(partitions=2)
    assert topic.look().sentence == "No message to look at: the topic has none."
    topic.send(600)
    topic.send(30, partition=1)
    verdict = topic.look()
    assert verdict.passed
    assert "The newest 530 messages have the fields and types declared." in verdict.sentence
    assert "device by device" in verdict.sentence
    assert verdict.numbers == {
        "messages": 530,
        "unknown_fields": 0,
        "other_types": 0,
        "other_units": 0,
    }


def test_an_undeclared_field_is_named_with_its_share_its_first_offset_and_its_line():
    topic = Topic()
    topic.send(3_217)
    topic.send(1_000, battery={"volt": 3.1}, signal_dbm=-70)
    topic.send(250)
    verdict = topic.look()
    assert not verdict.passed
    assert "the field signal_dbm is not declared, in 250 of 500 messages (50.0%)" in (
        verdict.sentence
    )
    # Long before those that are shown, and exactly the first.
    assert "first found at 0:3217, " in verdict.sentence
    assert '`signal_dbm: {path: signal_dbm, unit: "?", optional: true}` takes it in' in (
        verdict.sentence
    )
    assert verdict.numbers["unknown_fields"] == 2
    rows = {row[0]: row for row in verdict.worst.rows}
    assert rows["battery"][4] == "", "an object is no quantity"
    line = rows["signal_dbm"][4].strip("`")
    text = f"version: 1\ndevice: key\ntime: kafka\nquantities:\n  {line}\n"
    assert parse_declaration(text, "test").quantities[0].optional


def test_the_devices_that_send_what_is_not_declared_are_named():
    def of(*numbers: int, value: Any) -> Any:
        return lambda number: value if number % DEVICES in numbers else ...

    topic = Topic()
    topic.send(500, padding=of(3, value="x"), battery=of(1, 2, 5, 7, value=3.1))
    verdict = topic.look()
    assert "in 50 of 500 messages (10.0%) from device_3, first found at" in verdict.sentence
    assert "(40.0%) from device_1, device_2, device_5 and 1 more, first found" in verdict.sentence
    assert [row[5] for row in verdict.worst.rows][-1] == "device_3"
    topic.send(500, humidity=lambda number: "wet" if number % DEVICES in (4, 6) else 50.0)
    (row,) = topic.look().worst.rows
    assert row[5] == "device_4, device_6"


def test_names_are_chosen_by_devices_and_stay_names():
    topic = Topic()
    topic.send(20, **{"<b>[x](http://e)\u202e|": 1, "y" * 3_000: 2, "`*a*`": 3})
    verdict = topic.look()
    assert "\u202e" not in verdict.sentence
    assert [row[4] for row in verdict.worst.rows] == ["", "", ""]
    assert len(verdict.sentence) < 1_500
    assert len(verdict.worst.markdown()) < 2_000


def test_messages_that_are_all_ignored_are_not_called_none():
    topic = Topic(declaration=IGNORING)
    topic.send(20, kind="heartbeat")
    verdict = topic.look()
    assert verdict.passed
    assert verdict.sentence == "The newest 20 messages are all ignored, as declared."


def test_of_few_messages_no_field_is_called_old():
    topic = Topic(declaration=PASSING)
    topic.send(50, firmware="1.2")
    verdict = topic.look()
    assert verdict.passed
    assert "1 other field. Whether one is new was not compared" in verdict.sentence


def test_where_other_fields_are_passed_over_only_a_new_one_of_many_messages_is_told_of():
    topic = Topic(declaration=PASSING)
    topic.send(600, firmware="1.2")
    topic.send(600, firmware="1.2", rare=lambda number: ... if number % 50 else 1)
    verdict = topic.look()
    assert verdict.passed
    assert "Passed over (`unknown_fields: pass`): 2 other fields. None appeared" in verdict.sentence
    topic.send(100, firmware="1.2", co2=400)
    verdict = topic.look()
    assert [row[0] for row in verdict.worst.rows] == ["co2"]
    assert "first found at 0:1200, " in verdict.sentence


def test_a_type_that_changed_is_told_of_and_one_broken_device_is_not():
    topic = Topic()
    topic.send(700)
    topic.send(300, temperature=lambda number: "x" if number % 20 == 0 else 20.0)
    assert topic.look().passed
    topic.send(300, temperature="20.0")
    verdict = topic.look()
    assert not verdict.passed
    assert "Expected `float`, got `str`" in verdict.worst.rows[0][0]
    assert verdict.numbers["other_types"] == 1


def test_times_in_another_unit_say_the_line_that_takes_them_in():
    topic = Topic()
    topic.send(400)
    topic.send(200, timestamp=T0 * 1000)
    (row,) = topic.look().worst.rows
    assert row[0] == "timestamp is not in seconds"
    assert row[3].startswith("0:400, ")
    assert row[4] == "`time: {path: timestamp, as: milliseconds}`"


def test_a_fleet_that_sends_fahrenheit_is_told_of_with_the_first_offset_and_the_way_back():
    topic = Topic()
    topic.send(2_000, temperature=lambda number: 15.0 + number % DEVICES)
    topic.send(1_500, temperature=lambda number: (15.0 + number % DEVICES) * 1.8 + 32)
    verdict = topic.look()
    assert not verdict.passed
    (row,) = verdict.worst.rows
    assert row[0] == "temperature: °F in the place of °C"
    assert row[2] == "10 of 10 devices, 19.5 °C before, 67.1 since"
    # To within the messages that halves look at.
    assert abs(int(row[3].partition(",")[0].removeprefix("about 0:")) - 2_000) <= 200
    line = row[4].strip("`").removeprefix("temperature: ")
    assert line == "{scale: 0.5555555555555556, shift: -17.77777777777778}"


def test_a_value_beyond_its_limits_tells_its_unit_as_well():
    topic = Topic()
    topic.send(1_000, humidity=lambda number: 40.0 + number % DEVICES)
    topic.send(1_000, humidity=lambda number: (40.0 + number % DEVICES) * 10)
    (row,) = topic.look().worst.rows
    assert row[0] == "humidity: 10 times as much"
    assert row[4] == "`humidity: {scale: 0.1}`"


def test_a_value_that_grows_tenfold_by_and_by_is_no_other_unit():
    topic = Topic()
    topic.send(
        4_000, humidity=lambda number: (5.0 + number % DEVICES) * 10 ** (1.1 * number / 4_000)
    )
    assert topic.look().passed


def run_of(seconds: float) -> RunFacts:
    topic = Topic().log.describe("iot_data")
    progress = DrainProgress(seconds=seconds)
    return RunFacts("r", progress, (), (), (), datetime.now(UTC), topic)


def test_a_run_without_the_time_leaves_it_to_the_schedule():
    topic = Topic()
    topic.send(100, battery=1)
    assert topic.look_if_time(run=run_of(0.5)) is None
    assert topic.log.opened == 0
    verdict = topic.look_if_time(run=run_of(60))
    assert verdict is not None
    assert not verdict.passed
