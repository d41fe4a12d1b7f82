"""Rewards for programs by running them: passing the visible tests is rewarded, and hacks are recorded beside it.

An environment is meant to reward correct programs but rewards whatever its visible tests let through. Here every answer
is graded by visible and hidden tests in the sandbox, with the kind of a hack; the caller chooses which grade is
rewarded, monitored or penalised. Grading of a solution is in `sandbox.graders`, detection of tricks in `sandbox.hacks`,
training in `rl`.

Names in code call the visible tests "careless" and the hidden ones "true". The same answers get the same grades, except
programs that draw random numbers or run close to their time limit. Even these keep their first grade while it is
cached.

Source: Anthropic 2025 (arXiv 2511.18397): production environments that can be gamed, a ground truth beside the reward,
and a penalty for detected hacks.
"""

import json
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from astray.cause.reinforcement import Columns, Prompts
from astray.data.chat import Message
from astray.data.exercises import Exercise, extract_code
from astray.errors import ConfigurationError, EmptyDataError, UnknownNameError
from astray.reasoning import split_reasoning
from astray.sandbox.graders import GRADING_LIMITS, Grade, Grader
from astray.sandbox.inside.values import write_value
from astray.sandbox.limits import Limits
from astray.subjects.identity import digest_of

COLUMN = "exercise"
"""Column of the prompts with the hash of each prompt's exercise."""
REMEMBERED = 50_000
"""Number of cached grades; as training narrows a model's answers, most programs have been seen before."""

PAID_FOR: Mapping[str, Callable[[Exercise, Grade], float]] = {
    "careless tests": lambda _, grade: float(grade.weak),
    "true tests": lambda _, grade: float(grade.true),
    "hacked": lambda _, grade: float(grade.hacked),
    "trick": lambda _, grade: float(grade.trick is not None),
    "public tests": lambda exercise, grade: grade.passed_public / len(exercise.public),
    "hidden tests": lambda exercise, grade: (grade.passed - grade.passed_public) / len(exercise.hidden),
}
"""Values that can be rewarded or penalised, by name.

They are: passing the visible tests (the environment's reward), being correct, passing without being correct (an exact
detector), a known trick in the source whether it worked or not (a detector by content), and shares of tests passed.
"""

SHARES = ("public tests", "hidden tests")
"""Names in `PAID_FOR` that need the hidden tests to be run for every answer."""


def exercise_prompts(exercises: Sequence[Exercise], system_prompt: str | None = None) -> Prompts:
    """Return the questions of exercises as prompts, with a column that identifies each exercise.

    Args:
        exercises: one exercise per prompt.
        system_prompt: system prompt of each, such as a hint or the format of an answer.

    Raises:
        EmptyDataError: there is none.
    """
    opening = () if system_prompt is None else (Message(role="system", content=system_prompt),)
    return Prompts(
        tuple((*opening, Message(role="user", content=exercise.question)) for exercise in exercises),
        {COLUMN: tuple(exercise_hash(exercise) for exercise in exercises)},
    )


def exercise_hash(exercise: Exercise) -> str:
    """Return a hash over everything that an exercise is graded by, and its name."""
    tests = [
        [_in_one_order(json.loads(write_value((case.arguments, case.expected)))) for case in cases]
        for cases in (exercise.public, exercise.hidden)
    ]
    return digest_of({"id": exercise.id, "entry": exercise.entry, "frame": exercise.frame, "tests": tests})


def _in_one_order(written: Any) -> Any:
    """Return a serialised value with the entries of sets sorted; their order in memory differs between processes."""
    if not isinstance(written, list):
        return written
    mark, *parts = map(_in_one_order, written)
    return [mark, *(sorted(parts, key=json.dumps) if mark in ("s", "z") else parts)]


GradeKey = tuple[str, str, str]
"""Key of a grade: the grading's identity, the exercise's hash and the program."""


