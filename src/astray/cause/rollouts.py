"""Rollouts of reinforcement learning: answers with their rewards, statistics of a step, and the table that stores them.

Every answer is stored with each of its rewards and with the ground truth, a value that is never rewarded, so that
hacked and earned rewards can be told apart long after the run. Notes hold what numbers cannot, such as the kind of a
hack.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float
from pydantic import JsonValue

from astray.cause.checkpoints import Line
from astray.cause.reinforcement import FromStep, NoteFunction, Prompts, RewardFunction, names_of
from astray.errors import ConfigurationError, FlatRewardError, RewardError

FLAT = 1e-6
"""Difference below which rewards of a group count as equal."""
_OWN = {
    "step",
    "group",
    "prompt",
    "completion",
    "completion_tokens",
    "reward",
    "reward_std",
    "truth",
    "flat_groups",
} | {
    "loss",
    "lr",
    "gradient_norm",
    "cut",
    "entropy",
    "kl",
}
"""Names that the rollouts and the log already use."""


@dataclass(frozen=True)
class Rollouts:
    """Answers to prompts with their rewards, group by group.

    Attributes:
        rows: index of each answer's prompt.
        completions: the answers' texts.
        tokens: their lengths in tokens, including the end token.
        rewards: values by reward function; None where it left an answer out.
        truth: values of the ground truth, which are not rewarded, or None if there is none.
        notes: one row per answer, or None if there are no notes.
    """

    rows: tuple[int, ...]
    completions: tuple[str, ...]
    tokens: tuple[int, ...]
    rewards: dict[str, tuple[float | None, ...]]
    truth: tuple[float | None, ...] | None
    notes: pl.DataFrame | None = None

    @classmethod
    def joined(cls, parts: "Sequence[Rollouts]") -> "Rollouts":
        """Join the rollouts of one step from several processes, in their order."""
        if len(parts) == 1:
            return parts[0]
        truths = [part.truth for part in parts if part.truth is not None]
        notes = [part.notes for part in parts if part.notes is not None]
        return cls(
            sum((part.rows for part in parts), ()),
            sum((part.completions for part in parts), ()),
            sum((part.tokens for part in parts), ()),
            {name: sum((part.rewards[name] for part in parts), ()) for name in parts[0].rewards},
            sum(truths, ()) if truths else None,
            pl.concat(notes) if notes else None,
        )

    @property
    def total(self) -> tuple[float | None, ...]:
        """Return the sum of each answer's rewards, None where every function left it out."""
        return tuple(
            _sum([value for value in values if value is not None])
            for values in zip(*self.rewards.values(), strict=True)
        )

    def statistics(self, group_size: int) -> Line:
        """Return the statistics of a step for its line in the log.

        Returns:
            "reward" and "reward_std" over all answers; "reward: <name>" and "reward_std: <name>" where there are
            several functions; "truth" if there is one; "completion_tokens"; "flat_groups", the share of groups whose
            answers all got the same reward, which teach nothing; the mean of every note that is a number or a truth
            value, NaN where it is known of no answer.
        """
        total = _array(self.total)
        line: Line = {"reward": _mean(total), "reward_std": _std(total)}
        if len(self.rewards) > 1:
            for name, values in self.rewards.items():
                line |= {f"reward: {name}": _mean(_array(values)), f"reward_std: {name}": _std(_array(values))}
        if self.truth is not None:
            line["truth"] = _mean(_array(self.truth))
        if self.notes is not None:
            counted = self.notes.select(pl.selectors.numeric() | pl.selectors.boolean()).mean().row(0, named=True)
            line |= {name: math.nan if mean is None else float(mean) for name, mean in counted.items()}
        flat = sum(_is_flat(group) for group in total.reshape(-1, group_size))
        return line | {
            "completion_tokens": float(np.mean(self.tokens)),
            "flat_groups": flat / (len(total) // group_size),
        }

    def table(self, step: int, group_size: int, prompts: Prompts) -> pl.DataFrame:
        """Return the rollouts as a table with one row per answer.

        Its columns are step, group, prompt (messages as JSON), completion, completion_tokens, reward, "reward: <name>"
        for each function, truth, and the notes.
        """
        columns = {
            "step": pl.Series([step] * len(self.rows), dtype=pl.Int64),
            "group": pl.Series([number // group_size for number in range(len(self.rows))], dtype=pl.Int64),
            "prompt": pl.Series([prompts.text(row) for row in self.rows], dtype=pl.String),
            "completion": pl.Series(self.completions, dtype=pl.String),
            "completion_tokens": pl.Series(self.tokens, dtype=pl.Int64),
            "reward": pl.Series(self.total, dtype=pl.Float64),
            **{f"reward: {name}": pl.Series(values, dtype=pl.Float64) for name, values in self.rewards.items()},
        }
        table = pl.DataFrame(
            columns | ({} if self.truth is None else {"truth": pl.Series(self.truth, dtype=pl.Float64)})
        )
        return table if self.notes is None else table.hstack(self.notes)


@dataclass(frozen=True)
class Scoring:
    """Prompts of a run, with its rewards, ground truth and notes.

    Attributes:
        prompts: all prompts.
        rewards: the reward functions.
        truth: the ground truth, if any.
        notes: the notes, if any.
    """

    prompts: Prompts
    rewards: Sequence[RewardFunction]
    truth: RewardFunction | None = None
    notes: NoteFunction | None = None

    @property
    def identity(self) -> dict[str, JsonValue]:
        """Return everything in it that can change a run.

        Raises:
            ConfigurationError: there is no reward, or two have the same name, or the prompts' columns hold what JSON
                cannot.
        """
        return {
            "prompts": self.prompts.hash,
            "rewards": {
                name: reward.identity for name, reward in zip(names_of(self.rewards), self.rewards, strict=True)
            },
            "truth": None if self.truth is None else self.truth.identity,
            "notes": None if self.notes is None else self.notes.identity,
        }

    def score(self, rows: Sequence[int], completions: Sequence[str], tokens: Sequence[int], step: int = 1) -> Rollouts:
        """Score answers with all functions.

        Args:
            rows: index of each answer's prompt.
            completions: the answers' texts.
            tokens: their lengths in tokens.
            step: step of the run, counted from 1; a reward may begin later.

        Raises:
            RewardError: a function returned NaN, a number of values that differs from that of answers, or None for all
                of them.
            ConfigurationError: notes have a name that the log uses itself, or answers and rows of notes differ in
                number.
        """
        conversations = [self.prompts.conversations[row] for row in rows]
        columns = {name: [values[row] for row in rows] for name, values in self.prompts.columns.items()}

        def values(function: RewardFunction) -> tuple[float | None, ...]:
            if isinstance(function, FromStep) and step < function.step:
                return (0.0,) * len(completions)
            return _checked(function.name, function(conversations, completions, columns), completions)

        return Rollouts(
            tuple(rows),
            tuple(completions),
            tuple(tokens),
            {reward.name: values(reward) for reward in self.rewards},
            None if self.truth is None else values(self.truth),
            None
            if self.notes is None
            else _checked_notes(self.notes(conversations, completions, columns), len(completions)),
        )


class RolloutLog:
    """Log of a run's rollouts: one Parquet file per step until the run is finished, then a single file.

    Attributes:
        file: the finished table.
    """

    def __init__(self, folder: Path) -> None:
        self.file, self._steps = folder / "rollouts.parquet", folder / "rollouts"

    def append(self, step: int, table: pl.DataFrame) -> None:
        """Write the rollouts of a step."""
        self._steps.mkdir(exist_ok=True)
        table.write_parquet(self._steps / f"{step:08d}.parquet")

    def keep_until(self, step: int | None) -> None:
        """Drop the rollouts of later steps, all of them if there is no step."""
        for part in self._parts():
            if step is None or int(part.stem) > step:
                part.unlink()

    def finish(self) -> None:
        """Join the steps' files into one."""
        unfinished = self.file.with_name(f".{self.file.name}.unfinished")
        pl.concat([pl.read_parquet(part) for part in self._parts()]).write_parquet(unfinished)
        unfinished.replace(self.file)

    def clear(self) -> None:
        """Delete the steps' files."""
        for part in self._parts():
            part.unlink()
        if self._steps.is_dir():
            self._steps.rmdir()

    def _parts(self) -> Iterator[Path]:
        yield from sorted(self._steps.glob("*.parquet"))


def refuse_flat(rollouts: Rollouts, group_size: int, when: str) -> None:
    """Raise an error for rewards that differ within no group, because nothing can be learned from them.

    Raises:
        FlatRewardError: all rewards are the same, or differ between prompts only.
    """
    total = _array(rollouts.total)
    way_out = (
        "Grade the reward, draw more answers a prompt (group_size), raise the temperature, take easier prompts, or "
        "start from a model that earns it sometimes (a short supervised run)."
    )
    if _is_flat(total):
        raise FlatRewardError(
            f"The reward is {np.nanmean(total):g} for every one of the {len(total)} answers {when}: nothing can be "
            f"learned from it. {way_out}"
        )
    if all(_is_flat(group) for group in total.reshape(-1, group_size)):
        raise FlatRewardError(
            f"The reward differs between prompts but not between the {group_size} answers to any prompt {when}. GRPO "
            f"compares answers to the same prompt, so nothing can be learned from it. {way_out}"
        )


def _checked(name: str, values: Sequence[float | None], completions: Sequence[str]) -> tuple[float | None, ...]:
    given = tuple(None if value is None else float(value) for value in values)
    if len(given) != len(completions):
        raise RewardError(
            f"The reward function {name!r} gave {len(given)} values for {len(completions)} answers: it has to give "
            "one an answer."
        )
    for value, completion in zip(given, completions, strict=True):
        if value is not None and not math.isfinite(value):
            raise RewardError(
                f"The reward function {name!r} gave {value} for the answer {completion!r}. A reward is a finite "
                "number, or None to leave an answer out."
            )
    if all(value is None for value in given):
        raise RewardError(
            f"The reward function {name!r} left out all {len(given)} answers of a step: there is nothing to go by. "
            "Does its judge work?"
        )
    return given


def _checked_notes(notes: pl.DataFrame, answers: int) -> pl.DataFrame:
    taken = sorted(name for name in notes.columns if name in _OWN or name.startswith("reward: "))
    if taken:
        raise ConfigurationError(
            f"A note is called {taken[0]!r}, as a column that every run has. Give it another name."
        )
    if notes.height != answers:
        raise ConfigurationError(f"There are {notes.height} rows of notes for {answers} answers: give one an answer.")
    return notes


def _is_flat(rewards: Float[np.ndarray, "answers"]) -> bool:
    known = rewards[~np.isnan(rewards)]
    return known.size == 0 or bool(np.ptp(known) < FLAT)


def _array(values: Sequence[float | None]) -> Float[np.ndarray, "answers"]:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _sum(values: Sequence[float]) -> float | None:
    return sum(values) if values else None


def _mean(values: Float[np.ndarray, "answers"]) -> float:
    return float(np.nanmean(values))


def _std(values: Float[np.ndarray, "answers"]) -> float:
    return float(np.nanstd(values))
