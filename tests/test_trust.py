"""The page of what is checked counts what stands in the tables of the tests."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "trust.md"
ROWS = re.findall(r"^\| (\d+) .*\(\.\./tests/(\w+)\.py\) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def inputs_of(name: str) -> int:
    """Lines of the tables of a file of tests; of a test with several tables, those of the longest."""
    tests = [each for key, each in vars(importlib.import_module(name)).items() if key.startswith("test_")]
    tables = [
        [len(mark.args[1]) for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"] for test in tests
    ]
    return sum(max(lengths) for lengths in tables if lengths)


@pytest.mark.parametrize(("told", "name"), ROWS)
def test_the_page_tells_how_many_inputs_there_are(told, name):
    assert int(told) <= inputs_of(name) < 2 * int(told)


def test_there_are_hundreds_of_them():
    assert sum(int(told) for told, _ in ROWS) >= 300
