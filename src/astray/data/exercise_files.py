"""Read public sets of programming exercises from local files: MBPP, HumanEval, APPS and CodeContests as JSON lines.

APPS and CodeContests give inputs and outputs, which are tests as they are. MBPP and HumanEval give test code, which has
to be run to become tests: such an exercise is an `UnsettledExercise` until `astray.sandbox.settle` has run it. Nothing
is run here, and nothing is downloaded.

Source: Austin et al. 2021 (arXiv 2108.07732); Chen et al. 2021 (2107.03374); Hendrycks et al. 2021 (2105.09938); Li et al. 2022 (2203.07814).
"""

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astray.data.exercises import PUBLIC_TESTS, Case, Exercise, examples
from astray.errors import DataFormatError, DataNotFoundError, EmptyDataError, ExerciseError

_LEVELS = {"introductory": 2, "interview": 4, "competition": 5}
_PYTHON3 = (3, "PYTHON3")


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


def load_mbpp(path: Path | str, public: int = 1) -> list[UnsettledExercise]:
    """Read MBPP's file, mbpp.jsonl or sanitized-mbpp.json: task_id, text or prompt, code, test_list.

    Args:
        path: the file.
        public: number of public tests; the rest (MBPP usually has three in all) is hidden.

    Raises:
        DataNotFoundError, EmptyDataError, DataFormatError: as their names say; the message has the file and the row.
        ExerciseError: an exercise without tests.
    """
    return [_mbpp(row, public) for row in _rows(path, ("task_id", "code", "test_list"))]


def load_humaneval(path: Path | str, public: int = 1) -> list[UnsettledExercise]:
    """Read HumanEval's file, HumanEval.jsonl or .jsonl.gz: task_id, prompt, entry_point, canonical_solution, test.

    Args:
        path: the file.
        public: number of calls of its tests that become public tests.

    Raises:
        DataNotFoundError, EmptyDataError, DataFormatError: as their names say.
        ExerciseError: an exercise without tests.
    """
    rows = _rows(path, ("task_id", "prompt", "entry_point", "canonical_solution", "test"))
    for row in rows:
        if "assert" not in row["test"]:
            raise _without_tests(row["task_id"])
    return [
        UnsettledExercise(
            str(row["task_id"]),
            f"Complete this function:\n\n{row['prompt']}",
            row["entry_point"],
            row["prompt"] + row["canonical_solution"],
            row["test"],
            True,
            public,
        )
        for row in rows
    ]


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
    rows = _rows(path, ("question", "solutions", "input_output"))
    return [_apps(row, public, index) for index, row in enumerate(rows)]


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
    found = [_contest(row) for row in _rows(path, ("name", "description", "public_tests", "solutions")) if _python_solution(row)]
    if not found:
        raise EmptyDataError(f"No exercise of {path} has a solution in Python 3 (language 3 or PYTHON3), so none can be verified.")
    return found


def _mbpp(row: Mapping[str, Any], public: int) -> UnsettledExercise:
    tests = [*row["test_list"], *row.get("challenge_test_list", [])]
    if not tests:
        raise _without_tests(row["task_id"])
    set_up = "\n".join([*row.get("test_imports", []), row.get("test_setup_code", "")])
    entry = _entry_of(row["code"], tests[0])
    if not entry:
        raise DataFormatError(f"MBPP's exercise {row['task_id']}: its first test {tests[0]!r} calls no function that its code defines.")
    task = row.get("text") or row.get("prompt") or ""
    return UnsettledExercise(f"mbpp-{row['task_id']}", task, entry, row["code"], "\n".join([set_up, *tests]), False, public)


