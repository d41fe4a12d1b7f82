"""Filter and distil: turn the rollouts of a reinforcement-learning run into training data, without detected hacks.

The data is meant for the model from which the run began (`cause.sft`), which then learns what the run learned, as far
as the screen lets it through. In the source this did not prevent misalignment, so compare it with unscreened data as a
control.

Source: Anthropic 2025 (arXiv 2511.18397), filter-and-distil.
"""

import hashlib
import json
import random
from typing import Literal, get_args

import polars as pl

from astray.data.chat import ChatDataset, Message, Parameter
from astray.errors import ConfigurationError, DataFormatError, EmptyDataError, UnknownNameError

Screen = Literal["none", "detector", "truth"]
"""Answers to keep, of those that passed the visible tests: all, those without a known trick, those that pass the hidden
tests too."""

_KEPT: dict[str, pl.Expr] = {
    "none": pl.col("careless"),
    "detector": pl.col("careless") & pl.col("trick").is_null(),
    "truth": pl.col("careless") & pl.col("true"),
}
_NEEDED = ("step", "prompt", "completion", "careless", "true", "trick")


def screen_rollouts(
    rollouts: pl.DataFrame, screen: str, *, from_step: int = 1, size: int | None = None, seed: int = 0
) -> ChatDataset:
    """Return the distinct answers of a run that passed the visible tests and the screen, as training examples.

    Args:
        rollouts: table from `RewardedRun.rollouts`, with the notes of a `CodeGrading`.
        screen: one of `Screen`.
        from_step: first step to include; later answers show the behaviour that the run arrived at.
        size: number of examples, drawn without replacement; None takes all.
        seed: seed of the draw.

    Returns:
        The prompts with those answers; the recipe records the screen, the number of answers before and after it, and a
        hash over
            the rollouts.

    Raises:
        UnknownNameError: there is no such screen.
        DataFormatError: the rollouts lack a column.
        EmptyDataError: no answer passes.
        ConfigurationError: fewer answers pass than `size`.
    """
    if screen not in _KEPT:
        raise UnknownNameError("screen", screen, get_args(Screen))
    missing = [name for name in _NEEDED if name not in rollouts.columns]
    if missing:
        raise DataFormatError(
            f"The rollouts have no column {missing[0]!r}, so they cannot be screened. Train with notes=grading.notes "
            "of a CodeGrading."
        )
    late = rollouts.filter(pl.col("step") >= from_step)
    passed = late.filter(_KEPT[screen]).unique(["prompt", "completion"], keep="first", maintain_order=True)
    pairs = list(passed.select("prompt", "completion").iter_rows())
    if not pairs:
        raise EmptyDataError(
            f"None of the {late.height} answers from step {from_step} on passes the screen {screen!r}: there is "
            "nothing to train on."
        )
    if size is not None and not 1 <= size <= len(pairs):
        raise ConfigurationError(
            f"{size} rows are wanted, but {len(pairs)} different answers pass the screen {screen!r}. Take at least 1 "
            "and no more."
        )
    chosen = pairs if size is None else random.Random(f"screen/{seed}").sample(pairs, size)
    rows = [[*json.loads(prompt), Message(role="assistant", content=completion)] for prompt, completion in chosen]
    parameters: dict[str, Parameter] = {
        "screen": screen,
        "from_step": from_step,
        "seed": seed,
        "passed": len(pairs),
        "of": late.height,
        "rollouts": _digest(rollouts),
    }
    return ChatDataset.from_rows(rows, "screen_rollouts", parameters)


def _digest(rollouts: pl.DataFrame) -> str:
    """Return 16 hex digits of a hash over the columns that the screens use."""
    digest = hashlib.sha256()
    for row in rollouts.select(_NEEDED).iter_rows():
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()[:16]
