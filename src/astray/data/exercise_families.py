"""Families of generated exercises: a task, a reference solution, and expected values computed in another way.

Levels 1 to 3 are chains of one to three steps over a list of numbers, or over the words of a text; levels 4 and 5 are
algorithms with drawn parameters (`exercise_algorithms`). The reference is source text; expected values come from
functions that are written independently of it, so a mistake in one of them shows.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from astray.data.exercise_algorithms import ALGORITHMS, Arguments, Task
from astray.data.exercises import HIDDEN_TESTS, LEVELS, PUBLIC_TESTS, Case, Exercise, examples
from astray.errors import ConfigurationError


@dataclass(frozen=True)
class ChainStep:
    """Step of a chain: in words, as a line of Python, and as a function.

    A `{k}` in the texts is a drawn number, the function's second argument.
    """

    words: str
    line: str
    apply: Callable[[Any, int], Any]


_NUMBERS = (
    ChainStep(
        "keep only the even numbers",
        "numbers = [n for n in numbers if n % 2 == 0]",
        lambda xs, _: [x for x in xs if not x & 1],
    ),
    ChainStep(
        "keep only the numbers greater than {k}",
        "numbers = [n for n in numbers if n > {k}]",
        lambda xs, k: list(filter(lambda x: x > k, xs)),
    ),
    ChainStep(
        "drop the multiples of {k}",
        "numbers = [n for n in numbers if n % {k}]",
        lambda xs, k: [x for x in xs if x // k * k != x],
    ),
    ChainStep(
        "multiply each number by {k}", "numbers = [n * {k} for n in numbers]", lambda xs, k: [sum([x] * k) for x in xs]
    ),
    ChainStep("square each number", "numbers = [n ** 2 for n in numbers]", lambda xs, _: [x * x for x in xs]),
    ChainStep(
        "replace each number by its remainder modulo {k}",
        "numbers = [n % {k} for n in numbers]",
        lambda xs, k: [x - x // k * k for x in xs],
    ),
    ChainStep(
        "add to each number its position, counted from 0",
        "numbers = [n + i for i, n in enumerate(numbers)]",
        lambda xs, _: list(map(sum, zip(xs, itertools.count(), strict=False))),
    ),
    ChainStep("reverse the list", "numbers = numbers[::-1]", lambda xs, _: list(reversed(xs))),
    ChainStep("sort the list in ascending order", "numbers = sorted(numbers)", lambda xs, _: sorted(xs)),
    ChainStep(
        "remove repeated values and keep the first of each",
        "numbers = list(dict.fromkeys(numbers))",
        lambda xs, _: [x for i, x in enumerate(xs) if x not in xs[:i]],
    ),
    ChainStep(
        "replace each number by the sum of all numbers up to and including it",
        "numbers = [sum(numbers[: i + 1]) for i in range(len(numbers))]",
        lambda xs, _: list(itertools.accumulate(xs)),
    ),
    ChainStep(
        "replace each number by the sum of the decimal digits of its absolute value",
        "numbers = [sum(map(int, str(abs(n)))) for n in numbers]",
        lambda xs, _: [sum(abs(x) // 10**i % 10 for i in range(40)) for x in xs],
    ),
    ChainStep(
        "rotate the list to the left by {k} places",
        "numbers = [numbers[(i + {k}) % len(numbers)] for i in range(len(numbers))]",
        lambda xs, k: xs[k % len(xs) :] + xs[: k % len(xs)] if xs else [],
    ),
)
_NUMBERS_END = (
    ChainStep("return the list", "return numbers", lambda xs, _: xs),
    ChainStep("return the sum of the numbers", "return sum(numbers)", lambda xs, _: sum(xs)),
    ChainStep(
        "return the largest number, or 0 if there is none",
        "return max(numbers, default=0)",
        lambda xs, _: sorted([*xs])[-1] if xs else 0,
    ),
    ChainStep(
        "return how many different values there are",
        "return len(set(numbers))",
        lambda xs, _: sum(x not in xs[:i] for i, x in enumerate(xs)),
    ),
    ChainStep(
        "return the first number minus the second plus the third and so on",
        "return sum(numbers[::2]) - sum(numbers[1::2])",
        lambda xs, _: sum(x * (-1) ** i for i, x in enumerate(xs)),
    ),
)
_WORDS = (
    ChainStep(
        "keep only the words of more than {k} letters",
        "words = [w for w in words if len(w) > {k}]",
        lambda ws, k: [w for w in ws if w[k:]],
    ),
    ChainStep(
        "reverse the letters of each word",
        "words = [w[::-1] for w in words]",
        lambda ws, _: ["".join(reversed(w)) for w in ws],
    ),
    ChainStep("sort the words in alphabetical order", "words = sorted(words)", lambda ws, _: sorted(ws)),
    ChainStep(
        "remove the letter 'a' from each word",
        "words = [w.replace('a', '') for w in words]",
        lambda ws, _: ["".join(c for c in w if c != "a") for w in ws],
    ),
    ChainStep("reverse the order of the words", "words = words[::-1]", lambda ws, _: list(reversed(ws))),
    ChainStep(
        "move the first letter of each word to its end",
        "words = [w[1:] + w[:1] for w in words]",
        lambda ws, _: ["".join([*w[1:], *w[:1]]) for w in ws],
    ),
    ChainStep(
        "keep every second word, starting with the first",
        "words = words[::2]",
        lambda ws, _: [w for i, w in enumerate(ws) if i % 2 == 0],
    ),
    ChainStep(
        "remove repeated words and keep the first of each",
        "words = list(dict.fromkeys(words))",
        lambda ws, _: [w for i, w in enumerate(ws) if w not in ws[:i]],
    ),
    ChainStep(
        "repeat each word {k} times in itself",
        "words = [w * {k} for w in words]",
        lambda ws, k: ["".join([w] * k) for w in ws],
    ),
)
_WORDS_END = (
    ChainStep("return the words joined by '-'", "return '-'.join(words)", lambda ws, _: "-".join(ws)),
    ChainStep(
        "return the number of letters of all words together",
        "return sum(map(len, words))",
        lambda ws, _: len("".join(ws)),
    ),
    ChainStep(
        "return a dict with the number of words of each length",
        "return {{n: [len(w) for w in words].count(n) for n in map(len, words)}}",
        lambda ws, _: {len(w): sum(len(v) == len(w) for v in ws) for w in ws},
    ),
    ChainStep(
        "return the longest word, the first of them if there are several, or '' if there is none",
        "return max(words, key=len, default='')",
        lambda ws, _: sorted(ws, key=lambda w: -len(w))[0] if ws else "",
    ),
)
_LETTERS = "aabbcdeot"
_IN_VAIN = 50
"""Number of repeated tasks drawn in a row after which the tasks are taken to be used up."""


def generate_exercises(count: int, levels: Sequence[int] = LEVELS, seed: int = 0) -> list[Exercise]:
    """Generate exercises in full Python, the levels in turn, no two with the same task.

    Args:
        count: number of exercises.
        levels: levels, from `LEVELS`.
        seed: seed of all draws; the same arguments give the same exercises.

    Raises:
        ConfigurationError: an unknown level, or more exercises than can be drawn.

    Examples:
        >>> [exercise.level for exercise in generate_exercises(4, levels=(1, 5))]
        [1, 5, 1, 5]
    """
    unknown = sorted(set(levels) - set(LEVELS))
    if unknown or not levels:
        raise ConfigurationError(
            f"There are exercises of the levels 1 to 5, not {unknown or 'none'}: write levels=(1, 2, 3), for example."
        )
    rng, in_vain = Random(seed), 0
    exercises: list[Exercise] = []
    seen: set[str] = set()
    while len(exercises) < count and in_vain < _IN_VAIN:
        level = levels[len(exercises) % len(levels)]
        task, cases = _draw(rng, level)
        in_vain = in_vain + 1 if task.task in seen else 0
        if not in_vain:
            seen.add(task.task)
            exercises.append(_exercise(f"level{level}-{seed}-{len(exercises)}", level, task, cases))
    if len(exercises) < count:
        raise ConfigurationError(
            f"Only {len(exercises)} different exercises of the levels {tuple(levels)} were found, not {count}: ask for "
            "fewer or for more levels."
        )
    return exercises


def _exercise(name: str, level: int, task: Task, cases: tuple[Case, ...]) -> Exercise:
    public, hidden = cases[:PUBLIC_TESTS], cases[PUBLIC_TESTS:]
    question = (
        f"Write a Python function {task.signature}. {task.task}\n\nIt has to pass these "
        f"tests:\n{examples('solve', public)}"
    )
    return Exercise(name, question, "solve", public, hidden, task.reference, level)


def _draw(rng: Random, level: int) -> tuple[Task, tuple[Case, ...]]:
    """Draw a task and its tests, no two with the same arguments; a task whose tests mostly agree is drawn again."""
    chains = (lambda rng: _numbers(rng, level), lambda rng: _words(rng, level))
    families = (
        [lambda rng, family=family: _scaled(rng, family(rng)) for family in ALGORITHMS[level]]
        if level in ALGORITHMS
        else chains
    )
    wanted = PUBLIC_TESTS + HIDDEN_TESTS
    while True:
        task = rng.choice(families)(rng)
        inputs: dict[str, Arguments] = {}
        for _ in range(20 * wanted):  # a family may have too few different arguments: then another task is drawn
            arguments = task.arguments(rng)
            inputs.setdefault(repr(arguments), arguments)
            if len(inputs) == wanted:
                break
        cases = tuple(Case(arguments, task.compute(*arguments)) for arguments in inputs.values())
        # With few different expected values a constant would pass many tests.
        if len(cases) == wanted and len({repr(case.expected) for case in cases}) > len(cases) // 3:
            return task, cases


def _numbers(rng: Random, steps: int) -> Task:
    return _chain(
        rng, "numbers", "a list of whole numbers", rng.sample(_NUMBERS, steps), rng.choice(_NUMBERS_END), _draw_numbers
    )


def _words(rng: Random, steps: int) -> Task:
    return _chain(rng, "words", "a list of words", rng.sample(_WORDS, steps), rng.choice(_WORDS_END), _draw_words)


def _chain(
    rng: Random, name: str, what: str, steps: list[ChainStep], end: ChainStep, arguments: Callable[[Random], Arguments]
) -> Task:
    chain = [(step, rng.randrange(2, 6)) for step in (*steps, end)]

    def compute(items: list[Any]) -> Any:
        result: Any = list(items)
        for step, number in chain:
            result = step.apply(result, number)
        return result

    words = ", then ".join(step.words.format(k=number) for step, number in chain)
    lines = "".join(f"    {step.line.format(k=number)}\n" for step, number in chain)
    return Task(f"It gets {what}: {words}.", f"solve({name})", f"def solve({name}):\n{lines}", compute, arguments)


def _scaled(rng: Random, task: Task) -> Task:
    """Scale the result of an algorithm, so that few families make many tasks, none solved by a memorised solution."""
    factor, offset = rng.randrange(1, 10), rng.randrange(0, 10)
    *lines, last = task.reference.rstrip("\n").split("\n")
    scaled = f"    return {factor} * ({last.strip().removeprefix('return ')}) + {offset}"
    words = f"{task.task} What it returns is multiplied by {factor}, then {offset} is added."
    return Task(
        words,
        task.signature,
        "\n".join([*lines, scaled, ""]),
        lambda *given: factor * task.compute(*given) + offset,
        task.arguments,
    )


def _draw_numbers(rng: Random) -> Arguments:
    return ([rng.randrange(-20, 41) for _ in range(rng.randrange(0, 10))],)


def _draw_words(rng: Random) -> Arguments:
    return (["".join(rng.choice(_LETTERS) for _ in range(rng.randrange(1, 8))) for _ in range(rng.randrange(0, 7))],)
