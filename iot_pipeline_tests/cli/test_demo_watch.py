"""What the demo reads out of Dagster's answers, and how it judges them."""

import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from iot_pipeline.cli.demo_news import Look
from iot_pipeline.cli.demo_watch import Watch, iot_command, worst_device
from iot_pipeline.core.checks.device_table import DeviceTable
from iot_pipeline.errors import ServiceError
from iot_pipeline.settings import Settings

TABLE = DeviceTable(("device", "problem"), [("hall 1", "silent"), ("hall 2", "late")]).markdown()


@pytest.mark.parametrize(
    ("entries", "device_id"),
    [
        ([], ""),
        ([{"label": "worst_devices", "mdStr": TABLE}], "hall 1"),
        ([{"label": "suspects", "jsonString": '["a", "b"]'}], "a"),
        ([{"label": "suspects", "jsonString": "[]"}, {"label": "devices"}], ""),
        (
            [
                {"label": "suspects", "jsonString": '["a"]'},
                {"label": "worst_devices", "mdStr": TABLE},
            ],
            "hall 1",
        ),
    ],
)
def test_the_worst_device_is_the_first_of_the_table(
    entries: list[dict[str, Any]], device_id: str
) -> None:
    assert worst_device(entries) == device_id


def test_the_command_is_one_that_this_folder_has() -> None:
    assert iot_command().endswith("iot")


UiLook = tuple[list[dict[str, Any]], dict[str, Any]]


def seen(status: str, verdicts: Mapping[str, bool], stored: int = 5) -> UiLook:
    """What the UI shows of a run and of the checks a and b, of which these have a verdict."""
    found = {
        name: {"success": passed, "description": f"{name} said so", "metadataEntries": []}
        for name, passed in verdicts.items()
    }
    checks = [
        {"name": name, "executionForLatestMaterialization": {"evaluation": found.get(name)}}
        for name in "ab"
    ]
    entries = [{"label": "stored", "intValue": stored}]
    report = {"timestamp": str((time.time() + 86_400) * 1000), "metadataEntries": entries}
    asset = {"assetMaterializations": [report], "assetChecksOrError": {"checks": checks}}
    return [{"runId": "0123456789", "status": status, "tags": []}], asset


def judging(monkeypatch: pytest.MonkeyPatch, *looks: UiLook, fleet_is_alive: bool = True) -> Watch:
    """A demo whose UI shows these, one after the other; the last one stays."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    script = list(looks)

    def look(*_: object) -> UiLook:
        return script.pop(0) if len(script) > 1 else script[0]

    fleet = SimpleNamespace(is_alive=fleet_is_alive, last_lines=lambda _: "its last words")
    ui, services = SimpleNamespace(look=look, address="x"), SimpleNamespace(status=list)
    parts: dict[str, Any] = {"sensor": "s", "earlier": (), "start_fleet": lambda: fleet}
    given: Any = (ui, None, fleet, services)
    return Watch(Settings(), *given, **parts)


def test_a_demo_that_is_judged_waits_for_a_run_with_readings_and_every_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = {"a": True, "b": True}
    watch = judging(
        monkeypatch,
        seen("STARTED", both),
        seen("SUCCESS", both, stored=0),
        seen("SUCCESS", {"a": True}),
        seen("SUCCESS", both, stored=7),
    )
    said = watch.until_judged(60)
    assert said == "run 01234567 stored 7 readings, all 2 checks passed: a, b"


@pytest.mark.parametrize(
    ("look", "fleet_is_alive", "why"),
    [
        (seen("SUCCESS", {"a": True, "b": False}), True, "run 0123456789: b: b said so"),
        (seen("FAILURE", {}), True, "run 0123456789 ended as FAILURE"),
        (seen("STARTED", {}), False, "the fleet ended too soon:\nits last words"),
        (seen("STARTED", {}), True, "no run of s stored readings"),
    ],
)
def test_a_demo_that_is_not_well_says_why(
    monkeypatch: pytest.MonkeyPatch, look: UiLook, fleet_is_alive: bool, why: str
) -> None:
    # Only what never comes is waited for until the time is over.
    seconds = 0.2 if why.startswith("no run") else 60
    with pytest.raises(ServiceError) as caught:
        judging(monkeypatch, look, fleet_is_alive=fleet_is_alive).until_judged(seconds)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("code", "answers", "starts"),
    [(75, True, 1), (75, False, 0), (1, True, 0), (0, True, 0), (None, True, 0)],
)
def test_a_fleet_that_gave_up_while_a_server_was_away_sends_again_when_all_answer(
    monkeypatch: pytest.MonkeyPatch, code: int | None, answers: bool, starts: int
) -> None:
    watch = judging(monkeypatch, seen("STARTED", {}), fleet_is_alive=code is None)
    ended: Any = watch.fleet
    ended.process = SimpleNamespace(poll=lambda: code)
    begun: list[Any] = []

    def start() -> Any:
        begun.append(SimpleNamespace(is_alive=True))
        return begun[-1]

    watch.start_fleet = start
    for _ in range(2):
        watch.send_again(Look(servers={"kafka": answers, "cassandra": True}))
    assert len(begun) == starts
    assert watch.fleet is (begun[0] if starts else ended)


def test_a_fleet_that_ends_again_and_again_is_started_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = judging(monkeypatch, seen("STARTED", {}), fleet_is_alive=False)
    begun_at: list[float] = []
    clock = SimpleNamespace(now=0.0)

    def start() -> Any:
        begun_at.append(clock.now)
        return SimpleNamespace(is_alive=False, process=SimpleNamespace(poll=lambda: 75))

    def look(at: float, *, answers: bool = True) -> None:
        clock.now = at
        watch.send_again(Look(servers={"kafka": answers, "cassandra": True}))

    watch.fleet, watch.start_fleet, watch.clock = start(), start, lambda: clock.now
    begun_at.clear()
    watch.seen = Look(fleet_end="the schema registry does not answer")
    for second in range(1, 200):
        look(second)
    assert begun_at == [1, 6, 16, 36, 76, 136, 196]
    assert not watch.seen.fleet_end, "its next end is news"
    look(255, answers=False)
    look(260)
    look(265)
    assert begun_at[-2:] == [260, 265]
