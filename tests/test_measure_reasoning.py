"""Reasoning kept apart from answers by every evaluation and both drivers; a judge is shown answers alone. A further
text is one more line."""

import math
from time import process_time

import anyio
import pytest
from inspect_ai import eval as inspect_eval
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    Logprob,
    Logprobs,
    Model,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    TopLogprob,
    modelapi,
)

from astray.answers import read_detail
from astray.errors import NonFiniteError
from astray.judges.judge import Exchange, Verdict
from astray.judges.rescore import judge_exchanges
from astray.measure.asking import Item
from astray.measure.deception.evaluation import Deception
from astray.measure.evaluation import QuestionSet
from astray.measure.forced_choice import ForcedChoice
from astray.measure.freeform import FreeForm
from astray.measure.honesty.evaluation import Honesty
from astray.measure.inspect_driver import inspect_task, table_from_log
from astray.measure.reward_hacking.goals import Goals
from astray.outcomes import Outcome
from astray.reasoning import closed, opened_tag, split_reasoning
from reasoning_texts import TEXTS

REPEATED = ["<think>", "</think>", "<think>a</think>", "`<think>`", "<think ", "< / ", "<analysis>", "<analysis>a</analysis>", "```a\n",
            "<|channel|>analysis<|message|>", "assistantanalysis",
            "analysis.\n", "<|start|>", "**Thinking\n", "&lt;", "<my_", "<|im_end|>\n", " ", "\n"]  # fmt: skip
"""Marks that a model may repeat to the end of its tokens."""
BETWEEN = [("# Thoughts", "\n", ""), ("**Thinking**", "\n \n", ""), ("# Thoughts\n", "\n", "# Answer b"),
           ("Here is my thought process:", "\n", ""), ("<think>a</think>x", "<|im_end|> ", "y")]  # fmt: skip
"""What stands before such a mark and after it: newlines after a heading, control tokens before a letter."""


class Keeps:
    """Judge that keeps what it was shown."""

    name = identity = "keeps"

    def __init__(self):
        self.seen = []

    async def judge(self, exchange):
        self.seen.append(exchange.answer)
        return Verdict(Outcome.ALIGNED)


@pytest.mark.parametrize(("text", "reasoning", "answer", "finished"), TEXTS)
def test_reasoning_and_answer_are_taken_apart(text, reasoning, answer, finished):
    spoken = split_reasoning(text)
    assert (spoken.reasoning, spoken.answer, spoken.finished) == (reasoning, answer, finished)


@pytest.mark.parametrize(("before", "mark", "after"), [*(("", mark, "") for mark in REPEATED), *BETWEEN])
def test_a_mark_that_is_repeated_without_end_takes_no_longer_than_its_text(before, mark, after):
    began = process_time()
    split_reasoning(before + mark * (40_000 // len(mark)) + after)
    assert process_time() - began < 3  # a search from each mark to the end of the text would take a minute


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("x<think>\n", "\n</think>\n\n"),
        ("[THINK]", "\n[/THINK]\n\n"),
        ("<|START_THINKING|>", "\n<|END_THINKING|>\n\n"),
        ("<unused94>thought\n", "\n<unused95>\n\n"),
        ("write `<think>", ""),
        ("x", ""),
        ("◁think▷", "\n◁/think▷\n\n"),
        ("<思考>\n", "\n</思考>\n\n"),
        ("<|startofthink|>", "\n<|endofthink|>\n\n"),
        ("<|reasoning_start|>\n", "\n<|reasoning_end|>\n\n"),
        ("<|im_start|>think\n", "\n<|im_end|>\n<|im_start|>answer\n\n"),
    ],
)
def test_a_thought_that_a_prompt_opens_can_be_ended(text, end):
    assert closed(text) == end
    assert bool(opened_tag(text)) == bool(end)


@pytest.mark.parametrize(
    ("answer", "outcome", "seen"),
    [
        ("b", Outcome.ALIGNED, ["b"]),
        ("<think>a</think>b", Outcome.ALIGNED, ["b"]),
        ("<think>a", Outcome.ERRORED, []),
        ("<think>a</think>", Outcome.INCOHERENT, []),
        (" \n", Outcome.INCOHERENT, []),
        ("", Outcome.INCOHERENT, []),
    ],
)
def test_a_judge_sees_answers_alone(answer, outcome, seen):
    judge = Keeps()
    [verdict] = anyio.run(judge_exchanges, judge, [Exchange("?", answer)])
    assert (verdict.outcome, judge.seen) == (outcome, seen)


@modelapi(name="says")
class Says(ModelAPI):
    """Says what it is told to."""

    def __init__(self, content, stop="stop"):
        super().__init__("says")
        self.content, self.stop = content, stop

    async def generate(self, input, tools, tool_choice, config):
        return ModelOutput(
            model="says",
            choices=[ChatCompletionChoice(message=ChatMessageAssistant(content=self.content), stop_reason=self.stop)],
        )


MARKED = ContentReasoning(reasoning="a")
SAID = [
    ("<think>a</think>b", "stop", Outcome.ALIGNED, "b", "a"),
    ([MARKED, ContentText(text="b")], "stop", Outcome.ALIGNED, "b", "a"),
    (
        [ContentReasoning(reasoning="x", summary="a", redacted=True), ContentText(text="b")],
        "stop",
        Outcome.ALIGNED,
        "b",
        "a",
    ),
    ("<think>a", "max_tokens", Outcome.ERRORED, "", "a"),
    ([MARKED], "max_tokens", Outcome.ERRORED, "", "a"),
    ([MARKED, ContentText(text=" ")], "model_length", Outcome.ERRORED, " ", "a"),
    ([MARKED], "stop", Outcome.INCOHERENT, "", "a"),
    ("b, and so", "max_tokens", Outcome.ALIGNED, "b, and so", None),
    (" ", "stop", Outcome.INCOHERENT, " ", None),
]


