"""The browser that pages are tested in sees what a reader would, and what the page must not do."""

from pathlib import Path

import pytest

from astray.errors import MissingExtraError
from browser import open_page

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Toy</title>
<link rel="icon" href="data:,">
<style>
body { background: rgb(255, 255, 255); }
@media (prefers-color-scheme: dark) { body { background: rgb(17, 17, 17); } }
@media (max-width: 500px) { .wide { display: none; } }
</style></head>
<body><h1>Toy</h1><p class="wide">Only on wide windows.</p><script>SCRIPT</script></body></html>
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return write(tmp_path, "document.title = 'Toy, seen';")


def write(folder: Path, script: str) -> Path:
    path = folder / "page with space.html"
    path.write_text(PAGE.replace("SCRIPT", script))
    return path


@pytest.mark.parametrize(
    ("dark", "width", "colour", "shown"), [(False, 1280, "255, 255, 255", True), (True, 390, "17, 17, 17", False)]
)
def test_a_page_is_shown_in_the_wanted_size_and_colours(
    page: Path, dark: bool, width: int, colour: str, shown: bool
) -> None:
    with open_page(page, dark=dark, width=width, height=700) as driver:
        assert driver.title == "Toy, seen"
        assert driver.execute_script("return [innerWidth, innerHeight]") == [width, 700]
        assert colour in driver.find_element("css selector", "body").value_of_css_property("background-color")
        assert driver.find_element("css selector", ".wide").is_displayed() is shown


def test_an_error_in_the_console_fails_the_test(tmp_path: Path) -> None:
    page = write(tmp_path, "undefinedFunction();")
    with (
        pytest.raises(AssertionError, match=r"errors to the console: .*undefinedFunction is not defined"),
        open_page(page),
    ):
        pass


@pytest.mark.parametrize(
    ("script", "url"),
    [
        ("new Image().src = 'https://example.invalid/pixel.png';", "https://example.invalid/pixel.png"),
        ("fetch('http://127.0.0.1:9/rows.json').catch(() => null);", "http://127.0.0.1:9/rows.json"),
        ("new WebSocket('ws://127.0.0.1:9/live');", "ws://127.0.0.1:9/live"),
    ],
)
def test_a_request_to_the_network_fails_the_test(tmp_path: Path, script: str, url: str) -> None:
    page = write(tmp_path, script)
    with pytest.raises(AssertionError, match=rf"not self-contained, it asked for: .*{url}"), open_page(page):
        pass


def test_requests_for_what_is_in_the_page_are_allowed(tmp_path: Path) -> None:
    script = "fetch('data:,hello'); const blob = URL.createObjectURL(new Blob(['hello'])); fetch(blob);"
    with open_page(write(tmp_path, script)) as driver:
        assert driver.title == "Toy"


def test_a_missing_browser_is_told_with_the_command_that_installs_it(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(
            MissingExtraError, match=r"needs the program 'chromium'.*sudo apt-get install chromium chromium-driver"
        ),
        open_page(page),
    ):
        pass
