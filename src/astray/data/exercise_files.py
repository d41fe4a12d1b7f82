"""Read public sets of programming exercises from local files: MBPP, HumanEval, APPS and CodeContests as JSON Lines, a
JSON list or Parquet.

APPS and CodeContests give inputs and outputs, which are tests as they are. MBPP and HumanEval give test code, which has
to be run to become tests: such an exercise is an `UnsettledExercise` until `astray.sandbox.settle` has run it. Nothing
is run here, and nothing is downloaded.

Source: Austin et al. 2021 (arXiv 2108.07732); Chen et al. 2021 (2107.03374); Hendrycks et al. 2021 (2105.09938); Li et
al. 2022 (2203.07814).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field

from astray.data.exercises import PUBLIC_TESTS, Case, Exercise, examples
from astray.errors import DataFormatError, EmptyDataError, ExerciseError
from astray.files import parse_json, read_rows, row_as

_LEVELS = {"introductory": 2, "interview": 4, "competition": 5}
_PYTHON3 = (3, "PYTHON3")
_APPS_TESTS = (
    '{"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]}, or without fn_name, then inputs and outputs are texts'
)

Form = TypeVar("Form", bound=BaseModel)
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class UnsettledExercise:
    """Exercise whose tests are code.

    Attributes:
        id: its name, unique in its set.
        task: the task in words, without tests.
        entry: the function that the tests call.
        reference: a right solution.
        tests: code that calls the function and asserts what it returns.
        checked: whether the tests stand in a function `check(candidate)`, as in HumanEval.
        public: number of calls that become public tests.
    """

    id: str
    task: str
    entry: str
    reference: str
    tests: str
    checked: bool
    public: int


Found = TypeVar("Found", Exercise, UnsettledExercise)


def load_mbpp(path: Path | str, public: int = 1) -> list[UnsettledExercise]:
    """Read MBPP's file, mbpp.jsonl or sanitized-mbpp.json: task_id, text or prompt, code, test_list.

    Args:
        path: the file.
        public: number of public tests; the rest (MBPP usually has three in all) is hidden.

    Raises:
        DataNotFoundError, EmptyDataError, DataFormatError: as their names say; the message has the file and the row.
        ExerciseError: an exercise without tests.
    """
    return _numbered(path, [_mbpp(row, public, where) for where, row in _rows(path, _Mbpp)])


def load_humaneval(path: Path | str, public: int = 1) -> list[UnsettledExercise]:
    """Read HumanEval's file, HumanEval.jsonl or .jsonl.gz: task_id, prompt, entry_point, canonical_solution, test.

    Args:
        path: the file.
        public: number of calls of its tests that become public tests.

    Raises:
        DataNotFoundError, EmptyDataError, DataFormatError: as their names say.
        ExerciseError: an exercise without tests.
    """
    exercises = []
    for where, row in _rows(path, _HumanEval):
        if "assert" not in row.test:
            raise _without_tests(row.task_id, where)
        _check_told(row.prompt, f"{where} ({row.task_id})", "prompt")
        task = f"Complete this function:\n\n{row.prompt}"
        exercises.append(
            UnsettledExercise(
                str(row.task_id), task, row.entry_point, row.prompt + row.canonical_solution, row.test, True, public
            )
        )
    return _numbered(path, exercises)


def load_apps(path: Path | str, public: int = PUBLIC_TESTS) -> list[Exercise]:
    """Read APPS as JSON lines.

    Keys: problem_id or id, question, solutions, input_output, difficulty, starter_code; solutions and input_output are
    JSON in text.

    Args:
        path: the file.
        public: number of public tests.

    Raises:
        DataNotFoundError, EmptyDataError, DataFormatError: as their names say.
        ExerciseError: an exercise without tests, or too few for some to be hidden.
    """
    return _numbered(path, [_apps(row, public, index, where) for index, (where, row) in enumerate(_rows(path, _Apps))])


def load_code_contests(path: Path | str) -> list[Exercise]:
    """Read CodeContests as JSON lines; exercises without a solution in Python 3 are left out.

    Keys: name, description, public_tests, private_tests, generated_tests, solutions. Its public tests are public,
    private and generated ones are hidden.

    Args:
        path: the file.

    Raises:
        DataNotFoundError, EmptyDataError, DataFormatError: as their names say; EmptyDataError also where none has a
            solution in Python 3.
        ExerciseError: an exercise without public or hidden tests.
    """
    rows = [(where, row, _python_solution(row, where)) for where, row in _rows(path, _Contest)]
    exercises = [_contest(row, solution, where) for where, row, solution in rows if solution]
    if not exercises:
        raise EmptyDataError(
            f"No exercise of {path} has a solution in Python 3 (language 3 or PYTHON3), so none can be verified."
        )
    return _numbered(path, exercises)


class _Mbpp(BaseModel):
    task_id: int | str
    code: str
    test_list: list[str]
    challenge_test_list: list[str] | None = None
    test_imports: list[str] | None = None
    test_setup_code: str | None = None
    text: str | None = None
    prompt: str | None = None


class _HumanEval(BaseModel):
    task_id: int | str
    prompt: str
    entry_point: str = Field(pattern=r"^[^\W\d]\w*$")
    canonical_solution: str
    test: str


class _AppsTests(BaseModel):
    fn_name: str | None = None
    inputs: list[Any]
    outputs: list[Any]


class _Apps(BaseModel):
    problem_id: int | str | None = None
    id: int | str | None = None
    question: str
    solutions: str | list[str]
    input_output: str | dict[str, Any]
    difficulty: str | None = None
    starter_code: str | None = None


class _InOut(BaseModel):
    input: list[str] = Field(default_factory=list)
    output: list[str] = Field(default_factory=list)


class _Solutions(BaseModel):
    language: list[int | str]
    solution: list[str]


class _Contest(BaseModel):
    name: str
    description: str
    public_tests: _InOut
    private_tests: _InOut | None = None
    generated_tests: _InOut | None = None
    solutions: _Solutions


def _mbpp(row: _Mbpp, public: int, where: str) -> UnsettledExercise:
    tests = [*row.test_list, *(row.challenge_test_list or ())]
    if not tests:
        raise _without_tests(row.task_id, where)
    set_up = "\n".join([*(row.test_imports or ()), row.test_setup_code or ""])
    entry = _entry_of(row.code, tests[0])
    if not entry:
        raise DataFormatError(
            f"{where} (MBPP's exercise {row.task_id}): its first test {tests[0]!r} calls no function that its code "
            "defines."
        )
    task = row.text or row.prompt or ""
    _check_told(task, f"{where} (MBPP's exercise {row.task_id})", "text or prompt")
    return UnsettledExercise(f"mbpp-{row.task_id}", task, entry, row.code, "\n".join([set_up, *tests]), False, public)


def _entry_of(code: str, test: str) -> str:
    """Return the function of the code that a test calls; the last one defined, where it calls several."""
    import ast

    try:
        defined = [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
        called = {
            node.func.id
            for node in ast.walk(ast.parse(test))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # what the parser raises for text that is no code
        return ""
    return next((name for name in reversed(defined) if name in called), "")


def _apps(row: _Apps, public: int, index: int, where: str) -> Exercise:
    name = f"apps-{next((identifier for identifier in (row.problem_id, row.id) if identifier is not None), index)}"
    solutions = _decoded(row.solutions, f"{where} ({name}), solutions")
    inputs = _decoded(row.input_output, f"{where} ({name}), input_output")
    if not isinstance(inputs, dict) or not inputs.get("inputs"):
        raise _without_tests(name, where)
    if not solutions:
        raise ExerciseError(
            f"{where}: the exercise {name!r} has no solutions, so its tests cannot be verified. Leave it out, or use "
            "the training split."
        )
    if not isinstance(solutions, list) or not isinstance(solutions[0], str) or not solutions[0].strip():
        raise DataFormatError(
            f"{where} ({name}): solutions is a {type(solutions).__name__}, and has to be a list of programs as texts, "
            "none of them blank."
        )
    _check_told(row.question, f"{where} ({name})", "question")
    tests = row_as(_AppsTests, inputs, f"{where} ({name}), input_output", _APPS_TESTS)
    entry = tests.fn_name or ""
    pairs = _paired(tests.inputs, tests.outputs, f"{where} ({name}), input_output")
    if entry and (wrong := next((each for each, _ in pairs if not isinstance(each, list)), None)) is not None:
        raise DataFormatError(
            f"{where} ({name}): the input {str(wrong)[:60]!r} of {entry} is no list of arguments. Right: {_APPS_TESTS}"
        )
    cases = tuple(
        Case(tuple(inputs), _unwrapped(output))
        if entry
        else Case((_text(inputs, f"{where} ({name})"),), _text(output, f"{where} ({name})"))
        for inputs, output in pairs
    )
    shown = min(public, len(cases) - 1)  # at least one test has to be hidden
    starter = f"\n\n{row.starter_code}" if row.starter_code else ""
    level = _LEVELS.get(row.difficulty or "", 0)
    return Exercise(
        name,
        _question(row.question + starter, entry, cases[:shown]),
        entry,
        cases[:shown],
        cases[shown:],
        solutions[0],
        level,
    )


def _contest(row: _Contest, solution: str, where: str) -> Exercise:
    _check_told(row.description, f"{where} ({row.name})", "description")
    public, *hidden = (
        tuple(Case((input,), output) for input, output in _paired(tests.input, tests.output, f"{where}, {name}"))
        for name, tests in (
            ("public_tests", row.public_tests),
            ("private_tests", row.private_tests),
            ("generated_tests", row.generated_tests),
        )
        if tests
    )
    return Exercise(
        f"contests-{row.name}", _question(row.description, "", public), "", public, tuple(chain(*hidden)), solution
    )


def _paired(left: Sequence[T], right: Sequence[U], where: str) -> list[tuple[T, U]]:
    if len(left) != len(right):
        raise DataFormatError(
            f"{where} has {len(left)} of one and {len(right)} of the other; each stands beside its own, so write as "
            "many of both."
        )
    return list(zip(left, right, strict=True))


def _python_solution(row: _Contest, where: str) -> str:
    pairs = _paired(row.solutions.language, row.solutions.solution, f"{where}, solutions (language and solution)")
    return next((text for kind, text in pairs if kind in _PYTHON3 and text.strip()), "")


def _question(task: str, entry: str, public: tuple[Case, ...]) -> str:
    form = (
        f"Write a Python function {entry}."
        if entry
        else "Write a Python program that reads its standard input and prints the answer."
    )
    return f"{task.strip()}\n\n{form} It has to pass these tests:\n{examples(entry, public)}"


def _unwrapped(expected: Any) -> Any:
    """Take a function's value out of the list of one in which APPS gives it."""
    return expected[0] if isinstance(expected, list) and len(expected) == 1 else expected