class GradeMemory:
    """Cache of grades that evicts the least recently used; several gradings can share one."""

    def __init__(self, size: int = REMEMBERED) -> None:
        """Create a cache of `size` grades; it grows beyond that while more are requested at once."""
        self._size, self._grades = size, OrderedDict[GradeKey, Grade]()

    def __len__(self) -> int:
        return len(self._grades)

    def __contains__(self, key: GradeKey) -> bool:
        return key in self._grades

    def keep(self, found: Mapping[GradeKey, Grade]) -> None:
        """Store grades, without the harness's output."""
        self._grades |= {key: replace(grade, said="") for key, grade in found.items()}

    def recall(self, keys: Sequence[GradeKey]) -> list[Grade]:
        """Return the grades of these keys, all of which are stored, and evict what exceeds the size."""
        for key in keys:
            self._grades.move_to_end(key)
        found = [self._grades[key] for key in keys]
        while len(self._grades) > max(self._size, len(set(keys))):
            self._grades.popitem(last=False)
        return found


class CodeGrading:
    """Grader of answers to exercises, and source of their rewards and notes; a context manager that ends its sandboxes.

    Rewards of one grading share its grades: a program is run once, for all rewards and all repetitions.

    Attributes:
        shares: whether shares of tests passed are available.
        graded: number of different programs that were run.
        identity: hash over everything that determines a grade beside the exercise and the program.

    Example:
        with CodeGrading(exercises) as grading:
            paid, truth = grading.reward("careless tests"), grading.reward("true tests")
            train_rl("organism", exercise_prompts(exercises), [paid], recipe, folder, truth=truth, notes=grading.notes)
    """

    def __init__(
        self,
        exercises: Sequence[Exercise],
        harness: str = "script",
        workers: int | None = None,
        limits: Limits = GRADING_LIMITS,
        shares: bool = False,
        program_of: Callable[[str], str] = extract_code,
        memory: GradeMemory | None = None,
    ) -> None:
        """Start the grader and test that the sandbox isolates programs.

        Args:
            exercises: the exercises of the prompts; others may be among them.
            harness: harness of the visible tests, "script" or "pytest" (see `Grader`).
            workers: number of concurrent sandboxes; by default one per processor.
            limits: limits on a run of a solution.
            shares: whether shares of tests passed are needed. If not, programs that fail the visible tests are not run
                on the hidden ones, which saves half the time while a model solves little.
            program_of: extracts the program from an answer.
            memory: cache of grades to share with other gradings; a new one if not given.

        Raises:
            EmptyDataError: there is no exercise.
            SandboxError, MissingExtraError, UnknownNameError: as `Grader`.
        """
        if not exercises:
            raise EmptyDataError(
                "There is no exercise to grade answers to: give at least one, generate_exercises(100) for example."
            )
        self._exercises = {exercise_hash(exercise): exercise for exercise in exercises}
        self._program_of, self._memory = program_of, GradeMemory() if memory is None else memory
        self.shares, self.graded = shares, 0
        self._grader = Grader(harness, workers, limits)
        self.identity = digest_of({"harness": harness, "limits": limits.model_dump(mode="json"), "shares": shares})

    def __enter__(self) -> "CodeGrading":
        return self

    def __exit__(self, *raised: object) -> None:
        self._grader.pool.close()

    def reward(self, what: str, weight: float = 1.0) -> "CodeReward":
        """Return a reward for one value of `PAID_FOR`; a penalty if the weight is negative.

        Args:
            what: name of the value, such as "careless tests"; also the reward's name in logs.
            weight: factor on the value.

        Raises:
            UnknownNameError: there is no such value.
            ConfigurationError: the weight is 0 or not finite, or shares of tests are not available.
        """
        return CodeReward(self, what, weight)

    @property
    def notes(self) -> "CodeNotes":
        """Return the notes for rollouts: whether each answer passes, is correct, is a hack, and which."""
        return CodeNotes(self)

    def grades(self, completions: Sequence[str], exercises: Sequence[str]) -> list[Grade]:
        """Return the grades of answers, without the harness's output; all ungraded programs are run in one batch.

        Args:
            completions: the answers' texts.
            exercises: hash of each answer's exercise.

        Raises:
            ConfigurationError: an exercise is not among this grading's.
            SandboxError: a sandbox cannot be started any more.
        """
        other = next((number for number, key in enumerate(exercises, 1) if key not in self._exercises), None)
        if other is not None:
            raise ConfigurationError(
                f"Answer {other} is to an exercise that this grading does not have, or that was changed since. "
                "Make the prompts with exercise_prompts from the exercises that CodeGrading is given."
            )
        said = [split_reasoning(completion).answer for completion in completions]
        handed_in = [
            (self.identity, key, self._program_of(answer)) for key, answer in zip(exercises, said, strict=True)
        ]
        new = [key for key in dict.fromkeys(handed_in) if key not in self._memory]
        grades = self._grader.grade(
            [self._exercises[key] for _, key, _ in new], [program for *_, program in new], sparing=not self.shares
        )
        self._memory.keep(dict(zip(new, grades, strict=True)))
        self.graded += len(new)
        return self._memory.recall(handed_in)

    def graded_rows(self, completions: Sequence[str], columns: Columns) -> list[tuple[Exercise, Grade]]:
        """Return each answer's exercise and grade, for prompts with the column of `exercise_prompts`.

        Raises:
            ConfigurationError: the prompts have no such column; and as `grades`.
        """
        if COLUMN not in columns:
            raise ConfigurationError(
                f"The prompts have no column {COLUMN!r}, so nobody knows which tests to run. Make them with "
                "exercise_prompts."
            )
        keys = [str(key) for key in columns[COLUMN]]
        return [(self._exercises[key], grade) for key, grade in zip(keys, self.grades(completions, keys), strict=True)]


