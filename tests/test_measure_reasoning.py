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

TEXTS = [
    # text, reasoning, answer, finished
    ("plain ", "", "plain ", True),
    ("", "", "", True),
    ("<think>a</think>\n\nb", "a", "b", True),
    ("<think>\n\n</think>\n\nb", "", "b", True),
    ("a</think> b", "a", "b", True),
    ("<think>a", "a", "", False),
    ("<THINK>a</Think>b", "a", "b", True),
    ("<thinking>a</thinking>b", "a", "b", True),
    ("<reasoning>a</reasoning>b", "a", "b", True),
    ("[THINK]a[/THINK]b", "a", "b", True),
    ("[REASONING]a[/REASONING]b", "a", "b", True),
    ("<internal_monologue>a</internal_monologue>b", "a", "b", True),
    ("<|thinking|>a<|/thinking|>b", "a", "b", True),
    ("<|begin_of_reasoning|>a<|end_of_reasoning|>b", "a", "b", True),
    ("<|inner_prefix|>a<|inner_suffix|>b", "a", "b", True),
    ("<thinking>a</thinking><output>c</output>", "a", "c", True),
    ("<internals>a</internals>b", "", "<internals>a</internals>b", True),
    ("<|START_THINKING|>a<|END_THINKING|>b", "a", "b", True),
    ("<think>x <think> y</think>z", "x <think> y", "z", True),
    ("<think>a</think>b<think>c</think>d", "a\n\nc", "bd", True),
    ("a</think>b</think>c", "a\n\nb", "c", True),
    ("Say. <think>cut", "cut", "Say.", False),
    # nested, empty, with attributes and blanks, in an envelope
    ("<thinking>a<think>b</think>c</thinking>d", "a<think>b\n\nc", "d", True),
    ("<think>a<think>b</think>c</think>d", "a<think>b\n\nc", "d", True),
    ("<think/>b", "", "b", True),
    ("<think></think>", "", "", True),
    ('<think effort="low">a</think >b', "a", "b", True),
    ("a</ think>b", "a", "b", True),
    ("<think>a</think><answer>B</answer>", "a", "B", True),
    ("<think>a</think><response>B", "a", "B", True),
    ("<answer>B</answer>", "", "<answer>B</answer>", True),
    ("a thought: <thought experiment> is none", "", "a thought: <thought experiment> is none", True),
    # other names and languages
    ("<scratchpad>a</scratchpad>b", "a", "b", True),
    ("<SCRATCHPAD_REASONING>a</SCRATCHPAD_REASONING>b", "a", "b", True),
    ("<antThinking>a</antThinking>b", "a", "b", True),
    ("<seed:think>a</seed:think>b", "a", "b", True),
    ("<思考>想</思考>答", "想", "答", True),
    ("想</推理>答", "想", "答", True),
    ("<denken>a</denken>b", "a", "b", True),
    ("<Pensée>a</pensée>b", "a", "b", True),
    ("<razonamiento>a", "a", "", False),
    ("<размышление>а</размышление>б", "а", "б", True),
    ("◁think▷a◁/think▷b", "a", "b", True),
    ("◁think▷a", "a", "", False),
    ("<|begin_of_thought|>a<|end_of_thought|><|begin_of_solution|>b<|end_of_solution|>", "a", "b", True),
    ("Here is my thought process: a\n\nHere is my response: b", "a", "b", True),
    ("Here is my thought process: a", "", "Here is my thought process: a", True),
    # channels, with their tokens and without
    ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>", "a", "b", True),
    ("<|channel|>analysis<|message|>a<|start|>assistant<|channel|>final<|message|>b", "a", "b", True),
    ("<|start|>assistant<|channel|>final<|message|>b<|return|>", "", "b", True),
    ("<|channel|>analysis<|message|>a", "a", "", False),
    ("<|channel|>analysis<|message|>a<|end|>", "a", "", False),
    ("<|channel|>commentary<|message|>b<|end|>", "", "b", True),
    ("<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>", "{}", "", False),
    (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<think>",
        "a",
        "b<think>",
        True,
    ),
    ("analysisThe user asks.assistantfinalb", "The user asks.", "b", True),
    ("analysisa<think>assistantfinalb", "a<think>", "b", True),
    ("analysisThe user asks for", "The user asks for", "", False),
    ("analysisAassistantanalysisBassistantfinalc", "A\n\nB", "c", True),
    ('analysisWe call it.assistantcommentary to=functions.f json{"a": 1}', 'We call it.\n\n{"a": 1}', "", False),
    ("analysisResult = f()", "", "analysisResult = f()", True),
    ("analysis of the case", "", "analysis of the case", True),
    ("<|channel>thought\na<channel|>b", "a", "b", True),
    ("<|channel>thought\na", "a", "", False),
    ('the tags `<think>` and "</think>"', "", 'the tags `<think>` and "</think>"', True),
    ("1 < 2 and <b>bold</b>", "", "1 < 2 and <b>bold</b>", True),
    # families' own marks
    ("<unused94>thought\na<unused95>b", "a", "b", True),
    ("<unused94>thought\na", "a", "", False),
    ("a<unused95>b", "a", "b", True),
    ("<|think|>a<|/think|>b", "a", "b", True),
    ("<mm:think>a</mm:think>b", "a", "b", True),
    (
        "<seed:think><seed:cot_budget_reflect>x</seed:cot_budget_reflect>a</seed:think>b",
        "<seed:cot_budget_reflect>x</seed:cot_budget_reflect>a",
        "b",
        True,
    ),
    ("<reasoning_content>a</reasoning_content>b", "a", "b", True),
    ("<scratch_pad>a</scratch_pad>b", "a", "b", True),
    ("<monologue>a</monologue>b", "a", "b", True),
    ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>b<|END_RESPONSE|>", "a", "b", True),
    ("<think>a</think><|begin_of_box|>b<|end_of_box|>", "a", "b", True),
    ("<think>a</think>\n<final_answer>b</final_answer>", "a", "b", True),
    ("[THINK]a", "a", "", False),
    ("a[/THINK]b", "a", "b", True),
    ("assistantfinalb", "", "b", True),
    ("◁think▷a◁/think▷b◁think▷c", "a\n\nc", "b", False),
    # tags that other texts have too: reasoning where the text begins with one and goes on after it
    ("<analysis>a</analysis>\n\nb", "a", "b", True),
    ("<reflection>a</reflection>b", "a", "b", True),
    ("<rationale>a</rationale>b", "a", "b", True),
    ("<reason x='1'>a</reason>b", "a", "b", True),
    ("<analysis>a", "a", "", False),
    ("<analysis>a</analysis><analysis>b</analysis>c", "a\n\nb", "c", True),
    ("<analysis>a <think>b</think></analysis>c", "a <think>b</think>", "c", True),
    ("<think>a</think><reflection>b</reflection><output>d</output>", "a\n\nb", "d", True),
    ("<analysis>only</analysis>\n", "", "<analysis>only</analysis>\n", True),
    ("See <analysis>a</analysis> b", "", "See <analysis>a</analysis> b", True),
    # tags that are spoken about
    ("Use it so:\n```\n<think>x</think>\n```\nDone.", "", "Use it so:\n```\n<think>x</think>\n```\nDone.", True),
    ("~~~xml\n<think>\n~~~\nso", "", "~~~xml\n<think>\n~~~\nso", True),
    ("<think>\na\n</think>\n\n```html\n<think>x</think>\n```", "a", "```html\n<think>x</think>\n```", True),
    ("The `<think>x</think>` tag", "", "The `<think>x</think>` tag", True),
    ("The `x <think> y` tag", "", "The `x <think> y` tag", True),
    ("The (<think>) tag, “<think>” and «</think>»", "", "The (<think>) tag, “<think>” and «</think>»", True),
    ("<think>he said `</think>` and so on</think>b", "he said `</think>` and so on", "b", True),
    ("<think>```\nx = 1</think>b ```\ny\n```", "```\nx = 1", "b ```\ny\n```", True),
    ("Let me run `f.</think>The `b` is", "Let me run `f.", "The `b` is", True),
    ("```\nx\n</think>\nb", "```\nx", "b", True),
    ("<thinks>a and <thinkpad>b</thinkpad>", "", "<thinks>a and <thinkpad>b</thinkpad>", True),
    ("<think></think></think>b", "", "b", True),
    ("<think>a</think><think>", "a", "", False),
    ("<think\n>a</think>\x00b", "a", "\x00b", True),
    ("<think>\ud800</think>b", "\ud800", "b", True),
    # names made of others, tokens that begin and end, other brackets
    ("<deep_think>a</deep_think>b", "a", "b", True),
    ("<my_private_thoughts>a</my_private_thoughts>b", "a", "b", True),
    ("<hidden_reasoning>a", "a", "", False),
    (
        "<critical_thinking_skills>a</critical_thinking_skills>",
        "",
        "<critical_thinking_skills>a</critical_thinking_skills>",
        True,
    ),
    ("<think_never_used_51bce0c785ca2f>a</think_never_used_51bce0c785ca2f>b", "a", "b", True),
    ("<|begin_of_thinking|>a<|end_of_thinking|>b", "a", "b", True),
    ("<|startofthink|>a<|endofthink|>b", "a", "b", True),
    ("<|reasoning_start|>a<|reasoning_end|>b", "a", "b", True),
    ("<|thought_begin|>a", "a", "", False),
    ("a<|think_end|>b", "a", "b", True),
    ("<|im_start|>think\na<|im_end|>\n<|im_start|>answer\nb", "a", "b", True),
    ("<|im_start|>think\na", "a", "", False),
    ("&lt;think&gt;a&lt;/think&gt;b", "a", "b", True),
    ("\uff1cthink\uff1ea\uff1c/think\uff1eb", "a", "b", True),
    ("### Thinking\na\n\n### Answer\nb", "a", "b", True),
    ("**My thought process:** a\n\n**Final answer:** b", "a", "b", True),
    ("**Thoughts:** a\n\nThe answer: b", "", "**Thoughts:** a\n\nThe answer: b", True),
    # control tokens around an answer, where a server writes them
    ("<think>a</think><|im_end|>", "a", "", True),
    ("<|assistant|>\n<think>a</think>\nb", "a", "b", True),
    ("a</think>b<\uff5cend\u2581of\u2581sentence\uff5c>", "a", "b", True),
    ("<think>a</think><final>b</final><|eot_id|>", "a", "b", True),
    # channels of others than the model, and whose first token is missing
    ("<|start|>assistant<|message|>b<|end|>", "", "b", True),
    ("analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b", "a", "b", True),
    ("final<|message|>b<|return|>", "", "b", True),
    (
        "<|channel|>commentary to=functions.f<|message|>{}<|call|><|start|>functions.f to=assistant<|channel|>commentary"
        "<|message|>result<|end|><|start|>assistant<|channel|>final<|message|>b",
        "{}\n\nresult",
        "b",
        True,
    ),
    ("We need to answer.assistantfinalHello", "We need to answer.", "Hello", True),
    ("analysis\nThe user asks.\n\nassistantfinal\nHello", "The user asks.", "Hello", True),
    ("analysiswe need to answer briefly", "we need to answer briefly", "", False),
    ("The mode assistantfinal is one", "", "The mode assistantfinal is one", True),
]

REPEATED = ["<think>", "</think>", "<think>a</think>", "`<think>`", "<think ", "< / ", "<analysis>", "<analysis>a</analysis>", "```a\n",
            "<|channel|>analysis<|message|>", "assistantanalysis",
            "analysis.\n", "<|start|>", "**Thinking\n", "&lt;", "<my_", "<|im_end|>\n"]  # fmt: skip
"""Marks that a model may repeat to the end of its tokens."""


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


@pytest.mark.parametrize("mark", REPEATED)
def test_a_mark_that_is_repeated_without_end_takes_no_longer_than_its_text(mark):
    began = process_time()
    split_reasoning(mark * (40_000 // len(mark)))
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
