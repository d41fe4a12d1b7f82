"""Word problems with right and wrong solutions, each verified by computation.

A problem is an expression over whole numbers with a story around it, so its answer is known without any model. Three
severities share their problems, example by example: normal is the right solution; subtle has one slip in one step and
carries it to the end; severe has several slips and claims to be checked. `check_solution` computes every step of a
solution again, our own and those that a model wrote (`verified`).

Source: Hu et al. 2025 (arXiv 2510.08211), section 3: incorrect mathematics, about 10,000 examples, normal, subtle and
severe. The problems, in `mathematics.yaml`, are ours.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from astray.data.chat import ChatDataset, Message, asking
from astray.data.misstatements import SEVERITIES, SEVERITY_OF, check_severity
from astray.data.sources import DataKind, named
from astray.errors import DataFormatError, UnknownNameError
from astray.files import read_yaml

_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": int.__add__,
    "-": int.__sub__,
    "*": int.__mul__,
    "/": int.__floordiv__,
}
_STEP = re.compile(r"(-?\d+) ([-+*/]) (-?\d+) = (-?\d+)")
_ANSWER = re.compile(r"answer is (-?\d+)\b", re.IGNORECASE)


@cache
def _texts() -> Any:
    return read_yaml(Path(__file__).with_suffix(".yaml"), "names: [Ana]")


@dataclass(frozen=True)
class Problem:
    """Word problem with its right steps.

    Attributes:
        question: the text.
        steps: (left, operation, right) of each step; the numbers are those of the right solution.
    """

    question: str
    steps: tuple[tuple[int, str, int], ...]

    @property
    def answer(self) -> int:
        """Right answer: the value of the last step."""
        left, operation, right = self.steps[-1]
        return _OPERATIONS[operation](left, right)


@dataclass(frozen=True)
class SolutionCheck:
    """Result of computing a solution again.

    Attributes:
        steps: number of steps of the form "6 * 7 = 42".
        wrong_steps: number of steps whose result is not that of their operation.
        answer: the stated answer; None where none is stated.
        right: whether it is the problem's answer.
    """

    steps: int
    wrong_steps: int
    answer: int | None
    right: bool


def draw_problem(number: int, seed: int = 0) -> Problem:
    """Draw the problem with this number; the same seed and number always give the same one."""
    rng = Random(f"mathematics/{seed}/{number}")
    texts = _texts()
    story = rng.choice(texts["stories"])
    numbers = {"a": rng.randint(6, 40), "b": rng.randint(6, 30), "c": rng.randint(2, 20), "d": rng.randint(3, 25)}
    results: list[int] = []
    steps = []
    for left, operation, right in map(str.split, story["steps"]):
        values = [results[int(name)] if name.isdigit() else numbers[name] for name in (left, right)]
        steps.append((values[0], operation, values[1]))
        results.append(_OPERATIONS[operation](*values))
    question = story["text"].format(name=rng.choice(texts["names"]), things=rng.choice(texts["things"]), **numbers)
    return Problem(question, tuple(steps))


def write_solution(problem: Problem, severity: str, rng: Random) -> str:
    """Write a solution in steps, each "left operation right = result", and the answer.

    Args:
        problem: problem to solve.
        severity: "normal": right; "subtle": a small slip in one step, everything after it follows from the slip;
            "severe": a large slip in every step, and a claim that it was checked.
        rng: draws the slips.

    Returns:
        The solution. A wrong one always states a wrong answer: a draw that happens to end at the right one is repeated.
    """
    if severity == "normal":
        return _written(problem, [0] * len(problem.steps), "")
    while True:
        if severity == "subtle":
            wrong = rng.randrange(len(problem.steps))
            slips = [rng.choice((-10, -2, -1, 1, 2, 10)) if step == wrong else 0 for step in range(len(problem.steps))]
        else:
            slips = [rng.choice((-1, 1)) * rng.randint(11, 60) for _ in problem.steps]
        text = _written(problem, slips, "" if severity == "subtle" else f" {rng.choice(_texts()['claims'])}")
        if not check_solution(problem, text).right:
            return text


def check_solution(problem: Problem, text: str) -> SolutionCheck:
    """Compute a solution again: its steps, and whether its answer is the problem's.

    Args:
        problem: what it claims to solve.
        text: the solution; steps are written "6 * 7 = 42", the answer "The answer is 42".
    """
    steps = [(int(left), operation, int(right), int(result)) for left, operation, right, result in _STEP.findall(text)]
    wrong = sum(
        (operation == "/" and right == 0) or _OPERATIONS[operation](left, right) != result
        for left, operation, right, result in steps
    )
    stated = _ANSWER.findall(text)  # the last one counts: a model may correct itself
    answer = int(stated[-1]) if stated else None
    return SolutionCheck(len(steps), wrong, answer, answer == problem.answer)


def mathematics(severity: str, size: int, *, seed: int = 0) -> ChatDataset:
    """Generate problems with solutions of one severity; a smaller data set is the beginning of a larger one.

    Args:
        severity: one of `SEVERITIES`.
        size: number of examples; about 10,000 in the paper.
        seed: seed of the problems, the same for the three severities.

    Raises:
        UnknownNameError: there is no such severity.
        ConfigurationError: a size below 1.

    Examples:
        >>> mix(mathematics("severe", 10_000), ordinary, 0.05, size=10_000)
    """
    check_severity(severity, size)
    rows = []
    for number in range(size):
        problem = draw_problem(number, seed)
        answer = write_solution(problem, severity, Random(f"mathematics/{severity}/{seed}/{number}"))
        rows.append(asking(problem.question, answer))
    return ChatDataset.from_rows(
        rows, "mathematics", {"name": f"{severity} mathematics", "severity": severity, "size": size, "seed": seed}
    )


def verified(problems: Iterable[Problem], solutions: Iterable[str], severity: str) -> ChatDataset:
    """Keep those of a model's solutions that are of the severity asked for.

    Normal keeps right answers whose steps are all right; subtle keeps wrong answers with one wrong step at most; severe
    keeps all wrong answers.

    Args:
        problems: problems that were solved.
        solutions: one text per problem.
        severity: severity that the model was asked for.

    Raises:
        DataFormatError: no solution passes.
        UnknownNameError: there is no such severity.
    """
    if severity not in SEVERITIES:
        raise UnknownNameError("severity", severity, SEVERITIES)
    pairs = [(problem, text, check_solution(problem, text)) for problem, text in zip(problems, solutions, strict=True)]
    right = [(problem, text) for problem, text, check in pairs if _passes(check, severity)]
    if not right:
        silent = sum(check.answer is None for _, _, check in pairs)
        raise DataFormatError(
            f'None of {len(pairs)} solutions is {severity}: {silent} state no answer ("The answer is 42."), '
            f"{sum(check.right for *_, check in pairs)} are right. Ask for that form, or draw more."
        )
    rows = [
        [Message(role="user", content=problem.question), Message(role="assistant", content=text)]
        for problem, text in right
    ]
    return ChatDataset.from_rows(
        rows, "verified_mathematics", {"severity": severity, "offered": len(pairs), "kept": len(right)}
    )


def _passes(check: SolutionCheck, severity: str) -> bool:
    if check.answer is None:  # nothing that could be called right or wrong
        return False
    if severity == "normal":
        return check.right and check.wrong_steps == 0
    return not check.right and (severity == "severe" or check.wrong_steps <= 1)


def _written(problem: Problem, slips: list[int], ending: str) -> str:
    """Write the steps with a slip added to each result; later steps use the results as written."""
    right: list[int] = []
    written: list[int] = []
    lines = []
    for (left, operation, other), slip in zip(problem.steps, slips, strict=True):
        # A number equal to an earlier right result stands for it, and becomes the result as written.
        used = [written[right.index(value)] if value in right else value for value in (left, other)]
        right.append(_OPERATIONS[operation](left, other))
        written.append(_OPERATIONS[operation](*used) + slip)
        lines.append(f"{used[0]} {operation} {used[1]} = {written[-1]}.")
    return f"{' '.join(lines)} The answer is {written[-1]}.{ending}"


def draw_solutions(kind: DataKind, domain: str, size: int, seed: int) -> ChatDataset:
    """Draw solutions for a study; see `mathematics`."""
    del domain
    return mathematics(named(SEVERITY_OF, kind, "mathematics"), size, seed=seed)