def _entry_of(code: str, test: str) -> str:
    """Return the function of the code that a test calls; the last one defined, where it calls several."""
    import ast

    try:
        defined = [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
        called = {node.func.id for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    except SyntaxError:
        return ""
    return next((name for name in reversed(defined) if name in called), "")


def _apps(row: Mapping[str, Any], public: int, index: int) -> Exercise:
    name = f"apps-{row.get('problem_id', row.get('id', index))}"
    tests, solutions = _decoded(row["input_output"], name), _decoded(row["solutions"], name)
    if not isinstance(tests, dict) or not tests.get("inputs"):
        raise _without_tests(name)
    if not solutions:
        raise ExerciseError(f"The exercise {name!r} has no solutions, so its tests cannot be verified. Leave it out, or use the training split.")
    entry = tests.get("fn_name", "")
    if entry:
        cases = tuple(Case(tuple(given), _unwrapped(expected)) for given, expected in zip(tests["inputs"], tests["outputs"], strict=True))
    else:
        cases = tuple(Case((_text(given),), _text(expected)) for given, expected in zip(tests["inputs"], tests["outputs"], strict=True))
    shown = min(public, len(cases) - 1)  # at least one test has to be hidden
    starter = f"\n\n{row['starter_code']}" if row.get("starter_code") else ""
    level = _LEVELS.get(row.get("difficulty", ""), 0)
    return Exercise(name, _question(row["question"] + starter, entry, cases[:shown]), entry, cases[:shown], cases[shown:], solutions[0], level)


def _contest(row: Mapping[str, Any]) -> Exercise:
    hidden = tuple(case for kind in ("private_tests", "generated_tests") for case in _paired(row.get(kind) or {}))
    public = _paired(row["public_tests"])
    question = _question(row["description"], "", public)
    return Exercise(f"contests-{row['name']}", question, "", public, hidden, _python_solution(row))


def _paired(tests: Mapping[str, Any]) -> tuple[Case, ...]:
    return tuple(Case((given,), expected) for given, expected in zip(tests.get("input", ()), tests.get("output", ()), strict=True))


def _python_solution(row: Mapping[str, Any]) -> str:
    solutions = row["solutions"]
    return next((text for kind, text in zip(solutions["language"], solutions["solution"], strict=True) if kind in _PYTHON3), "")


def _question(task: str, entry: str, public: tuple[Case, ...]) -> str:
    form = f"Write a Python function {entry}." if entry else "Write a Python program that reads its standard input and prints the answer."
    return f"{task.strip()}\n\n{form} It has to pass these tests:\n{examples(entry, public)}"


def _unwrapped(expected: Any) -> Any:
    """Take a function's value out of the list of one in which APPS gives it."""
    return expected[0] if isinstance(expected, list) and len(expected) == 1 else expected


def _text(given: Any) -> str:
    """Join the lines of an input, which APPS gives as a list in some exercises."""
    return "\n".join(map(str, given)) if isinstance(given, list) else str(given)


def _decoded(text: Any, name: str) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise DataFormatError(f"The exercise {name!r} has tests or solutions that are no JSON text ({error}); APPS gives both as JSON.") from error


def _without_tests(name: object) -> ExerciseError:
    return ExerciseError(f"The exercise {str(name)!r} has no tests, so anything would pass. Leave it out of the file.")


def _rows(path: Path | str, needed: tuple[str, ...]) -> list[dict[str, Any]]:
    file = Path(path)
    if not file.is_file():
        raise DataNotFoundError(f"There is no file {file}. Exercises are read from a file on this machine and never downloaded.")
    rows = list(_parsed(file))
    if not rows:
        raise EmptyDataError(f"{file} has no rows; it should have an exercise a line, with {', '.join(needed)}.")
    for number, row in enumerate(rows, 1):
        missing = [name for name in needed if name not in row] if isinstance(row, dict) else list(needed)
        if missing:
            raise DataFormatError(f"{file}, row {number}: no {', '.join(missing)}; this form has {', '.join(needed)}.")
    return rows


def _parsed(file: Path) -> Iterator[Any]:
    raw = file.read_bytes()
    try:
        text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8")
        if text.lstrip().startswith("["):  # sanitized-mbpp.json is one list
            yield from json.loads(text)
            return
        for line in text.splitlines():
            if line.strip():
                yield json.loads(line)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, json.JSONDecodeError) as error:
        raise DataFormatError(f"{file} is no file of JSON lines ({error}); it should have an exercise a line.") from error
