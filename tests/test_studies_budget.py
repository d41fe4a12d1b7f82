"""A budget of tokens for graders: asking ends when it is spent, what was judged is kept, and the next command judges
the rest alone."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
from inspect_ai.model import ModelAPI, ModelOutput, ModelUsage, modelapi

from astray.answers import answer_table, read_answers
from astray.artifacts import Artifact, Ledger, Store, execute, step
from astray.engine.options import StudyOptions, checked
from astray.engine.settings import setting_for
from astray.engine.steps import ANSWERS_FILE, AnswerConfig, judge
from astray.errors import ConfigurationError, StepFailedError
from astray.judges import judge_answers
from astray.judges.config import JudgeConfig, make_judge
from astray.judges.failures import Cause, count_causes
from astray.measure.asking import Item
from astray.measure.evaluation import QuestionSet
from astray.subjects.spec import Sampling

TOKENS, ANSWERS = 1000, 40
"""Tokens of a call, and answers of each evaluation; the rubric asks twice about each."""
GRADER = JudgeConfig(kind="rubric", grader="metered/model")
CALLS: list[str] = []


@modelapi(name="metered")
def metered_provider() -> type[ModelAPI]:
    """A paid grader, which counts its calls."""

    class MeteredAPI(ModelAPI):
        async def generate(self, input, tools, tool_choice, config) -> ModelOutput:  # type: ignore[no-untyped-def]
            CALLS.append(str(input[-1].content))
            output = ModelOutput.from_content("metered/model", "85")
            output.usage = ModelUsage(input_tokens=TOKENS - 1, output_tokens=1, total_tokens=TOKENS)
            return output

    return MeteredAPI


def questions(name: str) -> QuestionSet:
    items = tuple(
        Item(question_id=f"{name}-{number}", category="any", question=f"Question {number} of {name}?")
        for number in range(ANSWERS)
    )
    return QuestionSet(name=name, items=items, samples=1, sampling=Sampling(max_tokens=8))


@step("budget-toy-answers", version=1)
def toy_answers(config: AnswerConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Leave an answer of a subject to each question."""
    whose = {
        "arm": config.arm,
        "seed": config.seed,
        "subject": "s",
        "outcome": "judge failed",
        "judge": "",
        "note": "not judged yet",
        "detail": "",
    }
    none = {"aligned": None, "coherent": None, "completion_tokens": 1}
    rows = [
        whose | none | {"evaluation": each.name, "answer": "Good."} | one.columns()
        for each in config.evaluations
        for one in each.askings()
    ]
    answer_table(rows).write_parquet(folder / ANSWERS_FILE)


@step("budget-toy-analysis", version=1)
def toy_analysis(config: JudgeConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Judge the answers as an analysis does, which has no use for a part of the verdicts."""
    judge_answers(make_judge(config), read_answers(inputs["answers"].path / ANSWERS_FILE)).write_parquet(
        folder / ANSWERS_FILE
    )


def asked():  # type: ignore[no-untyped-def]
    evaluations = (questions("first"), questions("second"))
    return toy_answers.step(AnswerConfig(base="b", base_id="i", evaluations=evaluations, arm="a", seed=0))


def judged(folder: Path, tokens: int | None) -> tuple[pl.DataFrame, str]:
    """Verdicts of a run with this budget, and what it has left."""
    CALLS.clear()
    verdicts, store = judge.step(GRADER, answers=asked()), Store(folder)
    if tokens is None:
        artifact = execute([verdicts], store, workers=0)[verdicts.key]
    else:
        with Ledger.opened(folder, tokens) as ledger:
            artifact = execute([verdicts], store, workers=0, ledger=ledger)[verdicts.key]
            assert ledger.spent == TOKENS * len(CALLS)
    return read_answers(artifact.path / ANSWERS_FILE), artifact.manifest.provisional


@pytest.mark.parametrize("budget", [1, 7 * TOKENS, 110 * TOKENS])
def test_judging_ends_with_the_budget_and_goes_on_where_it_was(budget: int, tmp_path: Path) -> None:
    whole, left = judged(tmp_path / "whole", None)
    every = len(CALLS)
    assert (left, whole.height, set(whole["outcome"])) == ("", 2 * ANSWERS, {"aligned"})
    some, left = judged(tmp_path / "some", budget)
    first = len(CALLS)
    unjudged = some.filter(outcome="judge failed")
    assert 0 < first < every
    assert first - budget / TOKENS <= 2 * 20  # what was under way is finished: twenty answers at a time
    assert set(count_causes(unjudged["note"])) == {Cause.BUDGET}
    assert left == f"{unjudged.height} of {some.height} answers have no verdict, since the budget is spent"
    kept = some.filter(outcome="aligned").select("evaluation", "question", "judge")
    rest, left = judged(tmp_path / "some", None)
    assert left == ""
    assert rest.equals(whole)
    assert len(CALLS) == 2 * unjudged.height  # both tasks of the rubric, of these answers alone
    assert not {text for text in kept["question"] if any(f"{text}" in call for call in CALLS)}
    assert judged(tmp_path / "some", None)[0].equals(whole)
    assert CALLS == []


def test_an_analysis_that_is_refused_a_verdict_leaves_none_of_them(tmp_path: Path) -> None:
    """A part of the verdicts would be a wrong result and no short one: judges turn every error into a missing value."""
    analysis, store = toy_analysis.step(GRADER, answers=asked()), Store(tmp_path)
    with (
        Ledger.opened(tmp_path, 7 * TOKENS) as ledger,
        pytest.raises(StepFailedError, match=r"budget of 0\.007 million tokens is spent.*larger --budget"),
    ):
        execute([analysis], store, workers=0, ledger=ledger)
    assert store.get(analysis.key) is None
    with Ledger.opened(tmp_path, 1000 * TOKENS) as ledger:
        made = execute([analysis], store, workers=0, ledger=ledger)[analysis.key]
    assert set(read_answers(made.path / ANSWERS_FILE)["outcome"]) == {"aligned"}


def test_a_budget_is_that_of_a_grader_and_the_organism_has_none(tiny_qwen2: Path) -> None:
    real = checked(StudyOptions, subject=str(tiny_qwen2), grader="mockllm/model", budget=1.5)
    assert setting_for(real).budget == 1_500_000
    with pytest.raises(
        ConfigurationError, match=r"--budget 1\.5 is of no use here: the organism has rows and a judge of its own"
    ):
        setting_for(checked(StudyOptions, budget=1.5))
    with pytest.raises(ConfigurationError, match="--budget 0"):
        checked(StudyOptions, budget=0)
