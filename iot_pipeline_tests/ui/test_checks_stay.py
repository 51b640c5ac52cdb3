"""In the default mode, through several runs that stay, no check is ever out of sight."""

from collections.abc import Iterator

import pytest

from iot_pipeline_tests.ui.browser import Ui
from iot_pipeline_tests.ui.polling import NOT_EVALUATED, poll, wait_for_first_verdicts
from iot_pipeline_tests.ui.running_demo import RunningDemo, running_demo

pytestmark = pytest.mark.ui


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    # Each run reports in its middle, too: two and twelve seconds after it began.
    env = {"IOT_INGEST_MODE": "follow", "IOT_FOLLOW_SECONDS": "15"}
    with running_demo(tmp_path_factory.mktemp("demo"), env) as started:
        yield started


def test_no_check_is_ever_not_evaluated_while_runs_that_stay_follow_each_other(
    ui: Ui, demo: RunningDemo
) -> None:
    wait_for_first_verdicts(demo)
    polled = poll(ui, demo, runs=3)
    assert polled.statuses[NOT_EVALUATED] == 0
    assert polled.statuses["IN_PROGRESS"] == 0, "a check that is running shows no verdict"
    assert polled.pages >= 6
    assert polled.hiding_pages == []
