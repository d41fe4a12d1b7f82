"""Verify exercises: tests that are code become inputs and outputs, and references are run against their tests.

Both need the sandbox, since a file of exercises holds untrusted code.
"""

import secrets
from collections.abc import Sequence
from typing import Any

from astray.data.exercise_files import UnsettledExercise
from astray.data.exercises import Case, Exercise, examples
from astray.errors import ExerciseError
from astray.sandbox.graders import GRADING_LIMITS, answers_of, truth_job, verdict
from astray.sandbox.inside.values import NotPlainError, read_value
from astray.sandbox.limits import Limits
from astray.sandbox.pool import Job, Pool
from astray.sandbox.runner import Run

MOST_CASES = 50
"""Maximum number of calls kept of an exercise's tests; some of HumanEval's make thousands."""
SETTLING_LIMITS = GRADING_LIMITS.model_copy(update={"output_bytes": 16 << 20})


def verify(exercises: Sequence[Exercise], pool: Pool, limits: Limits = GRADING_LIMITS) -> None:
    """Run every reference solution against all tests of its exercise, judged as any solution is.

    Raises:
        ExerciseError: a reference fails a test of its own exercise; says which, and how many others do.
    """
    nonces = [secrets.token_hex(16) for _ in exercises]
    jobs = [
        truth_job(exercise, exercise.source(exercise.reference), nonce, limits)
        for exercise, nonce in zip(exercises, nonces, strict=True)
    ]
    failures = []
    for exercise, nonce, run in zip(exercises, nonces, pool.run(jobs), strict=True):
        answers, odd = answers_of(run, nonce, len(exercise.cases))
        reasons = [
            odd or verdict(case, answers.get(number), not exercise.entry) for number, case in enumerate(exercise.cases)
        ]
        failures += [(exercise.id, number, reason, run) for number, reason in enumerate(reasons, 1) if reason][:1]
    if failures:
        name, number, reason, run = failures[0]
        said = run.errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise ExerciseError(
            f"The reference solution of the exercise {name!r} fails its test {number}: "
            f"{reason}{f' ({said})' if said else ''}. Correct the solution or the test, or leave the exercise out; "
            f"{len(failures)} of {len(exercises)} exercises have a reference that fails."
        )


def settle(exercises: Sequence[UnsettledExercise], pool: Pool, limits: Limits = SETTLING_LIMITS) -> list[Exercise]:
    """Run each exercise's test code on its reference solution; its calls become tests, the first ones public.

    The expected value of a call is the reference's: a test that accepts several answers then accepts that one only.

    Args:
        exercises: exercises from `load_mbpp` or `load_humaneval`.
        pool: sandboxes.
        limits: limits of a run.

    Raises:
        ExerciseError: a reference fails its tests, or its tests make too few different calls with plain values for some
            to be hidden.
    """
    nonces = [secrets.token_hex(16) for _ in exercises]
    jobs = []
    for exercise, nonce in zip(exercises, nonces, strict=True):
        payload = {
            "nonce": nonce,
            "source": exercise.reference,
            "entry": exercise.entry,
            "tests": exercise.tests,
            "checked": exercise.checked,
        }
        jobs.append(Job("recording:run", payload, limits))
    return [_settled(*given) for given in zip(exercises, nonces, pool.run(jobs), strict=True)]


def _settled(exercise: UnsettledExercise, nonce: str, run: Run) -> Exercise:
    if run.code != 0 or run.stopped:
        said = run.errors.decode(errors="replace").strip().rpartition("\n")[2] or run.stopped or f"signal {run.signal}"
        raise ExerciseError(
            f"The reference solution of the exercise {exercise.id!r} fails its own tests: {said}. Correct one of "
            "them or leave it out."
        )
    cases = _recorded(run, nonce)
    if len(cases) <= exercise.public:
        raise ExerciseError(
            f"The tests of the exercise {exercise.id!r} make {len(cases)} different calls with plain values, and "
            f"{exercise.public} are to be public: none is left to be hidden. Leave it out, or make fewer public."
        )
    public = cases[: exercise.public]
    question = (
        f"{exercise.task.strip()}\n\nWrite a Python function {exercise.entry}. It has to pass these "
        f"tests:\n{examples(exercise.entry, public)}"
    )
    return Exercise(exercise.id, question, exercise.entry, public, cases[exercise.public :], exercise.reference)


def _recorded(run: Run, nonce: str) -> tuple[Case, ...]:
    cases: dict[str, Case] = {}
    for line in run.answer.decode(errors="replace").split("\n"):
        begins, _, rest = line.partition(" ")
        _, _, answer = rest.partition(" ")
        kind, _, text = answer.partition(" ")
        if begins != nonce or kind != "value":
            continue
        try:
            arguments, result = _call(read_value(text))
            shown, _ = repr(arguments), repr(result)  # as the question will show them; raises where it could not
        except ValueError:  # no plain values, or an int of more digits than Python writes
            continue
        cases.setdefault(shown, Case(arguments, result))  # the first call counts where arguments repeat
        if len(cases) == MOST_CASES:
            break
    return tuple(cases.values())


def _call(value: Any) -> tuple[tuple[Any, ...], Any]:
    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[0], tuple):
        raise NotPlainError(f"no call: {value!r:.80}")
    return value
