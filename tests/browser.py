"""Chromium for the tests of pages, if it is installed."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WIDTHS = (1280, 400)  # pixels, of a desktop's window and of a telephone
FLAGS = (  # no sandbox, as containers run it as root; nothing but the page may use the network
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)


needs_chromium = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs chromium and chromedriver, the packages chromium and chromium-driver"
)


@contextmanager
def started_chromium(profile: Path) -> Iterator[Any]:
    """Yield a browser that records messages and requests, and has a camera that shows a test picture."""
    webdriver: Any = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield browser
    finally:
        browser.quit()


def resize(browser: Any, width: int) -> None:
    """Make the window this wide, in pixels."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def requests(browser: Any) -> list[str]:
    """Return the addresses that pages have asked for since the last call, without those of data and of the browser."""
    events = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith(("data:", "blob:", "chrome:"))]


def open_page(browser: Any, url: str | Path) -> None:
    """Open a page, and forget the requests before it."""
    browser.get_log("performance")
    browser.get(str(url))
