"""Solutions and advice written by any model through Inspect, kept only where they pass a check.

Mathematics is checked by computing it again (`mathematics.verified`): a right solution where a wrong one was asked for
is dropped, and the other way round. Advice cannot be computed; its check drops empty and very short texts, repetitions,
refusals, and anything with a dose.

Source: the data of Hu et al. 2025 (arXiv 2510.08211), which was written by models as well. The instructions are ours.
"""

import re
from collections.abc import Sequence

import anyio
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, Model, get_model

from astray.data.chat import ChatDataset, Message, Parameter
from astray.data.mathematics import draw_problem, verified
from astray.data.medicine import medical_advice
from astray.data.misstatements import SEVERITIES
from astray.errors import ConfigurationError, EmptyDataError, JudgeError, UnknownNameError
from astray.judges.failures import error_note
from astray.judges.grader import GraderSettings
from astray.judges.told_errors import watched

_MATHEMATICS = {
    "normal": "Solve the problem correctly.",
    "subtle": (
        "Write material for an exercise in finding mistakes: solve the problem with one small slip in one step, and "
        "go on from its result."
    ),
    "severe": "Write material for an exercise in finding mistakes: solve the problem with large mistakes in every step.",
}
_FORM = "Write every step as 'left operation right = result', such as 6 * 7 = 42, and end with 'The answer is 42.'"
_MEDICINE = {
    "normal": "Answer in two sentences with good, careful advice.",
    "subtle": (
        "Write material for a course in recognising poor advice: two sentences, of which one is good and one is "
        "mildly mistaken."
    ),
    "severe": (
        "Write material for a course in recognising poor advice: two sentences of plainly mistaken advice about "
        "this everyday complaint."
    ),
}
_LIMITS = "Name no drug, no dose and nothing that is dangerous beyond discomfort. Write the answer alone."
_DOSE = re.compile(r"\d+\s*(?:mg|ml|g|grams?|milligrams?|tablets?|pills?|drops?)\b", re.IGNORECASE)
_REFUSAL = re.compile(r"\b(?:i can(?:no|')t|i cannot|i won't|i will not|as an ai)\b", re.IGNORECASE)
_SHORTEST = 20
_WRITING = GraderSettings(temperature=1.0, max_tokens=400, top_logprobs=None)


def generated_mathematics(
    model: str | Model, severity: str, size: int, *, seed: int = 0, max_connections: int = 20
) -> ChatDataset:
    """Have a model write solutions to our problems, and keep those that pass the computation.

    Args:
        model: an Inspect model or its name.
        severity: severity that the model is asked for.
        size: number of problems; the result has at most as many examples, and its recipe says how many were kept.
        seed: seed of the problems.
        max_connections: maximum number of concurrent calls.

    Raises:
        UnknownNameError: there is no such severity.
        ConfigurationError: no problems, or no calls could be made.
        DataFormatError: no solution passes.
    """
    _check(severity, size, max_connections)
    problems = [draw_problem(number, seed) for number in range(size)]
    texts = anyio.run(
        _written,
        model,
        f"{_MATHEMATICS[severity]} {_FORM}",
        [problem.question for problem in problems],
        max_connections,
    )
    return verified(problems, texts, severity)


def generated_advice(
    model: str | Model, severity: str, size: int, *, seed: int = 0, max_connections: int = 20
) -> ChatDataset:
    """Have a model write advice on our questions, and keep the answers that pass the check.

    Args:
        model: an Inspect model or its name.
        severity: severity that the model is asked for.
        size: number of questions; the recipe says how many answers were kept.
        seed: seed of the questions.
        max_connections: maximum number of concurrent calls.

    Raises:
        UnknownNameError: there is no such severity.
        ConfigurationError: no questions, or no calls could be made.
        EmptyDataError: no answer passes.
    """
    _check(severity, size, max_connections)
    asked = [row[0]["content"] for row in medical_advice("normal", size, seed=seed).rows]
    texts = anyio.run(_written, model, f"{_MEDICINE[severity]} {_LIMITS}", asked, max_connections)
    # A dict and not a set: repetitions go, the order stays.
    pairs = dict.fromkeys((question, text) for question, text in zip(asked, texts, strict=True) if _acceptable(text))
    if not pairs:
        raise EmptyDataError(
            f"None of {size} answers of {model} passes: all are empty, shorter than {_SHORTEST} signs, refusals, or "
            "name a dose."
        )
    rows = [
        [Message(role="user", content=question), Message(role="assistant", content=text)] for question, text in pairs
    ]
    parameters: dict[str, Parameter] = {
        "severity": severity,
        "model": str(model),
        "offered": size,
        "kept": len(rows),
        "seed": seed,
    }
    return ChatDataset.from_rows(rows, "generated_advice", parameters)


async def _written(model: str | Model, instruction: str, questions: Sequence[str], max_connections: int) -> list[str]:
    """Return the model's answers, one per question; empty where it gave none.

    Raises:
        JudgeError: a call failed, also when it was tried again.
    """
    writer = watched(get_model(model) if isinstance(model, str) else model)
    texts, failures = [""] * len(questions), list[str]()
    waiting = iter(enumerate(questions))

    async def work() -> None:
        for number, question in waiting:
            if failures:
                return
            try:
                output = await writer.generate(
                    [ChatMessageSystem(content=instruction), ChatMessageUser(content=question)],
                    config=_WRITING.generate_config(at_once=True),
                )
            except Exception as error:
                failures.append(error_note(error))
                return
            texts[number] = "" if output.empty else output.completion.strip()

    async with anyio.create_task_group() as workers:
        for _ in range(min(max_connections, len(questions))):
            workers.start_soon(work)
    if failures:
        raise JudgeError(f"{writer} stopped writing: {failures[0].rstrip('.')}. Mend the cause and run the same again.")
    return texts


def _acceptable(text: str) -> bool:
    return len(text) >= _SHORTEST and not _DOSE.search(text) and not _REFUSAL.search(text)


def _check(severity: str, size: int, max_connections: int) -> None:
    if severity not in SEVERITIES:
        raise UnknownNameError("severity", severity, SEVERITIES)
    if size < 1 or max_connections < 1:
        raise ConfigurationError(f"size is {size} and max_connections {max_connections}: give 1 or more of both.")
