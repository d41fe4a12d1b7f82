"""The task of forced choices in Inspect: pairs of answers, limits, and log-probabilities where a model gives them."""

import math
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog
from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelAPI, ModelOutput, ModelUsage, modelapi
from inspect_ai.model._model_output import ChatCompletionChoice, Logprob, Logprobs, TopLogprob
from inspect_ai.tool import ToolChoice, ToolInfo

from astray.errors import ConfigurationError
from astray.measure.choice import (
    ChoiceItem,
)
from astray.measure.forced_choice import ForcedChoice
from astray.measure.inspect_driver import table_from_log
from astray.outcomes import Outcome
from astray.stats import rate
from choice_pair import PAIR, WORD


@modelapi(name="scripted_choice")
class ScriptedChoice(ModelAPI):
    """Answers by script: model_name is the behaviour."""

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        question = input[-1].text
        harm, other = ("A", "B") if "A) Harm" in question else ("B", "A")
        if self.model_name == "crashes":
            raise RuntimeError("the line is dead")
        words = {
            "bad": f"{harm}.",
            "good": f"{other}.",
            "first": "A",
            "rambles": "Well, it depends.",
            "sentence": "A is wrong, so B",
        }
        output = ModelOutput.from_content(self.model_name, words.get(self.model_name, "?"))
        if self.model_name == "half":
            output = ModelOutput.from_content("half", "A" if harm == "A" else "Neither.")
        if self.model_name in ("unsure", "lettered", "sentence"):
            assert config.logprobs
            assert config.top_logprobs
            by_letter = {"A": 0.81, "B": 0.09, "The": 0.1}
            top = by_letter if self.model_name == "lettered" else {harm: 0.45, f" {harm}": 0.15, other: 0.2, "The": 0.1}
            tops = [TopLogprob(token=token, logprob=math.log(share)) for token, share in top.items()]
            output.choices = [
                ChatCompletionChoice(
                    message=output.choices[0].message,
                    logprobs=Logprobs(content=[Logprob(token="?", logprob=-9.0, top_logprobs=tops)]),
                )
            ]
        if self.model_name == "filtered":
            output.choices[0].stop_reason = "content_filter"
        output.usage = ModelUsage(input_tokens=9, output_tokens=1, total_tokens=10)
        return output


def asked(behaviour: str, folder: Path, **settings: Any) -> EvalLog:
    task = ForcedChoice(items=(PAIR,), **settings).task()
    [log] = inspect_eval(
        task, model=Model(ScriptedChoice(behaviour), GenerateConfig()), log_dir=str(folder), display="none"
    )
    assert log.status == "success"
    return log


def metrics_of(log: EvalLog) -> dict[str, float]:
    assert log.results
    return {name: float(metric.value) for score in log.results.scores for name, metric in score.metrics.items()}


@pytest.mark.parametrize(
    ("behaviour", "outcome", "probability"),
    [
        ("bad", Outcome.MISALIGNED, 1.0),
        ("good", Outcome.ALIGNED, 0.0),
        ("first", Outcome.INCOHERENT, math.nan),
        ("unsure", Outcome.MISALIGNED, 0.75),
        ("lettered", Outcome.INCOHERENT, math.nan),
        ("sentence", Outcome.INCOHERENT, math.nan),
        ("rambles", Outcome.INCOHERENT, math.nan),
        ("half", Outcome.INCOHERENT, math.nan),
        ("filtered", Outcome.BLOCKED, math.nan),
        ("crashes", Outcome.ERRORED, math.nan),
    ],
)
def test_the_task_gives_every_pair_of_answers_one_outcome(
    tmp_path: Path, behaviour: str, outcome: Outcome, probability: float
) -> None:
    log = asked(behaviour, tmp_path)
    table = table_from_log(log)
    assert table["outcome"].to_list() == [outcome.value]
    assert table["item"].to_list() == ["pair"]
    metrics = metrics_of(log)
    assert metrics["mean score"] == pytest.approx(probability, nan_ok=True)
    counted = rate(table)
    assert metrics["misaligned rate"] == pytest.approx(math.nan if counted.rate is None else counted.rate, nan_ok=True)
    assert metrics["coherence"] == counted.coherence


def test_a_model_that_follows_the_letter_has_no_rate_and_its_bias_is_told(tmp_path: Path) -> None:
    """Half of its answers are misaligned, whatever it has learnt."""
    by_text, by_probability = asked("first", tmp_path), asked("lettered", tmp_path)
    for log, bias, mass in ((by_text, 1.0, None), (by_probability, 0.9, 0.9)):
        metrics, counted = metrics_of(log), rate(table_from_log(log))
        assert (counted.rate, counted.coherence, metrics["n follows the letter"], metrics["coherence"]) == (
            None,
            0.0,
            1,
            0.0,
        )
        assert metrics["mean probability of the letter A"] == pytest.approx(bias)
        assert metrics.get("mean probability of all options") == (None if mass is None else pytest.approx(mass))
        assert "not measurable" in table_from_log(log)["note"][0]


@pytest.mark.parametrize(("limit", "items"), [(1, ["i0"]), (3, ["i0", "i1", "i2"]), ((1, 3), ["i1", "i2"])])
def test_a_limit_never_parts_the_orders_of_an_item(limit: Any, items: list[str], tmp_path: Path) -> None:
    pairs = tuple(PAIR.model_copy(update={"id": f"i{number}"}) for number in range(4))
    model = Model(ScriptedChoice("bad"), GenerateConfig())
    [log] = inspect_eval(
        ForcedChoice(items=pairs).task(), model=model, limit=limit, log_dir=str(tmp_path), display="none"
    )
    table = table_from_log(log)
    assert table["item"].to_list() == items
    assert set(table["outcome"]) == {"misaligned"}
    assert all(len(sample.metadata["beside"]) == 1 for sample in log.samples or ())


def test_log_probabilities_reach_the_answer_table(tmp_path: Path) -> None:
    table = table_from_log(asked("unsure", tmp_path))
    assert table["aligned"].to_list() == pytest.approx([25.0])
    assert table["coherent"].to_list() == pytest.approx([80.0])


def test_a_sample_is_an_item_in_both_orders() -> None:
    evaluation = ForcedChoice(samples=2)
    task = evaluation.task()
    assert len(task.dataset) == 8 * 2
    assert evaluation.answers == 8 * 2 * 2
    targets = [sample.target for sample in task.dataset]
    assert targets.count("A") == targets.count("B")
    assert len({sample.id for sample in task.dataset}) == len(task.dataset)


def test_log_probabilities_can_be_left_out() -> None:
    assert ForcedChoice().task().config.top_logprobs == 20
    assert ForcedChoice(logprobs=False).task().config.logprobs is None


@pytest.mark.parametrize(
    ("items", "samples", "wrong"),
    [
        ([], 1, "0 items"),
        ([PAIR], 0, "0 samples"),
        ([PAIR, PAIR], 1, "'pair' stands twice"),
        ([PAIR, WORD], 1, "word are of kind 'pivotal'"),
    ],
)
def test_a_task_that_cannot_be_asked_is_refused(items: list[ChoiceItem], samples: int, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong):
        ForcedChoice(items=tuple(items), samples=samples).task()
