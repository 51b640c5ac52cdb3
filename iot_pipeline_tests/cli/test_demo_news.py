"""What a demo says: one line per change, nothing when nothing changed."""

import pytest

from iot_pipeline.cli.demo_news import CheckSeen, Look, RunSeen, in_words, tell_changes

IOT = ".venv/bin/iot"
GREEN = CheckSeen(True, "Fine.")
RUN = "c9087603-0000-0000-0000-000000000000"


def run(status: str, stays: bool = True) -> dict[str, RunSeen]:
    return {RUN: RunSeen(RUN, status, stays)}


def told(before: Look, now: Look) -> list[str]:
    return tell_changes(before, now.after(before), IOT)


def test_nothing_changed_is_nothing_said() -> None:
    look = Look(
        run("STARTED"), {"a": CheckSeen(False, "Red.")}, 1, {}, {"kafka": True}, 5, 67.0, "ended"
    )
    assert told(look, look) == []
    later = Look(
        look.runs,
        {"a": CheckSeen(False, "Red, 7 now.")},
        1,
        {},
        {"kafka": True},
        9,
        80.0,
        "ended",
    )
    assert told(look, later) == [], "a number that moves is no news"


def test_the_first_readings_are_told_once_and_with_their_latency() -> None:
    first = Look(stored=474, latency_ms=67.2)
    assert told(Look(), first) == [
        "first readings: 474 rows stored, each 67 ms after it arrived in Kafka (p50)"
    ]
    assert told(first, Look(stored=480, latency_ms=60.0)) == []
    assert told(first, Look(stored=0).after(first)) == [], "an empty report is not a new start"


def test_a_run_that_stays_is_told_when_it_starts_and_when_it_ends() -> None:
    started, over = Look(run("STARTED")), Look(run("SUCCESS"))
    assert told(Look(), Look(run("QUEUED"))) == []
    assert told(Look(run("QUEUED")), started) == [
        "run c9087603 started: it follows the topic until the next one takes over"
    ]
    assert told(started, over) == ["run c9087603 ended as planned"]
    assert told(started, Look()) == [], "a run that left the list is forgotten by nobody"


@pytest.mark.parametrize("stays", [True, False])
def test_a_run_that_fails_or_is_terminated_is_told_whatever_it_was(stays: bool) -> None:
    started = Look(run("STARTED", stays))
    (failed,) = told(started, Look(run("FAILURE", stays)))
    assert failed == "run c9087603 failed; its page says why: Runs > c9087603"
    (ended,) = told(started, Look(run("CANCELED", stays)))
    assert ended == "run c9087603 was terminated; what it wrote is in the ledger"


def test_runs_that_drain_come_and_go_without_a_word() -> None:
    assert told(Look(), Look(run("STARTED", stays=False))) == []
    assert told(Look(run("STARTED", stays=False)), Look(run("SUCCESS", stays=False))) == []


def test_a_check_is_told_when_it_turns() -> None:
    red = Look(checks={"a": CheckSeen(False, "Too much."), "b": GREEN}, check_count=2)
    green = Look(checks={"a": GREEN, "b": GREEN}, check_count=2)
    assert told(Look(), red) == ["RED   a: Too much."]
    assert told(red, green) == ["green a again", "all 2 checks green"]
    assert told(green, red) == ["RED   a: Too much."]
    assert told(Look(), green) == ["all 2 checks green"]


def test_checks_without_a_verdict_are_neither_green_nor_turned() -> None:
    some = Look(checks={"a": GREEN}, check_count=2)
    assert told(Look(), some) == []
    red = Look(checks={"a": CheckSeen(False, "Too much.")}, check_count=1)
    assert told(red, Look(check_count=1)) == [], "not evaluated just now: still red"
    assert told(Look(check_count=1).after(red), red) == []


def test_checks_that_could_not_look_are_one_line_and_keep_their_verdicts() -> None:
    red = CheckSeen(False, "Too much.")
    before = Look(checks={"a": red, "b": GREEN}, check_count=2)
    away = Look(check_count=2, unlooked={"a": "It is\naway.", "b": "It is away."})
    assert told(before, away) == ["2 checks could not look, a for one: It is away."]
    unknown = Look(unlooked={"a": "Not known;\n`iot status` says why."}, check_count=2)
    assert told(Look(), unknown) == [
        "1 check could not look, a for one: Not known; `.venv/bin/iot status` says why."
    ]
    gone = away.after(before)
    assert told(gone, away) == []
    assert told(gone, before) == ["all checks look again"], "red as before, green as before"
    turned = Look(checks={"a": red, "b": red}, check_count=2)
    assert told(gone, turned) == ["RED   b: Too much.", "all checks look again"]
    green = Look(checks={"a": GREEN, "b": GREEN}, check_count=2)
    assert told(green, away) == ["2 checks could not look, a for one: It is away."]
    assert told(away.after(green), green) == ["all checks look again", "all 2 checks green"]


def test_a_server_away_and_back() -> None:
    up, away = Look(servers={"kafka": True}), Look(servers={"kafka": False})
    assert told(Look(), up) == []
    assert told(up, away) == ["kafka does not answer; `.venv/bin/iot up` starts it again"]
    assert told(away, up) == ["kafka answers again; ingestion goes on where it was"]
    both = Look(servers={"kafka": False, "cassandra": False})
    one = Look(servers={"kafka": True, "cassandra": False})
    assert told(both, one) == ["kafka answers again"], "nothing goes on without the other one"


def test_a_fleet_that_ends_is_told_on_one_line() -> None:
    assert told(Look(), Look(fleet_end="error: x\n  y")) == ["the fleet ended: error: x y"]
    last_words = "malformed  597  1  597\nmanifest: data/x.json\niot: producing: Kafka is away"
    assert told(Look(), Look(fleet_end=last_words)) == ["the fleet ended: producing: Kafka is away"]


def test_suggested_commands_can_be_pasted() -> None:
    check = CheckSeen(False, "Jumps. Look at `iot readings DEVICE --last 1h`", "hall $1")
    assert in_words(check, IOT) == "Jumps. Look at `.venv/bin/iot readings 'hall $1' --last 1h`"
    named = CheckSeen(False, "Wrong values from kitchen_1, kitchen_2: `iot readings DEVICE`")
    assert in_words(named, IOT).endswith("`.venv/bin/iot readings kitchen_1`")
    unnamed = CheckSeen(False, "Look at `iot readings DEVICE`")
    assert in_words(unnamed, IOT) == "Look at `.venv/bin/iot readings DEVICE`"


def test_every_line_is_one_line() -> None:
    check = CheckSeen(False, "First.\n\nSecond.")
    assert told(Look(), Look(checks={"a": check}, check_count=1)) == ["RED   a: First. Second."]
