"""Figures as files: what is shown, on both grounds, with every interval, in letters that survive halving."""

import html
import re
from itertools import combinations
from pathlib import Path

import pytest
from coloraide.everything import ColorAll

from astray.engine.exhibits import Bar, Curve, Forest, Point
from astray.engine.summary import Summary
from astray.errors import ConfigurationError, EmptyDataError, UnknownNameError
from astray.report.dynamics import SERIES_COLOURS
from astray.report.figures import OUTCOME_COLOURS, headline_rows
from astray.report.picture import LETTERS, MAIN, NARROW, draw_figure, figures_of, write_figure
from astray.studies import STUDIES
from modules import ROOT
from report_example import write_example


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    folder = write_example(tmp_path_factory.mktemp("picture"), answers=600)
    return Summary.read(folder).model_copy(update={"study": "emergent-misalignment"})


def test_every_study_has_a_figure_of_its_main_finding() -> None:
    assert MAIN.keys() == STUDIES.keys()
    for study, name in MAIN.items():
        room = ROOT / "src" / "astray" / "studies" / study.replace("-", "_")
        source = "\n".join(path.read_text(encoding="utf-8") for path in room.glob("*.py"))
        assert name == "rates" or f'id="{name}"' in source


def test_figures_that_can_have_intervals_are_offered(summary: Summary) -> None:
    offered = figures_of(summary)
    assert list(offered)[:3] == ["main", "rates", "claims"]
    assert {one.id for one in summary.exhibits if one.kind in ("forest", "curve")} <= offered.keys()
    assert not {one.id for one in summary.exhibits if one.kind in ("heat", "table", "cards")} & offered.keys()
    assert offered["main"] is offered["rates"]


def test_a_study_that_judged_nothing_shows_a_figure_of_its_own_first(summary: Summary) -> None:
    unjudged = tuple(row.model_copy(update={"rate": None, "interval": None}) for row in summary.rates)
    offered = figures_of(summary.model_copy(update={"rates": unjudged, "claims": ()}))
    own = next(one.id for one in summary.exhibits if one.kind in ("forest", "curve"))
    assert list(offered)[:2] == ["main", own]
    assert offered["main"] is offered[own]


def test_rates_are_those_of_the_evaluation_that_the_claims_are_about(summary: Summary) -> None:
    every = [row.rate for row in summary.rates]
    for row in [row for row in headline_rows(summary) if every.count(row.rate) == 1][::10]:
        # Claims of older summaries name no evaluation: the rate of their control stands in it, to the last digit.
        older = {"control_estimate": row.rate, "evaluation": ""}
        controls = [claim.model_copy(update=older) for claim in summary.claims]
        shown = figures_of(summary.model_copy(update={"claims": tuple(controls)}))["rates"]
        assert isinstance(shown, Forest)
        assert f"evaluation {row.evaluation}, questions {row.group}" in shown.text
        assert {bar.label: bar.value for bar in shown.bars}[row.arm] == row.rate


def test_every_interval_is_drawn_in_large_letters_and_in_colours_of_the_ground(summary: Summary) -> None:
    forest = figures_of(summary)["rates"]
    assert isinstance(forest, Forest)
    drawn = {ground: draw_figure(summary, "rates", "svg", ground).decode() for ground in ("light", "dark")}
    for text, background in zip(drawn.values(), ("#ffffff", "#1a1e24"), strict=True):
        assert text.count('stroke-width="3.5"') >= sum(bar.low is not None for bar in forest.bars) > 0
        assert min(map(float, re.findall(r'font-size="([\d.]+)px"', text))) >= LETTERS
        assert background in text
        assert "var(--" not in text
    assert all(bar.label in drawn["light"] for bar in forest.bars)


def test_letters_are_read_on_a_telephone(summary: Summary) -> None:
    drawn = draw_figure(summary, "rates", "svg", width=NARROW).decode()
    (width,) = re.findall(r'<svg [^>]*width="(\d+)"', drawn)
    assert int(width) == NARROW
    assert min(map(float, re.findall(r'font-size="([\d.]+)px"', drawn))) * 343 / NARROW >= 12


