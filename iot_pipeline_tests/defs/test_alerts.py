"""The sensor `iot_alerts`: what Dagster knows becomes messages, once each; no server is needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from iot_pipeline.core.checks.device_table import DeviceTable
from iot_pipeline.core.checks.verdicts import CheckVerdict, Severity, not_looked
from iot_pipeline.definitions import build_definitions
from iot_pipeline.defs import alerts
from iot_pipeline.defs.verdicts import Verdicts, choose_shown
from iot_pipeline.stages.alerts.looking import Looked
from iot_pipeline.stages.checks.machinery.registry import checks_of
from iot_pipeline_tests.defs.keys import SENSOR_DATA
from iot_pipeline_tests.receivers import Webhook, webhook

SILENT, GAP, LAG = "devices_are_reporting", "ledger_has_no_gap", "lag_is_within_limit"


@dataclass(slots=True)
class Ticking:
    """The sensor, tick after tick, with the cursor that the daemon would keep."""

    instance: dg.DagsterInstance
    definitions: dg.Definitions
    hook: Webhook
    cursor: str | None = None

    def tick(self) -> str:
        with dg.build_sensor_context(
            instance=self.instance, definitions=self.definitions, cursor=self.cursor
        ) as context:
            answer = self.definitions.resolve_sensor_def("iot_alerts")(context)
            self.cursor = context.cursor
        assert isinstance(answer, dg.SkipReason)
        return answer.skip_message or ""

    def show(self, *verdicts: CheckVerdict) -> None:
        """As a run or a look does."""
        named = [check for check in checks_of() if check.name in {v.name for v in verdicts}]
        rows = Verdicts(self.instance, SENSOR_DATA)
        rows.show_now(
            choose_shown(verdicts, rows.read(), datetime.now(UTC), is_whole=True, checks=named)
        )


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ticking]:
    # What the tick asks Kafka and Cassandra has tests of its own.
    monkeypatch.setattr(alerts, "look_at_ingestion", lambda *_: Looked([]))
    monkeypatch.setenv("IOT_ALERT_SETTLE_SECONDS", "0")
    monkeypatch.setenv("IOT_UI_URL", "http://ui.example.org")
    with webhook() as hook, dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        monkeypatch.setenv("IOT_ALERT_CHANNELS", f"ops=json://{hook.address}/x")
        yield Ticking(instance, build_definitions(), hook)


def verdict(name: str, passed: bool, **more: object) -> CheckVerdict:
    return CheckVerdict(passed, f"About *{name}*.", name=name, **more)  # type: ignore[arg-type]


def test_a_check_is_told_when_it_turns_red_and_green_with_its_worst_devices(
    ticking: Ticking,
) -> None:
    table = DeviceTable(("device", "for"), [("pump_7", "3 min")])
    ticking.show(verdict(SILENT, False, worst=table), verdict(GAP, True))
    assert ticking.tick() == "1 sent"
    for _ in range(3):
        ticking.show(verdict(SILENT, False, worst=table))
        assert ticking.tick() == "nothing to tell"
    (_, posted), *_ = ticking.hook.posted
    assert posted["title"] == "iot: devices_are_reporting is red"
    assert "About *devices_are_reporting*." in posted["message"]
    assert "pump_7 · 3 min" in posted["message"]
    assert "http://ui.example.org/assets/iot/sensor_data?view=checks" in posted["message"]
    ticking.show(verdict(GAP, False, severity=Severity.ERROR), verdict(SILENT, True))
    ticking.tick()
    assert ticking.hook.titles[1:] == ["iot: ledger_has_no_gap is red; 1 is green again"]


def test_ten_checks_that_could_not_look_are_no_message_and_one_without_a_right_is(
    ticking: Ticking,
) -> None:
    names = [check.name for check in checks_of()][:10]
    ticking.show(*(verdict(name, True) for name in names))
    ticking.tick()
    gone = not_looked("Could not look: Cassandra did not answer.", away="Cassandra")
    ticking.show(*(check.named(gone) for check in checks_of() if check.name in names))
    assert ticking.tick() == "nothing to tell"
    refused = not_looked("Could not look: grant SELECT.")
    ticking.show(*(check.named(refused) for check in checks_of() if check.name == names[0]))
    ticking.tick()
    assert ticking.hook.titles == [f"iot: {names[0]} is red"]


def test_a_failed_job_is_told_once_with_its_error_until_it_succeeds(
    ticking: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Kafka is away, and the run was a person's: nothing repeats it, so it is told.
    monkeypatch.setenv("IOT_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    monkeypatch.setenv("IOT_RETRY_SECONDS", "0")
    # That of ingest is asked for again by itself, once the server is back.
    for name, config in (("simulate", {"messages": 1}), ("ingest", {})):
        ticking.definitions.resolve_job_def(name).execute_in_process(
            instance=ticking.instance, run_config=config, raise_on_error=False
        )
    ticking.tick()
    assert ticking.tick() == "nothing to tell"
    assert ticking.hook.titles == ["iot: run_failed/simulate is red"]
    said = ticking.hook.posted[0][1]["message"]
    assert "127.0.0.1:9" in said
    assert "http://ui.example.org/runs/" in said


def test_a_channel_that_is_down_is_tried_again_and_the_tick_says_so(
    ticking: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking.hook.status = 500
    ticking.show(verdict(LAG, False))
    said = ticking.tick()
    assert said == "ops did not take a message: it answered 500; 1 wait for their channel"
    ticking.hook.status = 200
    later = datetime.fromtimestamp(datetime.now(UTC).timestamp() + 60, UTC)

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return later

    monkeypatch.setattr(alerts, "datetime", Later)
    assert ticking.tick() == "1 sent"
    assert ticking.hook.titles == ["iot: lag_is_within_limit is red"]


def test_without_a_channel_it_says_so_and_asks_nothing(
    ticking: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IOT_ALERT_CHANNELS")
    assert "IOT_ALERT_CHANNELS is not set" in ticking.tick()