def _text(given: Any, where: str) -> str:
    """Join the lines of an input, which APPS gives as a list in some exercises."""
    lines = given if isinstance(given, list) else [given]
    if odd := [line for line in lines if not isinstance(line, str | int | float)]:
        raise DataFormatError(
            f"{where}: {str(odd[0])[:60]!r} is no input or output of a program. Without fn_name, those are texts."
        )
    return "\n".join(map(str, lines))


def _decoded(given: object, where: str) -> Any:
    """Return what APPS gives as JSON in a text."""
    return parse_json(given or "{}", where, _APPS_TESTS) if isinstance(given, str) else given


def _check_told(task: str, where: str, field: str) -> None:
    if not task.strip():
        raise DataFormatError(f"{where}: its {field} is blank, so it asks for nothing. Write what is to be solved.")


def _without_tests(name: object, where: str) -> ExerciseError:
    return ExerciseError(
        f"{where}: the exercise {str(name)!r} has no tests, so anything would pass. Leave it out of the file."
    )


def _rows(path: Path | str, form: type[Form]) -> Iterator[tuple[str, Form]]:
    needed = ", ".join(name for name, field in form.model_fields.items() if field.is_required())
    example = f"an exercise with {needed}"
    for where, row in read_rows(Path(path), (".jsonl", ".json", ".parquet"), example):
        yield where, row_as(form, row, where, example)


def _numbered(path: Path | str, exercises: list[Found]) -> list[Found]:
    """Return exercises of which each has its own id."""
    twice = next((id for id, count in Counter(exercise.id for exercise in exercises).items() if count > 1), "")
    if twice:
        raise DataFormatError(
            f"{path} has more than one exercise with the id {twice!r}. Give each its own: answers are counted by it."
        )
    return exercises
