"""One demo and one browser for all tests of the UI."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from iot_pipeline_tests.ui.browser import Ui, chromium
from iot_pipeline_tests.ui.running_demo import RunningDemo, running_demo


# Of the module, too: while it is there an event loop runs in this thread, in which nothing else can
# run another one; and other modules may come to this process.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


# Of the module: its servers and its fleet would slow down every test that comes after.
@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    # A new demo has one day of readings; a backfill of three wants three partitions.
    first_day = datetime.now(UTC).date() - timedelta(days=2)
    env = {"IOT_ROLLUP_START": first_day.isoformat()}
    with running_demo(tmp_path_factory.mktemp("demo"), env) as started:
        yield started


# Spinners and fading dialogs are painted by the CPU here, sixty times a second, for nobody.
_STAND_STILL = """
const still = document.createElement("style");
const all = "*, *::before, *::after";
still.textContent = all + " {animation: none !important; transition: none !important}";
document.addEventListener("DOMContentLoaded", () => document.head.append(still));
"""


@pytest.fixture
def ui(browser: Browser, demo: RunningDemo, tmp_path: Path) -> Iterator[Ui]:
    page = browser.new_page(viewport={"width": 1500, "height": 950}, timezone_id="UTC")
    page.add_init_script(_STAND_STILL)
    yield Ui(page, demo.address, tmp_path / "pictures")
    page.close()
