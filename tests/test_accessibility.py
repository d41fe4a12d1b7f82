"""Every kind of page in one browser, wide and narrow, light and dark: no violation of axe-core's rules of level A and AA,
nothing that has to be scrolled sideways, and all that can be used can be reached by keyboard."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from selenium.webdriver import Chrome

from astray.errors import MissingExtraError
from astray.report import write_report
from browser import check_clean, open_page, show
from page_examples import write_pages
from report_example import write_example

AXE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "astray-tests", "axe-core-4.14.1.min.js")
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
KINDS = ("report", "gate", "gate-meter", "audit", "blame", "repair", "screen", "passport", "count")
VIEWS = [(width, dark) for width in (1440, 375) for dark in (False, True)]
RUN = """
    const done = arguments[arguments.length - 1];
    axe.run(document, { runOnly: { type: "tag", values: arguments[0] }, resultTypes: ["violations"] }).then(({ violations }) =>
      done(violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map(({ html }) => html.slice(0, 200)).join(" | ")}`)));
"""
SKIPPED = """
    const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter((each) => each.offsetHeight);
    const levels = headings.map((each) => Number(each.tagName[1]));
    return levels[0] === 1 ? levels.filter((level, place) => place && level > levels[place - 1] + 1) : ["none of the first level comes first"];
"""
"""The levels of headings that leave one out."""
UNREACHED = """
    const able = "a[href], button, input, select, summary, [tabindex='0']";
    const unreached = (each) => each.checkVisibility() && !each.disabled && each.tabIndex < 0;
    return [...document.querySelectorAll(able)].filter(unreached).map((each) => each.outerHTML);
"""
DRAWN = """
    const charts = [...document.querySelectorAll("[data-chart]")].filter((chart) => chart.checkVisibility());
    return charts.every((chart) => chart.querySelector("svg")) && (!document.getElementById("answer-data") || document.querySelector(".answer"));
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = write_example(tmp_path_factory.mktemp("pages"), answers=240)
    return {"report": write_report(folder)} | write_pages(folder, pl.read_parquet(folder / "answers.parquet"))


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.is_file():
        raise MissingExtraError("axe-core", "Testing pages for accessibility", "bash scripts/axe.sh")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def driver(pages: dict[str, Path]) -> Iterator[Chrome]:
    with open_page(pages["count"]) as driver:
        yield driver


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_can_be_read_and_used_by_everyone(kind: str, pages: dict[str, Path], driver: Chrome, axe: str) -> None:
    show(driver, pages[kind])
    driver.execute_script(axe)
    driver.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    found: list[tuple[Any, ...]] = []
    for width, dark in VIEWS:
        show(driver, width=width, dark=dark, until=DRAWN)
        found += [(width, dark, each) for each in driver.execute_async_script(RUN, LEVELS)]
        if sideways := driver.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        ):
            found.append((width, dark, f"{sideways} pixels stand out sideways"))
        found += [(width, "a heading leaves a level out", level) for level in driver.execute_script(SKIPPED)]
        found += [(width, "the keyboard does not reach", each) for each in driver.execute_script(UNREACHED)]
    assert not found
    check_clean(driver)
