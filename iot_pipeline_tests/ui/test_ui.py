"""What a person clicks in the UI of a running demo, and what they see then.

Needs Chromium; says how to get it where there is none.
"""

import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from iot_pipeline_tests.defs.keys import CHECK_KEYS
from iot_pipeline_tests.patience import until
from iot_pipeline_tests.ui.browser import LOCATION, Ui
from iot_pipeline_tests.ui.polling import NOT_EVALUATED, poll, wait_for_first_verdicts
from iot_pipeline_tests.ui.running_demo import REPOSITORY, RunningDemo

pytestmark = pytest.mark.ui

_SENSOR = f"/locations/{LOCATION}/sensors/iot_data_lag"
_SCHEDULE = f"/locations/{LOCATION}/schedules/checks_every_5_minutes"
_SENSOR_STATE = """query($s: SensorSelector!) { sensorOrError(sensorSelector: $s) {
  ... on Sensor { sensorState { status } } } }"""
_SCHEDULE_STATE = """query($s: ScheduleSelector!) { scheduleOrError(scheduleSelector: $s) {
  ... on Schedule { scheduleState { status } } } }"""
_RUNS = """query($f: RunsFilter) { runsOrError(filter: $f, limit: 20) { ... on Runs { results {
  runId status tags { key value } } } } }"""


def _ingest_runs(demo: RunningDemo, status: str) -> list[dict[str, object]]:
    chosen = {"pipelineName": "ingest", "statuses": [status]}
    return list(demo.ask(_RUNS, f=chosen)["runsOrError"]["results"])


def _wait_for_ingest(demo: RunningDemo, seconds: float = 90) -> str:
    """The id of the newest ingest run that succeeded."""
    deadline = until(seconds)
    while time.monotonic() < deadline:
        runs = _ingest_runs(demo, "SUCCESS")
        if runs:
            return str(runs[0]["runId"])
        time.sleep(0.5)
    raise AssertionError(f"no ingest run within {seconds:g} s: {demo.log_path.read_text()[-2000:]}")


def _wait_until(question: object, seconds: float = 30) -> None:
    assert callable(question)
    deadline = until(seconds)
    while not question():
        assert time.monotonic() < deadline, question
        time.sleep(0.3)


def test_the_graph_shows_the_path_of_the_data(ui: Ui, demo: RunningDemo) -> None:
    _wait_for_ingest(demo)
    with demo.standing_still():
        ui.open("/asset-groups")
        for name in ("iot_data", "sensor_data", "dead_letters"):
            expect(ui.page.get_by_role("button", name=re.compile(name)).first).to_be_visible()
        expect(ui.page.get_by_text("Materialized").first).to_be_visible()
        ui.picture("asset-graph")


def test_every_check_is_green_and_its_numbers_plot(ui: Ui, demo: RunningDemo) -> None:
    _wait_for_ingest(demo)
    with demo.standing_still():
        for key in CHECK_KEYS:
            ui.open(f"/assets/iot/sensor_data?view=checks&checkDetail={key.name}")
            expect(ui.page.get_by_text("Latest execution")).to_be_visible()
            expect(ui.page.locator("canvas").first).to_be_visible()
            expect(ui.page.get_by_text("Running", exact=True)).to_have_count(0)
            assert "Failed" not in ui.text(), ui.text()
        ui.open("/assets/iot/sensor_data?view=checks&checkDetail=lag_is_within_limit")
        expect(ui.page.locator("canvas").first).to_be_visible()
        ui.picture("checks")


def test_no_check_is_ever_out_of_sight_while_runs_come_and_go(ui: Ui, demo: RunningDemo) -> None:
    wait_for_first_verdicts(demo)
    polled = poll(ui, demo, runs=4)
    assert polled.statuses[NOT_EVALUATED] == polled.statuses["IN_PROGRESS"] == 0
    assert polled.hiding_pages == []


def test_a_run_says_in_words_what_it_drained(ui: Ui, demo: RunningDemo) -> None:
    run_id = _wait_for_ingest(demo)
    ui.open(f"/runs/{run_id}")
    ui.wait_for_status("Success")
    with demo.standing_still():
        ui.open_asset("sensor_data", "events")
        expect(ui.page.get_by_text("rows_per_second").first).to_be_visible()
        ui.picture("run-history")


def test_a_simulation_is_launched_with_edited_config_and_terminated(
    ui: Ui, demo: RunningDemo
) -> None:
    config = "scenario: rough_day\nspeed: 1\nseconds: 600\n"
    ui.fill_launchpad("simulate", config)
    run_id = ui.launch("simulate", config)
    expect(ui.page.get_by_text(re.compile("messages acknowledged")).first).to_be_visible()
    ui.terminate()
    ui.wait_for_status("Canceled")
    said = ui.page.get_by_text(re.compile(r"ended before its time: [\d,]+ messages acknowledged"))
    expect(said.first).to_be_visible()
    assert demo.ask(_RUNS, f={"runIds": [run_id]})["runsOrError"]["results"][0]["status"] == (
        "CANCELED"
    )


