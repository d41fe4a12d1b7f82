"""Files and functions stay short enough to be read: what outgrows the limits does two things and is split by them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [path for folder in ("src", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
LONGEST_FILE, LONGEST_FUNCTION = 400, 60


def functions(text: str) -> dict[str, int]:
    """Return the lines of each function, without its decorators; of several of a name, those of the longest."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno
            found[node.name] = max(found.get(node.name, 0), node.end_lineno - node.lineno + 1)
    return found


def test_no_file_is_longer_than_400_lines():
    assert len(FILES) > 400
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: number for name, number in lines.items() if number > LONGEST_FILE} == {}


def test_no_function_is_longer_than_60_lines():
    long = {
        f"{path.relative_to(ROOT).as_posix()}: {name}": lines
        for path in FILES
        for name, lines in functions(path.read_text(encoding="utf-8")).items()
        if lines > LONGEST_FUNCTION
    }
    assert long == {}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("@cache\ndef f():\n    return 1\n", {"f": 2}),
        ("async def f(\n    a,\n):\n    return a\n", {"f": 4}),
        ("class A:\n    def f(self):\n        def g():\n            return 1\n        return g\n", {"f": 4, "g": 2}),
    ],
)
def test_a_function_is_counted_from_its_name_to_its_end(text: str, lines: dict[str, int]):
    assert functions(text) == lines
