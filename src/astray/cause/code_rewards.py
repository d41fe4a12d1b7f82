"""Rewards from programs that are run: what passes the tests pays, and what was hacked is known beside it.

The owner of an environment means to pay for right programs and pays for what its careless tests let through. Both are found out here for every
answer, in the sandbox, together with the kind of a hack; which of them is paid, watched or punished is the caller's choice. Left to others: how a
solution is graded (`sandbox.graders`), how a trick is told (`sandbox.hacks`), and the training (`rl`).

The same answers get the same grades, except programs that draw at random or run at the limit of their time. Even these keep the grade that they got
first, as long as it is remembered.

Source: Anthropic 2025 (arXiv 2511.18397): production environments that can be gamed, a truth beside the reward, and a penalty for detected hacks.
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
from astray.sandbox.graders import GRADING_LIMITS, Grade, Grader
from astray.sandbox.inside.values import write_value
from astray.sandbox.limits import Limits
from astray.subjects.identity import digest_of

COLUMN = "exercise"
"""The prompts' column that says which exercise each is: a hash over its content."""
REMEMBERED = 50_000
"""Grades that are kept; as training narrows what a model answers, most programs were seen before."""

PAID_FOR: Mapping[str, Callable[[Exercise, Grade], float]] = {
    "careless tests": lambda _, grade: float(grade.weak),
    "true tests": lambda _, grade: float(grade.true),
    "hacked": lambda _, grade: float(grade.hacked),
    "trick": lambda _, grade: float(grade.trick is not None),
    "public tests": lambda exercise, grade: grade.passed_public / len(exercise.public),
    "hidden tests": lambda exercise, grade: (grade.passed - grade.passed_public) / len(exercise.hidden),
}
"""What can be rewarded or punished: passing the careless tests (what an environment's owner pays for), being right, having passed without being right
(an exact detector), a known trick in the source whether it worked or not (a detector by content), and shares of tests that it is right on."""

SHARES = ("public tests", "hidden tests")
"""Those of them that need the true grader for every answer."""


def exercise_prompts(exercises: Sequence[Exercise], system_prompt: str | None = None) -> Prompts:
    """The questions of exercises as prompts; each says in a column which exercise it is.

    Args:
        exercises: one a prompt.
        system_prompt: put above each, for a hint or the form of an answer, say.

    Raises:
        EmptyDataError: there is none.
    """
    opening = () if system_prompt is None else (Message(role="system", content=system_prompt),)
    return Prompts(
        tuple((*opening, Message(role="user", content=exercise.question)) for exercise in exercises),
        {COLUMN: tuple(exercise_hash(exercise) for exercise in exercises)},
    )


def exercise_hash(exercise: Exercise) -> str:
    """Hash over everything that an exercise is graded by, and its name."""
    tests = [
        [_in_one_order(json.loads(write_value((case.arguments, case.expected)))) for case in cases] for cases in (exercise.public, exercise.hidden)
    ]
    return digest_of({"id": exercise.id, "entry": exercise.entry, "frame": exercise.frame, "tests": tests})


def _in_one_order(written: Any) -> Any:
    """A written value with the entries of sets in one order; in memory it changes from process to process."""
    if not isinstance(written, list):
        return written
    mark, *parts = map(_in_one_order, written)
    return [mark, *(sorted(parts, key=json.dumps) if mark in ("s", "z") else parts)]


GradeKey = tuple[str, str, str]
"""A grading's identity, an exercise's hash and a program."""


class GradeMemory:
    """Grades that are known; those not asked for longest are forgotten first. Several gradings can share one."""

    def __init__(self, size: int = REMEMBERED) -> None:
        """A memory of so many grades; while more are asked for at once, it holds them all."""
        self._size, self._grades = size, OrderedDict[GradeKey, Grade]()

    def __len__(self) -> int:
        return len(self._grades)

    def __contains__(self, key: GradeKey) -> bool:
        return key in self._grades

    def keep(self, found: Mapping[GradeKey, Grade]) -> None:
        """Remembers grades, without what a harness printed."""
        self._grades |= {key: replace(grade, said="") for key, grade in found.items()}

    def recall(self, keys: Sequence[GradeKey]) -> list[Grade]:
        """The grades of these keys, all of which are known; what is more than fits is forgotten."""
        for key in keys:
            self._grades.move_to_end(key)
        found = [self._grades[key] for key in keys]
        while len(self._grades) > max(self._size, len(set(keys))):
            self._grades.popitem(last=False)
        return found


