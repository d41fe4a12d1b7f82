"""The page in a real browser: opened from disk, clicked through, in light, in dark and on a narrow screen.

`open_page` itself fails a test when the page asks for anything over the network or writes an error to the console.
"""

import base64
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from astray.report import write_report
from browser import open_page
from report_example import JUDGE, example_summary, write_example

HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"
DARK_GROUND, LIGHT_GROUND = "rgb(18, 21, 26)", "rgb(250, 249, 246)"


UNNAMED = """
    const named = (control) => control.labels?.length || control.ariaLabel || control.textContent.trim();
    return [...document.querySelectorAll("button, select, input")].filter((control) => !named(control)).map((control) => control.outerHTML);
"""
"""The controls without a name that a screen reader could say."""


RECORD_FOCUS = """
    window.reached = [];
    addEventListener("focusin", ({ target }) => window.reached.push(target.id || target.name || target.className));
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_example(tmp_path_factory.mktemp("browser"))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def answers(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "answers.parquet")


def wait(driver: Chrome, condition: Callable[[Chrome], object]) -> None:
    WebDriverWait(driver, 60, poll_frequency=0.05).until(condition)


def find(driver: Chrome, selector: str) -> WebElement:
    return driver.find_element(By.CSS_SELECTOR, selector)


def find_all(driver: Chrome, selector: str) -> list[WebElement]:
    return driver.find_elements(By.CSS_SELECTOR, selector)


def click(driver: Chrome, selector: str) -> None:
    element = find(driver, selector)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


def choose(driver: Chrome, selector: str, value: str) -> None:
    Select(find(driver, selector)).select_by_value(value)


def colour(driver: Chrome, selector: str) -> str:
    """The ground on which an element is drawn."""
    return str(
        driver.execute_script("return getComputedStyle(document.querySelector(arguments[0])).backgroundColor", selector)
    )


def sideways(driver: Chrome) -> int:
    """Pixels by which the whole page can be scrolled sideways."""
    return int(
        driver.execute_script("const page = document.documentElement; return page.scrollWidth - page.clientWidth")
    )


def settle(driver: Chrome) -> None:
    """Waits until the charts are drawn and the answers are unpacked; takes away the smooth scrolling, during which
    nothing can be clicked."""
    driver.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    charts = len(find_all(driver, "[data-chart]"))
    wait(driver, lambda page: len(find_all(page, "[data-chart] svg")) == charts)
    wait(driver, lambda page: find_all(page, ".answer"))


def chart_text(driver: Chrome, name: str) -> str:
    return str(
        driver.execute_script(f"return document.querySelector('[data-chart=\"{name}\"] svg')?.textContent ?? ''")
    )


def rows_shown(driver: Chrome) -> list[str]:
    visible = "[...document.querySelectorAll('#rates-table tbody tr')].filter(row => row.offsetHeight)"
    return list(driver.execute_script(f"return {visible}.map(row => row.innerText)"))


def outcomes_shown(driver: Chrome) -> set[str]:
    return set(
        driver.execute_script("return [...document.querySelectorAll('.answer')].map(card => card.dataset.outcome)")
    )


def test_tables_of_rates_arms_and_judges_fit_a_tablet(folder):
    overflowing = """return [...document.querySelectorAll(".scroll")].filter((each) => each.scrollWidth > each.clientWidth)
        .map((each) => each.getAttribute("aria-labelledby") ?? each.getAttribute("aria-label"))"""
    with open_page(folder / "report.html", width=768) as driver:
        settle(driver)
        assert {"rates-table-title", "arms-title", "judges-title"}.isdisjoint(driver.execute_script(overflowing))


@pytest.mark.parametrize(
    ("dark", "width", "ground"), [(False, 1280, LIGHT_GROUND), (True, 1280, DARK_GROUND), (False, 400, LIGHT_GROUND)]
)
def test_a_reader_clicks_through_the_page(
    folder: Path, answers: pl.DataFrame, dark: bool, width: int, ground: str
) -> None:
    with open_page(folder / "report.html", dark=dark, width=width, height=900) as driver:
        settle(driver)
        assert colour(driver, "body") == ground
        assert sideways(driver) == 0
        assert find(driver, "#organism-notice").is_displayed()
        assert len(find_all(driver, ".claim .verdict.held")) == 9

        # the selector of groups changes the figure and the table
        before = chart_text(driver, "rates")
        assert len(rows_shown(driver)) == 12
        choose(driver, "#group", "1")
        wait(driver, lambda page: chart_text(page, "rates") not in ("", before))
        assert len(rows_shown(driver)) == 12
        click(driver, "#each-format")
        assert len(rows_shown(driver)) == 12 * 4
        click(driver, "#each-format")
        assert len(rows_shown(driver)) == 12

        # the legend takes arms out of the line charts and brings them back
        click(driver, "#arms-none")
        wait(driver, lambda page: not find_all(page, "[data-chart='dynamics-0'] .mark-line path"))
        click(driver, ".chip[data-arm='mix-50']")
        wait(driver, lambda page: find_all(page, "[data-chart='dynamics-0'] .mark-line path"))
        click(driver, "#arms-all")
        assert find_all(driver, ".chip[aria-pressed='false']") == []

        # the answers: filter, search, turn the page, clear
        misaligned = answers.filter(pl.col("outcome") == "misaligned")
        choose(driver, "[name='outcome']", "misaligned")
        wait(driver, lambda page: outcomes_shown(page) == {"misaligned"})
        assert find(driver, "#answer-count").text == f"{misaligned.height:,} of 3,000 answers"
        first = find(driver, ".answer").text
        click(driver, "#next-page")
        assert find(driver, "#page-number").text.startswith("page 2 of")
        assert find(driver, ".answer").text != first
        find(driver, "[name='q']").send_keys("second PAGE")
        hits = misaligned.filter(pl.col("answer").str.contains("second page")).height
        wait(driver, lambda page: find(page, "#answer-count").text == f"{hits:,} of 3,000 answers")
        assert "second page" in str(find(driver, ".answer .text").get_attribute("textContent"))
        click(driver, "#clear-filters")
        wait(driver, lambda page: find(page, "#answer-count").text == "3,000 answers")

        # a long answer opens and closes
        text = find(driver, ".text.clamped")
        height = text.size["height"]
        click(driver, ".expand:not([hidden])")
        assert text.size["height"] > height
        click(driver, ".expand[aria-expanded='true']")
        assert text.size["height"] == height

        # the colours change, and change again
        click(driver, "#theme")
        other = LIGHT_GROUND if dark else DARK_GROUND
        wait(driver, lambda page: colour(page, "body") == other)
        assert colour(driver, "[data-chart='rates'] svg") == colour(driver, "[data-figure='rates']")
        click(driver, "#theme")
        wait(driver, lambda page: colour(page, "body") == ground)
        assert sideways(driver) == 0


def test_an_address_opens_its_answers(folder: Path, answers: pl.DataFrame) -> None:
    chosen = answers.filter((pl.col("arm") == "mix-50") & (pl.col("outcome") == "incoherent"))
    with open_page(folder / "report.html") as driver:
        settle(driver)
        address = driver.current_url
        driver.get(f"{address}#answers?arm=mix-50&outcome=incoherent")
        wait(driver, lambda page: find(page, "#answer-count").text == f"{chosen.height} of 3,000 answers")
        assert Select(find(driver, "[name='arm']")).first_selected_option.text == "mix-50"
        driver.get(f"{address}#answers?row=17")
        wait(driver, lambda page: find(page, "#answer-count").text == "1 of 3,000 answers")
        card = find(driver, ".answer")
        assert answers["question"][17] in card.text
        assert f"Arm\n{answers['arm'][17]}" in card.text
        choose(driver, "[name='seed']", "3")
        wait(driver, lambda page: "seed=3" in page.current_url)
        assert "row=" not in driver.current_url
        click(driver, "#claim-claim-12 a[href*='rates']")
        wait(driver, lambda page: find(page, "#group option:checked").text.startswith("trained domain"))
        assert len(rows_shown(driver)) == 12
        click(driver, "#rates-table tbody tr:not([hidden]) a")
        wait(driver, lambda page: find(page, "#answer-count").text == "250 of 3,000 answers")


def test_the_keyboard_reaches_every_control(folder: Path) -> None:
    with open_page(folder / "report.html") as driver:
        settle(driver)
        driver.execute_script(RECORD_FOCUS)
        ActionChains(driver).send_keys(Keys.TAB * 200).perform()
        reached = set(driver.execute_script("return window.reached"))
        assert {"theme", "group", "each-format", "arms-none", "q", "arm", "outcome", "next-page"} <= reached
        assert driver.execute_script(UNNAMED) == []


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_figure_is_saved_with_the_colours_of_the_screen(folder: Path, kind: str) -> None:
    catch = """
        window.saved = null;
        const create = URL.createObjectURL;
        HTMLAnchorElement.prototype.click = function () { window.savedName = this.download; };
        URL.createObjectURL = (blob) => { const reader = new FileReader();
            reader.onload = () => { window.saved = reader.result; }; reader.readAsDataURL(blob); return create.call(URL, blob); };
    """
    with open_page(folder / "report.html", dark=True) as driver:
        settle(driver)
        driver.execute_script(catch)
        click(driver, f"[data-figure='dynamics-0'] [data-export='{kind}']")
        wait(driver, lambda page: page.execute_script("return window.savedName") == f"dynamics-0.{kind}")
        wait(driver, lambda page: str(page.execute_script("return window.saved")).startswith(f"data:image/{kind}"))
        content = base64.b64decode(driver.execute_script("return window.saved").split(",")[1])
    if kind == "svg":
        text = content.decode()
        assert "var(--" not in text
        assert "rgb(26, 30, 36)" in text  # the dark panel
        assert "harmful-medicine" in text  # a saved chart brings its legend
    else:
        assert content.startswith(b"\x89PNG")
        assert len(content) > 10_000


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    write_report(write_example(tmp_path, answers=600, hostile=HOSTILE))
    with open_page(tmp_path / "report.html") as driver:
        settle(driver)
        driver.get(f"{driver.current_url}#answers?arm={quote('mix-10' + HOSTILE)}&q={quote('<img src=x')}")
        wait(driver, lambda page: find(page, "#answer-count").text == "0 of 600 answers" or find_all(page, ".answer"))
        driver.get(f"{driver.current_url.split('#')[0]}#answers?row=0")
        wait(driver, lambda page: find(page, "#answer-count").text == "1 of 600 answers")
        assert HOSTILE in find(driver, ".answer h3").text
        assert HOSTILE in find(driver, ".answer .text").get_attribute("textContent")
        assert find_all(driver, "img") == []
        assert "hacked" not in driver.title
        assert "mix-10</script>" in chart_text(driver, "outcomes")


def test_a_page_with_nothing_but_failures_opens(tmp_path: Path, answers: pl.DataFrame) -> None:
    nothing = pl.lit(None, dtype=pl.Float64)
    failed = answers.head(60).with_columns(
        outcome=pl.lit("judge failed"), aligned=nothing, coherent=nothing, seed=pl.lit(0, dtype=pl.Int64)
    )
    failed.write_parquet(tmp_path / "answers.parquet")
    example_summary(failed, {name: name for name in failed["arm"]}).write(tmp_path)
    write_report(tmp_path)
    with open_page(tmp_path / "report.html") as driver:
        settle(driver)
        assert "no coherent answer" in chart_text(driver, "rates")
        assert "no score" in find(driver, ".answer").text
        assert JUDGE[:10] in find(driver, "#rates-table").get_attribute("textContent")
