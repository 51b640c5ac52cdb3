"""Who is told, and what they read."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from iot_pipeline.core.alerts.changes import Change, Turn
from iot_pipeline.core.alerts.channels import (
    messages_for,
    parse_channels,
    parse_quiet_hours,
    parse_routes,
)
from iot_pipeline.core.alerts.conditions import KINDS, Condition, Level, condition_of
from iot_pipeline.core.alerts.message import write_message
from iot_pipeline.core.checks.device_table import DeviceTable
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity, not_looked

RUNBOOK = Path(__file__).resolve().parents[3] / "docs" / "runbook.md"
NOON_MS = 1_767_268_800_000
SILENT = "devices_are_reporting"


def change(kind: str, level: Level, turn: Turn = Turn.RED, **more: object) -> Change:
    return Change(Condition(kind, level, f"About {kind}.", **more), turn, NOON_MS, level)  # type: ignore[arg-type]


def test_a_message_says_what_since_when_who_what_to_do_and_where() -> None:
    table = DeviceTable(("device", "for"), [("a`b", "3 min"), *([("c", "1 min")] * 9)])
    verdict = CheckVerdict(False, "Silent, 10 of 20.", worst=table, name=SILENT)
    condition = condition_of(verdict, path="/assets/iot/sensor_data?view=checks")
    assert condition is not None
    changes = [Change(condition, Turn.RED, NOON_MS, Level.WARN)]
    message = write_message("ops", changes, "iot", "http://ui:3000/", NOON_MS + 30_000)
    assert message.title == "iot: devices_are_reporting is red"
    assert message.body.splitlines() == [
        "WARN: devices_are_reporting, since 2026-01-01T12:00:00Z",
        "Silent, 10 of 20.",
        "device · for",
        "a`b · 3 min",
        *["c · 1 min"] * 4,
        "What to do: docs/runbook.md, devices_are_reporting",
        "http://ui:3000/assets/iot/sensor_data?view=checks",
        "",
        f"Pipeline iot, 2026-01-01T12:00:30Z, message {message.message_id}",
    ]


def test_a_message_of_many_changes_names_each_and_stays_short() -> None:
    red = [change(f"check_{n}", Level.ERROR) for n in range(30)]
    green = [change("server_is_away", Level.GREEN, Turn.GREEN, name="Kafka")]
    message = write_message("ops", [*red, *green], "north", "", NOON_MS)
    assert message.title == "north: 30 are red, check_0 first; 1 is green again"
    assert all(f"check_{n}" in message.body for n in range(30))
    assert "server_is_away/Kafka (green again)" in message.body
    assert len(message.body) < 4_000


def test_what_is_not_printed_is_not_sent() -> None:
    nasty = [change("a", Level.WARN, devices=("\u202edevice\x1b[2J\n",))]
    body = write_message("ops", nasty, "iot", "", NOON_MS).body
    assert "\x1b" not in body
    assert "\u202e" not in body


def test_a_check_that_had_no_time_or_no_server_says_nothing_and_one_that_may_not_is_red() -> None:
    assert condition_of(not_looked("There was no time.")) is None
    assert condition_of(not_looked("Could not look: no answer.", away="Kafka")) is None
    refused = condition_of(not_looked("Could not look: grant SELECT."))
    assert refused is not None
    assert refused.level is Level.WARN
    red = CheckVerdict(False, "gone", severity=Severity.ERROR, name="x")
    assert condition_of(red, table="t") == Condition("x", Level.ERROR, "gone", "t")


def test_every_kind_of_alert_has_its_heading_in_the_runbook() -> None:
    headings = [line for line in RUNBOOK.read_text().splitlines() if line.startswith("### ")]
    for kind in KINDS:
        assert any(line.startswith(f"### {kind}") for line in headings), kind


def test_channels_are_names_and_addresses() -> None:
    text = "# ours\nops=json://host/x?a=b mail=mailto://u:p@host\n\nteams=workflow://h/w/s\n"
    assert list(parse_channels(text)) == ["ops", "mail", "teams"]
    assert parse_channels(text)["ops"] == "json://host/x?a=b"
    assert parse_channels("") == {}


@pytest.mark.parametrize(
    "text", ["slack://secret", "Ops=json://secret", "ops=secret", "a=b://1 a=b://2"]
)
def test_a_wrong_channel_is_refused_without_its_address(text: str) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        parse_channels(text)
    assert "secret" not in str(refused.value)


def test_routes_say_who_is_told_what_and_who_has_none_is_told_all() -> None:
    routes = parse_routes(
        "night=error fleet=devices_are_reporting,run_failed", ["night", "fleet", "log"]
    )
    changes = [
        change(SILENT, Level.WARN),
        change("run_failed", Level.ERROR, name="audit"),
        change("topic_is_safe", Level.WARN),
    ]
    chosen = messages_for(changes, ["night", "fleet", "log"], routes)
    kinds = {name: [c.condition.kind for c in found] for name, found in chosen.items()}
    assert kinds == {
        "night": ["run_failed"],
        "fleet": [SILENT, "run_failed"],
        "log": [SILENT, "run_failed", "topic_is_safe"],
    }
    assert "night" not in messages_for(changes[:1], ["night"], routes)


@pytest.mark.parametrize("text", ["night", "day=error", "night=", "night=Error", "night=no_check"])
def test_a_wrong_route_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|no channel"):
        parse_routes(text, ["night"], [SILENT])


def test_quiet_hours_go_over_midnight_in_their_zone() -> None:
    hours = parse_quiet_hours("22:00-07:00 Europe/Berlin")
    assert hours is not None
    found = {h: hours.covers(datetime(2026, 1, 10, h, 30, tzinfo=UTC)) for h in (5, 6, 12, 20, 21)}
    assert found == {5: True, 6: False, 12: False, 20: False, 21: True}
    assert parse_quiet_hours(" ") is None
    day = parse_quiet_hours("09:00-17:00")
    assert day is not None
    assert day.covers(datetime(2026, 1, 10, 9, 0, tzinfo=UTC))
    for wrong in ("22-7", "25:00-07:00", "22:00-07:00 Mars/Olympus"):
        with pytest.raises(ValueError, match="such as 22:00-07:00"):
            parse_quiet_hours(wrong)