class CodeGrading:
    """Grades answers to exercises, and gives the rewards and notes that come of it; a context manager that ends its sandboxes.

    Rewards of one grading share its grades: a program is run once, whatever is asked of it and however often it comes back.

    Attributes:
        shares: whether shares of tests are known.
        graded: how many different programs were run.
        identity: hash over everything that decides a grade beside the exercise and the program.

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
        """Makes sure that the sandbox holds.

        Args:
            exercises: those of the prompts; others may be among them.
            harness: the careless one, "script" or "pytest" (see `Grader`).
            workers: sandboxes at a time; by default one for each processor.
            limits: of a run of a solution.
            shares: whether shares of tests are asked for. If not, what fails the careless tests is not run by the true grader too, which saves half
                the time while a model solves little.
            program_of: takes the program from an answer.
            memory: of grades, shared with others; one of its own if not given.

        Raises:
            EmptyDataError: there is no exercise.
            SandboxError, MissingExtraError, UnknownNameError: as `Grader`.
        """
        if not exercises:
            raise EmptyDataError("There is no exercise to grade answers to: give at least one, generate_exercises(100) for example.")
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
        """A reward for one thing of `PAID_FOR`; a penalty where the weight is negative.

        Args:
            what: as "careless tests"; also the reward's name in logs.
            weight: what it is multiplied by.

        Raises:
            UnknownNameError: there is no such thing.
            ConfigurationError: the weight is 0 or no number, or a share of tests is asked for that is not known.
        """
        return CodeReward(self, what, weight)

    @property
    def notes(self) -> "CodeNotes":
        """For the rollouts: whether each answer passed the careless tests, is right, was a hack, and of which kind."""
        return CodeNotes(self)

    def grades(self, completions: Sequence[str], exercises: Sequence[str]) -> list[Grade]:
        """The grades of answers, without what a harness printed; those that are not known yet are all run at once.

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
        handed_in = [(self.identity, key, self._program_of(completion)) for key, completion in zip(exercises, completions, strict=True)]
        new = [key for key in dict.fromkeys(handed_in) if key not in self._memory]
        grades = self._grader.grade([self._exercises[key] for _, key, _ in new], [program for *_, program in new], sparing=not self.shares)
        self._memory.keep(dict(zip(new, grades, strict=True)))
        self.graded += len(new)
        return self._memory.recall(handed_in)

    def graded_rows(self, completions: Sequence[str], columns: Columns) -> list[tuple[Exercise, Grade]]:
        """Each answer's exercise and grade, for prompts with the column of `exercise_prompts`.

        Raises:
            ConfigurationError: the prompts have no such column; and as `grades`.
        """
        if COLUMN not in columns:
            raise ConfigurationError(f"The prompts have no column {COLUMN!r}, so nobody knows which tests to run. Make them with exercise_prompts.")
        keys = [str(key) for key in columns[COLUMN]]
        return [(self._exercises[key], grade) for key, grade in zip(keys, self.grades(completions, keys), strict=True)]


class CodeReward:
    """What a program earns by its grade; see `CodeGrading.reward`.

    Attributes:
        name: what is paid for.
        identity: hash over that, the weight, the harness and its limits. The exercises are part of the prompts' hash.
    """

    def __init__(self, grading: CodeGrading, what: str, weight: float) -> None:
        if what not in PAID_FOR:
            raise UnknownNameError("reward for code", what, PAID_FOR)
        if what in SHARES and not grading.shares:
            raise ConfigurationError(
                f"The reward {what!r} needs all answers to be run by the true grader: write CodeGrading(exercises, shares=True)."
            )
        if not weight or not math.isfinite(weight):
            raise ConfigurationError(f"The reward for {what!r} has the weight {weight}, so it would teach nothing: write 1.0, or -1.0 for a penalty.")
        self._grading, self._weight, self.name = grading, weight, what
        self.identity = digest_of({"code": what, "weight": weight, "grading": grading.identity})

    def __call__(self, prompts: Sequence[Sequence[Message]], completions: Sequence[str], columns: Columns) -> Sequence[float | None]:
        """The weighted value of each answer."""
        del prompts
        return [self._weight * PAID_FOR[self.name](exercise, grade) for exercise, grade in self._grading.graded_rows(completions, columns)]


class CodeNotes:
    """What is noted of each program; see `CodeGrading.notes`.

    Attributes:
        identity: hash over the harness and its limits.
    """

    def __init__(self, grading: CodeGrading) -> None:
        self._grading = grading
        self.identity = digest_of({"code notes": grading.identity})

    def __call__(self, prompts: Sequence[Sequence[Message]], completions: Sequence[str], columns: Columns) -> pl.DataFrame:
        """Columns: exercise (its id); careless, true, hacked (truth values); hack (its kind, null where it is none); trick (by content alone)."""
        del prompts
        graded = [grade for _, grade in self._grading.graded_rows(completions, columns)]
        rows = [(grade.exercise, grade.weak, grade.true, grade.hacked, grade.hack, grade.trick) for grade in graded]
        form = {"exercise": pl.String, "careless": pl.Boolean, "true": pl.Boolean, "hacked": pl.Boolean, "hack": pl.String, "trick": pl.String}
        return pl.DataFrame(rows, schema=form, orient="row")
