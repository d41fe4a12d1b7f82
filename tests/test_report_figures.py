"""The figures show the summary as it is, in forms that Vega-Lite takes and colours that everyone can tell from the
ground."""

import json
import re
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import vl_convert

from astray.engine.summary import ClaimRow, IntervalRow, Summary
from astray.outcomes import Outcome
from astray.report.dynamics import dynamics_figures, first_arms, measures
from astray.report.figures import arm_order, headline_rows, rate_figures, selections
from astray.report.strips import interval_strip, interval_strips
from report_example import ARMS, SEEDS, write_example

CONTROLS = {name for name, _, _, control, _ in ARMS if control}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_example(tmp_path_factory.mktemp("figures"), answers=1200)


@pytest.fixture(scope="module")
def summary(folder: Path) -> Summary:
    return Summary.read(folder)


@pytest.fixture(scope="module")
def dynamics(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "dynamics.parquet")


def compiled(figure: dict[str, Any], name: str) -> dict[str, Any]:
    return vl_convert.vegalite_to_vega(figure["charts"][name] | {"datasets": figure["datasets"]})


def test_every_chart_compiles(summary: Summary, dynamics: pl.DataFrame) -> None:
    rates, lines = rate_figures(summary), dynamics_figures(dynamics, arm_order(summary), CONTROLS)
    assert list(rates["charts"]) == ["rates", "outcomes", "formats"]
    assert list(lines["charts"]) == ["dynamics-0", "dynamics-1", "dynamics-2"]
    for figure in (rates, lines):
        for name in figure["charts"]:
            assert compiled(figure, name)["marks"], name


def test_the_forest_plot_explains_its_marks_in_a_legend(summary: Summary) -> None:
    legends = compiled(rate_figures(summary), "rates")["legends"]
    assert [legend["shape"] for legend in legends] == ["shape"]


def test_the_data_is_the_summary(summary: Summary) -> None:
    datasets = rate_figures(summary)["datasets"]
    keys = {choice.key: choice.group for choice in selections(summary)}
    shown = {
        (keys[row["key"]], row["arm"]): (row["rate"], row["low"], row["high"], row["coherence"])
        for row in datasets["headline"]
    }
    for row in headline_rows(summary):
        assert row.interval is not None
        assert shown[row.group, row.arm] == (row.rate, row.interval.low, row.interval.high, row.coherence)
    assert len(datasets["seeds"]) == len(ARMS) * len(keys) * len(SEEDS)
    assert len(datasets["outcomes"]) == len(ARMS) * len(keys) * len(Outcome)
    assert {row["format"] for row in datasets["formats"]} == {"plain", "json", "template"}
    assert {row["arm"] for row in datasets["headline"] if row["kind"] == "control"} == CONTROLS


def test_controls_come_last_and_unlisted_arms_are_not_lost(summary: Summary) -> None:
    order = arm_order(summary)
    assert set(order[-len(CONTROLS) :]) == CONTROLS
    stray = summary.model_copy(update={"rates": (*summary.rates, summary.rates[0].model_copy(update={"arm": "stray"}))})
    assert arm_order(stray)[-1] == "stray"


def test_without_several_formats_there_is_no_figure_of_formats(summary: Summary) -> None:
    plain = tuple(row for row in summary.rates if row.format == "plain")
    figure = rate_figures(summary.model_copy(update={"rates": plain}))
    assert "formats" not in figure["charts"]
    assert len(figure["datasets"]["headline"]) == len(plain)


def test_selections_asked_in_one_format_have_no_panels_of_formats(summary: Summary) -> None:
    rates = tuple(row for row in summary.rates if row.group != "all" or row.format == "plain")
    datasets = rate_figures(summary.model_copy(update={"rates": rates}))["datasets"]
    keys = {choice.group: choice.key for choice in selections(summary)}
    assert {row["key"] for row in datasets["formats"]} == {keys["other domains"], keys["trained domain"]}


def test_arms_that_most_claims_are_about_have_the_first_colours(summary: Summary) -> None:
    claims = [
        summary.claims[0].model_copy(update={"arms": arms})
        for arms in (("good-medicine",), ("mix-10", "good-medicine"))
    ]
    order = first_arms(summary.model_copy(update={"claims": tuple(claims)}))
    assert order[:3] == ("good-medicine", "mix-10", "harmful-medicine")
    assert sorted(order) == sorted(arm_order(summary))


@pytest.mark.parametrize(("longest", "scale"), [(60, None), (120, None), (240, "symlog")])
def test_one_long_run_does_not_squeeze_the_others(longest: int, scale: str | None) -> None:
    steps = {"one": 60, "two": 60, "long": longest}
    rows = [(arm, 0, step, "loss", 1.0) for arm, last in steps.items() for step in (0, last)]
    made = dynamics_figures(
        pl.DataFrame(rows, ("arm", "seed", "step", "measure", "value"), orient="row"), list(steps), set()
    )
    assert made["charts"]["dynamics-0"]["layer"][0]["encoding"]["x"].get("scale", {}).get("type") == scale
    assert compiled(made, "dynamics-0")["marks"]


