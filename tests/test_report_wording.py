"""Numbers on a page read as a person would write them."""

from pathlib import Path

import pytest

from astray.engine.summary import IntervalRow, Summary
from astray.report.wording import amount, count, decimal, interval_text, level, p_value, percent, signed, tick


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1984, "19.8%"),
        (0.0004, "0.04%"),
        (0.0, "0%"),
        (1.0, "100%"),
        (0.9999, "99.99%"),
        (-0.034, "−3.4%"),
        (0.00099, "0.10%"),
        (0.000012, "0.0012%"),
        (None, "–"),
    ],
)
def test_percentages_keep_what_is_rare_visible(value: float | None, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(
    ("value", "in_table", "change"),
    [
        (0.1334, "0.13", "+0.133"),
        (0.0034, "0.0034", "+0.0034"),
        (-0.00042, "−0.00042", "−0.00042"),
        (1e-12, "0", "0"),
        (float("nan"), "nan", "+nan"),
    ],
)
def test_a_small_reading_is_no_bare_zero(value: float, in_table: str, change: str) -> None:
    assert (decimal(value), signed(value)) == (in_table, change)
    assert amount(0.0004, "nats a token") == "0.00040 nats a token"


def test_an_interval_names_both_ends_and_a_missing_one_is_a_dash() -> None:
    assert interval_text(IntervalRow(low=-0.021, high=0.263, method="t")) == "−2.1 to 26.3%"
    assert interval_text(None) == "–"


@pytest.mark.parametrize(
    ("value", "text"), [(0.00004, "< 0.001"), (0.034, "= 0.034"), (0.6312, "= 0.63"), (1.0, "= 1.00"), (None, "–")]
)
def test_p_values(value: float | None, text: str) -> None:
    assert p_value(value) == text


def test_levels_counts_and_ends_of_scales() -> None:
    assert level(IntervalRow(low=0, high=1, level=0.995, method="t")) == "99.5%"
    assert count(12400) == "12,400"
    assert [tick(value) for value in (0.5, 0.005, -0.05)] == ["50%", "0.5%", "−5%"]


def test_a_notebook_shows_the_claims_of_a_study() -> None:
    shown = Summary.read(Path(__file__).parents[1] / "gallery" / "emergent-misalignment")._repr_html_()
    assert "<strong>Emergent misalignment</strong> (organism)" in shown
    assert "misalign the model elsewhere</td><td>held</td><td>49.5 points</td><td>43.0 to 56.1</td>" in shown
