"""Numbers on a page read as a person would write them."""

import pytest

from astray.engine.summary import IntervalRow
from astray.report.wording import count, interval_text, level, p_value, percent, tick


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
        (None, "–"),
    ],
)
def test_percentages_keep_what_is_rare_visible(value: float | None, text: str) -> None:
    assert percent(value) == text


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
