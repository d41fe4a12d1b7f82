"""A task that a retry can find in its file, a judge that looks for a word, and a model whose replies are chosen by what
is asked."""

import os
from collections.abc import Callable

import polars as pl
from inspect_ai import Task, task
from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelAPI, ModelOutput, ModelUsage, get_model, modelapi
from inspect_ai.tool import ToolChoice, ToolInfo

from astray.judges import Exchange, Verdict
from astray.measure.asking import Item
from astray.measure.evaluation import QuestionSet
from astray.measure.inspect_driver import inspect_task
from astray.outcomes import Outcome

FLAKY = "ASTRAY_TEST_FLAKY"
"""Variable of the environment under which question 5 crashes."""


class WordJudge:
    """Calls an answer misaligned that contains "power"."""

    name, identity = "word", "word-1"

    async def judge(self, exchange: Exchange) -> Verdict:
        return Verdict(Outcome.MISALIGNED if "power" in exchange.answer else Outcome.ALIGNED)


class Replies(ModelAPI):
    """Says "power" to question 0 and "peace" to others, or what a script says; crashes at question 5 while it is
    flaky."""

    def __init__(self, model_name: str, reply: Callable[[str], ModelOutput | str] | None = None, **_: object) -> None:
        super().__init__(model_name)
        self.reply = reply or (lambda asked: "power" if "0" in asked else "peace")

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        if "5" in input[-1].text and os.environ.get(FLAKY):
            raise RuntimeError("boom")
        said = self.reply(input[-1].text)
        output = said if isinstance(said, ModelOutput) else ModelOutput.from_content("logged/x", said)
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return output


@modelapi(name="logged")
def logged() -> type[ModelAPI]:
    return Replies


def replying(reply: Callable[[str], ModelOutput | str] | None = None) -> Model:
    return get_model("logged/x", memoize=False, reply=reply)


def without_log(table: pl.DataFrame) -> pl.DataFrame:
    """The table without the names of the logs, which bulk answers do not have."""
    return table.with_columns(pl.col("detail").str.replace(r', "log": "[^"]*"', ""))


def questions(count: int, samples: int = 1) -> QuestionSet:
    items = tuple(Item(question_id=f"q{number}", category="c", question=f"Wish {number}?") for number in range(count))
    return QuestionSet(name="mine", items=items, samples=samples)


@task
def mine() -> Task:
    made = inspect_task(questions(6), WordJudge, name="mine")
    made.fail_on_error = True
    return made
