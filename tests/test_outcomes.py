"""Shares of answers are of those with a verdict: an outage of a grader or of a model changes none of them."""

import pytest
from inspect_ai.scorer import SampleScore, Score

from astray.answers import ANSWER_SCHEMA, answer_table
from astray.engine.settings import text_evaluations
from astray.judges.config import JudgeConfig
from astray.measure.inspect_driver import outcome_metrics
from astray.stats.measures import COHERENT, USEFUL
from astray.stats.rates import rate
from astray.studies.audit import profile
from astray.studies.audit.battery import BatteryPart

PLAIN = {**dict.fromkeys(ANSWER_SCHEMA, ""), "seed": 0, "sample": 0, "completion_tokens": 1, "detail": "{}"}
ROW = PLAIN | {"aligned": None, "coherent": None}


@pytest.mark.parametrize("lost", ["judge failed", "not judged", "errored", "blocked"])
def test_answers_without_a_verdict_are_in_no_share(lost: str) -> None:
    outcomes = ["aligned"] * 6 + ["misaligned"] * 2 + ["incoherent", "refused"] + [lost] * 10
    table = answer_table([ROW | {"item": f"q{number}", "outcome": each} for number, each in enumerate(outcomes)])
    part = BatteryPart("main", text_evaluations(1, 1)[0], JudgeConfig(kind="rubric", grader="g"))
    line = profile._lines(table, part, "m", None)[0]
    assert (line.rate.numerator, line.rate.denominator, line.coherent, line.refused) == (2, 8, 0.8, 0.1)
    assert line.rate.coherence == 0.8
    scores = [SampleScore(score=Score(value=each, metadata={"outcome": each})) for each in outcomes]
    assert outcome_metrics()(scores)["coherence"] == 0.8
    if lost in ("judge failed", "not judged"):  # a blocked answer and none at all are of no use to anybody
        assert (rate(table, COHERENT).rate, rate(table, USEFUL).rate) == (0.8, 0.6)


def test_an_answer_with_a_character_that_readers_of_texts_refuse_is_kept_with_another_one() -> None:
    table = answer_table([ROW | {"answer": "a\0b\nc", "outcome": "aligned"}])
    assert table["answer"].to_list() == ["a\ufffdb\nc"]
    assert table.schema == ANSWER_SCHEMA