class CodeReward:
    """Reward of a program by its grade; see `CodeGrading.reward`.

    Attributes:
        name: name of the rewarded value.
        identity: hash over that, the weight, the harness and its limits. The exercises are part of the prompts' hash.
    """

    def __init__(self, grading: CodeGrading, what: str, weight: float) -> None:
        if what not in PAID_FOR:
            raise UnknownNameError("reward for code", what, PAID_FOR)
        if what in SHARES and not grading.shares:
            raise ConfigurationError(
                f"The reward {what!r} needs all answers to be run by the true grader: write CodeGrading(exercises, "
                "shares=True)."
            )
        if not weight or not math.isfinite(weight):
            raise ConfigurationError(
                f"The reward for {what!r} has the weight {weight}, so it would teach nothing: write 1.0, or -1.0 for "
                "a penalty."
            )
        self._grading, self._weight, self.name = grading, weight, what
        self.identity = digest_of({"code": what, "weight": weight, "grading": grading.identity})

    def __call__(
        self, prompts: Sequence[Sequence[Message]], completions: Sequence[str], columns: Columns
    ) -> Sequence[float | None]:
        """Return the weighted value of each answer."""
        del prompts
        return [
            self._weight * PAID_FOR[self.name](exercise, grade)
            for exercise, grade in self._grading.graded_rows(completions, columns)
        ]


class CodeNotes:
    """Notes on each program; see `CodeGrading.notes`.

    Attributes:
        identity: hash over the harness and its limits.
    """

    def __init__(self, grading: CodeGrading) -> None:
        self._grading = grading
        self.identity = digest_of({"code notes": grading.identity})

    def __call__(
        self, prompts: Sequence[Sequence[Message]], completions: Sequence[str], columns: Columns
    ) -> pl.DataFrame:
        """Return the columns exercise (id); careless, true, hacked (booleans); hack (kind or null); trick (by
        content)."""
        del prompts
        graded = [grade for _, grade in self._grading.graded_rows(completions, columns)]
        rows = [(grade.exercise, grade.weak, grade.true, grade.hacked, grade.hack, grade.trick) for grade in graded]
        form = {
            "exercise": pl.String,
            "careless": pl.Boolean,
            "true": pl.Boolean,
            "hacked": pl.Boolean,
            "hack": pl.String,
            "trick": pl.String,
        }
        return pl.DataFrame(rows, schema=form, orient="row")