@pytest.mark.parametrize(
    ("path", "query", "answer", "state", "name"),
    [
        (_SENSOR, _SENSOR_STATE, "sensorOrError", "sensorState", ("sensorName", "iot_data_lag")),
        (
            _SCHEDULE,
            _SCHEDULE_STATE,
            "scheduleOrError",
            "scheduleState",
            ("scheduleName", "checks_every_5_minutes"),
        ),
    ],
    ids=["sensor", "schedule"],
)
def test_a_switch_turns_automation_off_and_on(
    ui: Ui,
    demo: RunningDemo,
    path: str,
    query: str,
    answer: str,
    state: str,
    name: tuple[str, str],
) -> None:
    def status() -> str:
        found = demo.ask(query, s={**REPOSITORY, name[0]: name[1]})
        return str(found[answer][state]["status"])

    assert status() == "RUNNING"
    ui.switch(path)
    _wait_until(lambda: status() == "STOPPED")
    ui.switch(path)
    _wait_until(lambda: status() == "RUNNING")


def test_a_reexecution_drains_the_same_offsets(ui: Ui, demo: RunningDemo) -> None:
    run_id = _wait_for_ingest(demo)
    ui.open(f"/runs/{run_id}")
    ui.page.get_by_role("button", name=re.compile("Re-execute all")).click()
    ui.page.wait_for_url(lambda url: "/runs/" in url and run_id not in url)
    again = ui.page.url.rsplit("/", 1)[1]
    ui.wait_for_status("Success", 120)

    def achieved(of: str) -> str:
        runs = demo.ask(_RUNS, f={"runIds": [of]})["runsOrError"]["results"]
        tags = {tag["key"]: tag["value"] for tag in runs[0]["tags"]}
        return str(tags["dagster/iot_achieved"])

    assert achieved(again) == achieved(run_id)
    ui.page.get_by_placeholder("Filter…").fill("replay")
    said = ui.page.get_by_text(re.compile("this is a replay; no checkpoint moves"))
    expect(said.first).to_be_visible()


_BACKFILL = """query { partitionBackfillsOrError(limit: 1) { ... on PartitionBackfills { results {
  id status numPartitions } } } }"""
_OF_BACKFILL = """query($f: RunsFilter) { runsOrError(filter: $f) { ... on Runs { results {
  status } } } }"""


def test_a_backfill_of_three_days_is_one_run(ui: Ui, demo: RunningDemo) -> None:
    _wait_for_ingest(demo)
    today = datetime.now(UTC).date()
    days = f"[{today - timedelta(days=2)}...{today}]"
    ui.open_asset("daily_readings", "partitions")
    ui.page.get_by_role("button", name="Materialize").first.click()
    dialog = ui.page.get_by_role("dialog")
    chosen = dialog.locator("input[type=text]").first
    chosen.fill(days)
    chosen.press("Enter")
    expect(dialog.get_by_text("3 partitions", exact=True)).to_be_visible()
    expect(dialog.get_by_text("Backfills all partitions in a single run")).to_be_visible()
    dialog.get_by_role("button", name="Launch backfill").click()
    expect(dialog).to_have_count(0)

    def backfill() -> dict[str, object]:
        found = demo.ask(_BACKFILL)["partitionBackfillsOrError"]["results"]
        return dict(found[0]) if found else {}

    _wait_until(lambda: str(backfill().get("status", "")).startswith("COMPLETED"), 120)
    done = backfill()
    assert (done["status"], done["numPartitions"]) == ("COMPLETED_SUCCESS", 3)
    tags = [{"key": "dagster/backfill", "value": done["id"]}]
    runs = demo.ask(_OF_BACKFILL, f={"tags": tags})["runsOrError"]["results"]
    assert [run["status"] for run in runs] == ["SUCCESS"]
    ui.open_asset("daily_readings", "partitions")
    expect(ui.page.get_by_text("Materialized (3)")).to_be_visible()


def test_the_health_report_is_a_page_to_read(ui: Ui, demo: RunningDemo) -> None:
    _wait_for_ingest(demo)
    ui.launch("health_report", "")
    ui.wait_for_status("Success", 120)
    report = demo.data_dir / "reports" / "latest.html"
    ui.page.set_viewport_size({"width": 1200, "height": 1500})
    ui.page.goto(report.as_uri())
    expect(ui.page.get_by_role("heading").first).to_be_visible()
    text = ui.text()
    assert "undefined" not in text
    assert "None" not in text
    assert ui.page.locator("img, svg").count() > 0
    # Nothing is cut off at the side, here and on a phone.
    for width in (1200, 390):
        ui.page.set_viewport_size({"width": width, "height": 1500})
        assert ui.page.evaluate("document.documentElement.scrollWidth") <= width
    ui.page.set_viewport_size({"width": 1200, "height": 1500})
    ui.picture("health-report")