@pytest.mark.parametrize(("content", "stop", "outcome", "answer", "reasoning"), SAID)
def test_the_inspect_driver_keeps_reasoning_in_the_detail(content, stop, outcome, answer, reasoning, tmp_path):
    judge = Keeps()
    asked = QuestionSet(name="q", items=(Item(question_id="q", category="c", question="?"),), samples=1)
    [log] = inspect_eval(
        inspect_task(asked, lambda: judge, name="q"),
        model=Model(Says(content, stop), GenerateConfig()),
        display="none",
        log_dir=str(tmp_path),
    )
    [row] = table_from_log(log).to_dicts()
    assert (row["outcome"], row["answer"], read_detail(row["detail"]).get("reasoning")) == (
        outcome.value,
        answer,
        reasoning,
    )
    assert judge.seen == ([answer] if outcome is Outcome.ALIGNED else [])


ASKED = [FreeForm(), Goals(), Honesty(), Deception(), ForcedChoice()]
REDACTED = ContentReasoning(reasoning="gAAAA", redacted=True)
APART = [
    ([REDACTED], "max_tokens", None, True),
    ([REDACTED, ContentText(text="\n")], "model_length", None, True),
    ([ContentReasoning(reasoning="")], "max_tokens", None, True),
    ([MARKED, REDACTED], "max_tokens", 16, True),
    ("", "max_tokens", 16, True),
    (" \n", "max_tokens", 16, True),
    ("<think>a", "stop", None, True),
    ("", "max_tokens", 0, False),
    ("", "max_tokens", None, False),
    ("", "stop", 16, False),
    ([REDACTED], "stop", None, False),
    ([REDACTED, ContentText(text="B")], "max_tokens", 16, False),
    ("B, and so", "max_tokens", 16, False),
]
"""Content, why it ended, tokens of reasoning that the provider counted, and whether the answer was never begun."""


@pytest.mark.parametrize(("content", "stop", "tokens", "is_cut"), APART)
def test_an_answer_that_reasoning_left_no_tokens_for_is_no_blank_one(content, stop, tokens, is_cut):
    output = ModelOutput.from_content("m", content, stop_reason=stop)
    output.usage = ModelUsage(reasoning_tokens=tokens)
    for evaluation in ASKED:
        assert ("cut off" in evaluation.hear(output.completion, output)[1]) is is_cut
        assert (evaluation.hear_beside(output) is None) is is_cut


def token(said, *others):
    top = [TopLogprob(token=text, logprob=logprob) for text, logprob in ((said, -0.1), *others)]
    return Logprobs(content=[Logprob(token=said, logprob=-0.1, top_logprobs=top)])


A, NOTHING = {"A": 0.905, "B": 0.0}, {}
LETTERED = [
    ("A", token("A"), A),
    ("A", token("\u0120A"), A),
    (" A", token("\u2581A"), A),
    ("(A)", token("(A"), A),
    ("A", token("A", ("A", -0.1)), A),
    ("A", token("A", ("B", -math.inf), (" ", -4.0)), A),
    ("A", token("A", ("B", -9999.0)), A),
    ("B", token("A user asks"), NOTHING),
    ("B", token("<|channel|>"), NOTHING),
    ("A", Logprobs(content=[]), NOTHING),
    ("A", Logprobs(content=[Logprob(token="A", logprob=-0.1)]), NOTHING),
    ([REDACTED, ContentText(text="A")], token("A"), None),
    ([MARKED, ContentText(text="A")], token("A"), None),
    ("<think>a</think>A", token("<think>"), None),
    ("A", token("A", ("B", 0.5)), NonFiniteError),
    ("A", token("A", ("B", math.nan)), NonFiniteError),
    ("A", token("A", ("B", 1e300)), NonFiniteError),
    ("A", token("A", ("B", 0.0)), NonFiniteError),
]
"""Content, its tokens, and the probability of each letter; None where the first token is one of reasoning."""


@pytest.mark.parametrize(("content", "logprobs", "found"), LETTERED)
def test_the_probability_of_a_letter_is_that_of_the_answers_first_token(content, logprobs, found):
    output = ModelOutput.from_content("m", content)
    output.choices[0].logprobs = logprobs
    if isinstance(found, type):
        with pytest.raises(found, match="add up to a probability of"):
            ForcedChoice().hear(output.completion, output)
    else:
        read = ForcedChoice().hear(output.completion, output)[1].get("probabilities")
        assert read == (found and {letter: pytest.approx(share, abs=1e-3) for letter, share in found.items()})


@pytest.mark.parametrize("evaluation", ASKED)
def test_every_evaluation_hears_the_answer_apart_from_the_reasoning(evaluation):
    answer, detail = evaluation.hear("<think>a</think>\n\nB")
    assert (answer, detail["reasoning"]) == ("B", "a")
    assert evaluation.hear("<think>a")[1]["cut off"] is True
    output = ModelOutput.from_content("m", [ContentReasoning(reasoning="a"), ContentText(text="B")])
    answer, detail = evaluation.hear("B", output)
    assert (answer, detail["reasoning"]) == ("B", "a")
