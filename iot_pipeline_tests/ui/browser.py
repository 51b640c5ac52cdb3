"""A page of Dagster's UI in a real Chromium, and the clicks a person makes there.

The app polls, so the network is never idle: every step waits for what a person would see.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Error, Locator, Page, expect, sync_playwright

LOCATION = "iot_pipeline"
# `make ui` sets it to docs/images, so that the README's pictures are this suite's own.
SCREENSHOTS = "UI_PICTURES"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_INSTALL = (
    "no Chromium found. Debian or Ubuntu: apt-get install chromium; elsewhere: "
    ".venv/bin/playwright install chromium, or set UI_CHROMIUM to the program"
)
expect.set_options(timeout=120_000)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, or the one that `playwright install chromium` fetched."""
    given = os.environ.get("UI_CHROMIUM")
    found = given or next(filter(None, map(shutil.which, _NAMES)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=found,
                args=[
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--disable-background-networking",
                    "--no-first-run",
                ],
            )
        except Error as exc:
            raise AssertionError(f"{_INSTALL}\n{exc}") from exc
        yield browser
        browser.close()


class Ui:
    """One tab: where to go, what to click, what is seen then."""

    def __init__(self, page: Page, address: str, pictures: Path) -> None:
        self.page, self._address = page, address
        self._pictures = Path(os.environ.get(SCREENSHOTS) or pictures)
        page.set_default_timeout(120_000)

    def open(self, path: str) -> None:
        self.page.goto(f"{self._address}{path}")

    def open_job(self, job: str, tab: str = "playground") -> None:
        self.open(f"/locations/{LOCATION}/jobs/{job}/{tab}")

    def open_asset(self, name: str, view: str) -> None:
        self.open(f"/assets/iot/{name}?view={view}")

    def picture(self, name: str) -> Path:
        """What is on the screen now, as docs/images/`name`.png; never of a page half loaded."""
        expect(self.page.get_by_text("Loading", exact=False)).to_have_count(0)
        self._pictures.mkdir(parents=True, exist_ok=True)
        path = self._pictures / f"{name}.png"
        self.page.mouse.move(0, 0)
        self.page.screenshot(path=path, animations="disabled")
        return path

    def text(self) -> str:
        return self.page.inner_text("body")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name).last

    def launch(self, job: str, yaml: str) -> str:
        """Launch from the launchpad with this config; gives the run id, its page is open."""
        self.fill_launchpad(job, yaml)
        self.button("Launch Run").click()
        self.page.wait_for_url("**/runs/*")
        return self.page.url.rsplit("/", 1)[1]

    def fill_launchpad(self, job: str, yaml: str) -> None:
        self.open_job(job)
        self.page.wait_for_selector(".CodeMirror")
        self.page.evaluate(
            "yaml => document.querySelector('.CodeMirror').CodeMirror.setValue(yaml)", yaml
        )
        expect(self.page.get_by_text("No errors")).to_be_visible()

    def wait_for_status(self, status: str, seconds: float = 60) -> None:
        """Until the open run page's badge says so: Success, Canceled, Failure."""
        badge = self.page.get_by_text(status, exact=True).first
        expect(badge).to_be_visible(timeout=4000 * seconds)

    def terminate(self) -> None:
        self.page.get_by_role("button", name="Terminate").first.click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("button", name="Terminate 1 run").click()
        expect(dialog).to_have_count(0)

    def switch(self, path: str) -> None:
        """Flip the switch of a sensor's or a schedule's page (a hidden checkbox)."""
        self.open(path)
        box = self.page.locator("input[type=checkbox]").first
        box.wait_for(state="attached")
        box.evaluate("e => e.click()")
