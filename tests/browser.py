"""Opens a local page in headless Chromium and holds it to what a self-contained page promises: no errors, no network.

with open_page(tmp_path / "report.html", dark=True, width=390, height=844) as driver:
    assert driver.find_element("css selector", "h1").text == "..."
"""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.support.ui import WebDriverWait

from astray.errors import MissingExtraError

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
EMPTY_START = {
    "session.restore_on_startup": 4,
    "session.startup_urls": ["about:blank"],
}  # else the new tab page is loaded first
LOCAL_SCHEMES = ("file:", "data:", "blob:")
INSTALL = "sudo apt-get install chromium chromium-driver"


def program(name: str) -> str:
    """Path of an installed program.

    Raises:
        MissingExtraError: it is not installed; gives the command.
    """
    path = shutil.which(name)
    if path is None:
        raise MissingExtraError(f"the program {name!r}", "Testing pages in a browser", INSTALL)
    return path


@contextlib.contextmanager
def open_page(path: Path, *, dark: bool = False, width: int = 1280, height: int = 800) -> Iterator[Chrome]:
    """A browser that shows the page at `path`, closed afterwards.

    Args:
        path: the HTML file.
        dark: whether the reader prefers a dark colour scheme.
        width: of the window's inside, in CSS pixels.
        height: of the window's inside, in CSS pixels.

    Raises:
        AssertionError: at the end, when the page wrote an error to the console or asked for anything that is not in it.
        MissingExtraError: Chromium or its driver is not installed.
    """
    options = ChromeOptions()
    options.binary_location = program("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_experimental_option("prefs", EMPTY_START)
    service = ChromeService(executable_path=program("chromedriver"))
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = Chrome(options=options, service=service)
        try:
            show(driver, path, dark=dark, width=width, height=height)
            yield driver
            check_clean(driver)
        finally:
            driver.quit()


def show(
    driver: Chrome,
    path: Path | None = None,
    *,
    dark: bool = False,
    width: int = 1280,
    height: int = 800,
    until: str = "",
) -> None:
    """Shows a page, or the present one, in another size and in other colours; arguments as for `open_page`.

    Args:
        until: a script that returns whether the page has become what it should be, which is waited for.
    """
    colours = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [colours]})
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    if path is not None:
        driver.get(path.absolute().as_uri())
    if until:
        WebDriverWait(driver, 60, poll_frequency=0.05).until(lambda shown: shown.execute_script(until))


def check_clean(driver: Chrome) -> None:
    """Fails if the page wrote an error to the console, or asked for anything over the network, since this was last
    asked."""
    foreign = [url for url in requested_urls(driver) if not url.startswith(LOCAL_SCHEMES)]
    assert not foreign, f"The page is not self-contained, it asked for: {foreign}"
    errors = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors, f"The page wrote errors to the console: {errors}"


def requested_urls(driver: Chrome) -> list[str]:
    """Everything that the page asked for, whether it was answered or not."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    requests = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    sockets = [event["params"]["url"] for event in events if event["method"] == "Network.webSocketCreated"]
    return requests + sockets