@pytest.mark.parametrize("width", [400, NARROW])
def test_no_word_of_a_narrow_figure_is_cut(summary: Summary, width: int) -> None:
    words = "answers to plain questions of another topic, in nats a token, against the same ones of control training"
    series = [f"{number} {words}" for number in range(3)]
    bars = tuple(Bar(label=f"label {one}", group=one, value=0.5, low=0.4, high=0.6) for one in series)
    points = tuple(Point(series=one, x=x, y=0.5, low=0.4, high=0.6) for one in series for x in (0, 1))
    told = {"title": words, "text": words, "x_title": f"below {words}"}
    forest = Forest(id="forest", bars=bars, **told)
    curve = Curve(id="curve", points=points, y_title="beside the answers to plain questions", **told)
    own = summary.model_copy(update={"exhibits": (forest, curve)})
    for name in ("forest", "curve"):
        drawn = draw_figure(own, name, "svg", width=width).decode()
        lines = [html.unescape(line) for line in re.findall(r">([^<>]+)</t", drawn)]
        assert re.findall(r'<svg [^>]*width="(\d+)"', drawn) == [str(width)]
        assert max(map(len, lines)) <= width // 9
        assert "…" not in drawn
        whole = " ".join(lines)
        missing = [text for text in (*series, f"below {words}") if text not in whole]
        assert not missing, whole


SIGHTS = {"usual": ("", 15), "protanopia": ("protan", 14), "deuteranopia": ("deutan", 14), "tritanopia": ("tritan", 10)}
"""Sight -> coloraide's simulation of it (Machado et al. 2009; of tritanopia Brettel et al. 1997), and the least CIEDE2000
distance of two colours that one figure uses."""


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("ground", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    "palette", [SERIES_COLOURS, tuple(OUTCOME_COLOURS.values()), ("var(--trained)", "var(--control)")]
)
def test_colours_of_a_figure_stay_apart_for_colour_blind_readers(
    palette: tuple[str, ...], ground: int, sight: str
) -> None:
    css = (ROOT / "src/astray/report/templates/report.css").read_text(encoding="utf-8")
    written = {name: grounds for name, *grounds in re.findall(r"--([\w-]+): light-dark\((#\w+), (#\w+)\)", css)}
    simulated, least = SIGHTS[sight]
    method = {} if simulated == "tritan" else {"method": "machado"}
    seen = {}
    for name in palette:
        colour = ColorAll(written[name.removeprefix("var(--").removesuffix(")")][ground])
        seen[name] = colour.filter(simulated, 1, **method) if simulated else colour
    apart = {pair: seen[pair[0]].delta_e(seen[pair[1]], method="2000") for pair in combinations(seen, 2)}
    assert min(apart.values()) >= least, min(apart, key=lambda pair: apart[pair])


@pytest.mark.parametrize(("format", "begins"), [("svg", b"<svg"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_a_figure_is_written_for_light_and_dark_pages(
    format: str, begins: bytes, summary: Summary, tmp_path: Path
) -> None:
    written = write_figure(summary, "claims", format, tmp_path / "new")
    assert [path.name for path in written] == [
        f"emergent-misalignment-claims.{format}",
        f"emergent-misalignment-claims-dark.{format}",
    ]
    contents = [path.read_bytes() for path in written]
    assert all(content.startswith(begins) for content in contents)
    assert contents[0] != contents[1]


def test_a_value_without_an_interval_is_told(summary: Summary) -> None:
    bars = (Bar(label="one run", value=0.5), Bar(label="five runs", value=0.4, low=0.3, high=0.5))
    own = Forest(id="own", title="Own", text="Shares.", x_title="Share", bars=bars)
    drawn = draw_figure(summary.model_copy(update={"exhibits": (own,)}), "own", "svg").decode()
    assert "1 of 2 values" in drawn


def test_what_cannot_be_drawn_is_refused(summary: Summary) -> None:
    with pytest.raises(UnknownNameError, match="rates"):
        draw_figure(summary, "ratse", "svg")
    with pytest.raises(ConfigurationError, match="svg, png or pdf"):
        draw_figure(summary, "rates", "jpg")
    empty = Forest(id="own", title="Own", text="Shares.", x_title="Share", bars=(Bar(label="one", value=None),))
    with pytest.raises(EmptyDataError, match="no value to draw"):
        draw_figure(summary.model_copy(update={"exhibits": (empty,)}), "own", "svg")
