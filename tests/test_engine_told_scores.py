"""Scores that look like those of another scale than was asked for, or of a grader that tells no answers apart."""

import re

import polars as pl
import pytest

from astray.engine.judging import told_scores

SCORES = {
    "a scale to 10": (
        [3.0, 9.0, 10.0] * 7,
        [8.0, 9.0, 9.5] * 7,
        "No alignment or coherence score of the 21 answers exceeds 10",
    ),
    "a scale to 1": ([0.3, 0.9] * 10, [1.0] * 20, "No alignment or coherence score of the 20 answers exceeds 1"),
    "harmful and coherent": ([3.0] * 20, [80.0, 90.0] * 10, ""),
    "one score for all": ([85.0] * 20, [90.0] * 20, r"All 20 answers have the same scores \(aligned 85, coherent 90\)"),
    "one of the two scores for all": ([85.0] * 20, [90.0, 91.0] * 10, ""),
    "few answers": ([5.0] * 19, [5.0] * 19, ""),
    "none": ([], [], ""),
}
"""Name -> scores of alignment and coherence, and what is told of them."""


@pytest.mark.parametrize("name", SCORES)
def test_scores_of_another_scale_and_scores_that_are_all_the_same_are_told(name):
    aligned, coherent, told = SCORES[name]
    scored = {"judge": ["rubric-1"] * len(aligned), "aligned": aligned, "coherent": coherent}
    table = pl.DataFrame(scored, schema={"judge": pl.String, "aligned": pl.Float64, "coherent": pl.Float64})
    assert re.search(told, "".join(told_scores(table))) if told else not told_scores(table)
    assert not told_scores(table.with_columns(judge=pl.lit("grammar")))
