"""A headless Chromium for tests: what it needs to run, and a page's errors and requests."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import PATIENCE, wait_until

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


@contextlib.contextmanager
def chromium(profile: Path, *flags: str) -> Iterator[Any]:
    """A Selenium driver of the installed Chromium; the test is skipped only where there is none.

    Args:
        profile: a new folder for what the browser keeps.
        flags: more of its flags.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    driver_path = shutil.which("chromedriver")
    if binary is None or driver_path is None:
        pytest.skip("no browser: neither chromium nor chrome is installed" if driver_path else "no chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*_FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # The path is given, so that Selenium never looks for a driver elsewhere.
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver_path))
    try:
        driver.set_page_load_timeout(PATIENCE)
        driver.set_script_timeout(PATIENCE)
        yield driver
    finally:
        driver.quit()


def open_page(driver: Any, path: Path) -> None:
    """Open a page from its file, and wait until its charts are drawn."""
    driver.get(path.as_uri())
    wait(driver, lambda driver: driver.execute_script("return document.documentElement.dataset.ready") == "true")


def wait(driver: Any, condition: Callable[[Any], Any]) -> Any:
    """What a condition on the page gives as soon as it holds; until then elements may be missing."""
    from selenium.common.exceptions import NoSuchElementException

    def holds() -> Any:
        with contextlib.suppress(NoSuchElementException):
            return condition(driver)

    return wait_until(holds, f"what this line wants of the page {driver.current_url}")


def requests(driver: Any) -> set[str]:
    """The addresses that pages asked for, by the browser's own account, since this was last called."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    return {url for url in sent if not url.startswith(("data:", "chrome:", "about:"))}


def errors(driver: Any) -> list[str]:
    """What pages wrote into the console, since this was last called."""
    return [entry["message"] for entry in driver.get_log("browser")]