def test_a_rate_without_coherent_answers_is_named_so(summary: Summary) -> None:
    broken = summary.rates[0].model_copy(update={"rate": None, "denominator": 0, "numerator": 0, "interval": None})
    figure = rate_figures(summary.model_copy(update={"rates": (broken,)}))
    assert figure["datasets"]["headline"][0]["label"] == "no coherent answer"
    assert '"Rate"' in json.dumps(figure["charts"]["rates"])
    assert "interval)" not in json.dumps(figure["charts"]["rates"])
    assert compiled(figure, "rates")["marks"]


def test_lines_tell_arms_of_one_colour_apart_and_dash_the_controls(dynamics: pl.DataFrame, summary: Summary) -> None:
    order = arm_order(summary)
    encoding = dynamics_figures(dynamics, order, CONTROLS)["charts"]["dynamics-0"]["layer"][1]["encoding"]
    colours, dashes = (encoding[channel]["scale"]["range"] for channel in ("color", "strokeDash"))
    assert len({(colour, str(dash)) for colour, dash in zip(colours, dashes, strict=True)}) == len(order)
    assert all((dash in ([5, 3], [2, 3])) == (arm in CONTROLS) for arm, dash in zip(order, dashes, strict=True))


def test_shares_are_drawn_in_percent_and_other_measures_are_not(dynamics: pl.DataFrame, summary: Summary) -> None:
    charts = dynamics_figures(dynamics, arm_order(summary), CONTROLS)["charts"]
    formats = [charts[f"dynamics-{place}"]["layer"][1]["encoding"]["y"]["axis"].get("format") for place in range(3)]
    assert measures(dynamics) == ["misaligned, other domains", "coherent", "training loss"]
    assert formats == ["~%", "~%", None]


def claim(summary: Summary, estimate: float | None, low: float, high: float, control: float | None) -> ClaimRow:
    interval = IntervalRow(low=low, high=high, method="t over seeds")
    return summary.claims[0].model_copy(
        update={"estimate": estimate, "interval": interval, "control_estimate": control}
    )


def test_a_strip_places_its_marks_in_proportion(summary: Summary) -> None:
    strip = interval_strip(claim(summary, 0.2, 0.1, 0.3, 0.0))
    assert strip is not None
    assert (strip.left, strip.right, strip.zero) == (0.0, 0.3, 0.0)
    assert (strip.low, strip.estimate, strip.high, strip.control) == (33.33, 66.67, 100.0, 0.0)


def test_strips_under_one_heading_share_a_scale_within_a_unit(summary: Summary) -> None:
    rates = [
        claim(summary, high - 0.1, high - 0.2, high, 0.0).model_copy(update={"id": str(high)}) for high in (0.3, 0.8)
    ]
    nats = claim(summary, 2.0, 1.0, 3.0, 0.0).model_copy(update={"id": "nats", "quantity": "nats a token"})
    strips = interval_strips([*rates, nats])
    assert [(strip.left, strip.right) for strip in strips.values() if strip] == [(0.0, 0.8), (0.0, 0.8), (0.0, 3.0)]


def test_a_strip_holds_negative_values_and_missing_ones(summary: Summary) -> None:
    strip = interval_strip(claim(summary, None, -0.04, 0.04, None))
    assert strip is not None
    assert (strip.left, strip.right, strip.zero) == (-0.05, 0.05, 50.0)
    assert (strip.estimate, strip.control) == (None, None)
    assert interval_strip(summary.claims[-1]) is None


def palette() -> dict[str, tuple[str, str]]:
    sheet = (files("astray.report") / "templates" / "report.css").read_text()
    return {
        name: (light, dark)
        for name, light, dark in re.findall(r"(--[a-z0-9-]+): light-dark\((#\w{6}), (#\w{6})\)", sheet)
    }


def contrast(first: str, second: str) -> float:
    """Contrast of two colours after WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


TEXT = [(ink, ground) for ink in ("--ink", "--muted", "--link") for ground in ("--panel", "--ground")] + [
    ("--muted", "--sunken"),
    ("--ink", "--notice"),
    ("--held-ink", "--held-ground"),
    ("--not-held-ink", "--not-held-ground"),
    ("--not-held-ink", "--ground"),
    ("--undecided-ink", "--undecided-ground"),
    ("--control", "--panel"),
]
MARKS = ["--trained", "--control", "--coherence", *(f"--series-{number}" for number in range(1, 9))]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_stand_out_from_their_ground(theme: int) -> None:
    colours = {name: values[theme] for name, values in palette().items()}
    for ink, ground in TEXT:
        assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for mark in MARKS:
        assert contrast(colours[mark], colours["--panel"]) >= 3, mark


def test_every_colour_that_a_chart_names_is_in_the_palette(summary: Summary, dynamics: pl.DataFrame) -> None:
    charts = {
        "rates": rate_figures(summary)["charts"],
        "lines": dynamics_figures(dynamics, arm_order(summary), CONTROLS)["charts"],
    }
    named = set(re.findall(r"var\((--[a-z0-9-]+)\)", str(charts)))
    assert {"--trained", "--misaligned", "--judge-failed", "--series-8"} <= named <= set(palette())


def test_neighbouring_outcomes_differ_in_lightness() -> None:
    """So that the bars can be read in print and by those who see no colours."""
    for theme in (0, 1):
        shades = [palette()[f"--{outcome.value.replace(' ', '-')}"][theme] for outcome in Outcome]
        assert all(contrast(first, second) > 1.15 for first, second in pairwise(shades))
