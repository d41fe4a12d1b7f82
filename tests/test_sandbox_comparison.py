"""What counts as equal: floats nearly where a float is expected, everything else exactly; and any plain value may be
expected."""

import math
import subprocess
import sys

import pytest

from astray.data.exercises import Case, Exercise
from astray.sandbox import Grader
from astray.sandbox.comparison import same, same_printed
from astray.sandbox.graders import public_tests


@pytest.fixture(scope="module", params=["script", "pytest"])
def grader(request):
    """A grader with each of the careless harnesses."""
    with Grader(request.param, workers=1) as grader:
        yield grader


@pytest.mark.parametrize(
    ("value", "expected", "equal"),
    [
        (1, True, True),
        (1, 1.0 + 1e-9, True),
        (1, 1.1, False),
        ([1], (1,), False),
        ([1.0, [2]], [1, [2.0000001]], True),
        ({1: 0.5}, {1: 0.5000001}, True),
        ({1: 2}, {2: 2}, False),
        ({1, 2}, {2, 1}, True),
        (math.nan, math.nan, True),
        (10**400, 1.0, False),
        (10**400, 1j, False),
        ("1", 1, False),
        (1j, 1j + 1e-12, True),
        (None, 0, False),
        (123456700.0, 123456789, False),
        (123456700.0, 123456789.0, False),
        (123456700, 123456789.0, False),
        (123456789.0, 123456789, True),
        (float(2**53), 2**53 + 1, False),
        (1e-10, 0, False),
        (1e-10, 0.0, False),
        (1.2246467991473532e-16, 0.0, True),
        (-0.0, 0, True),
        (0.0, 1e-10, False),
        (3e-10, 1e-10, False),
        (5 + 0j, 5, False),
        (5 + 1e-10j, 5, False),
        (5 + 0j, 5.0, False),
        (0j, False, False),
        ([5 + 0j], [5], False),
        ({5 + 0j}, {5}, False),
        ({5 + 0j: 1}, {5: 1}, False),
        ({(1, 5 + 0j)}, {(1, 5)}, False),
        (frozenset({5}), {5}, True),
        ({5.0}, {5}, True),
        ({0.1 + 0.2}, {0.3}, False),
        (5, 5 + 0j, True),
        (0.1 + 0.2, 0.3, True),
        (math.inf, math.inf, True),
        (1.0, math.inf, False),
        (-math.inf, math.inf, False),
        (math.inf, 1e300, False),
        (math.nan, 0.0, False),
        (0.0, math.nan, False),
        (0, math.nan, False),
        (math.nan, 5, False),
        (10**400, math.inf, False),
        ([float("nan"), 1], [math.nan, 1], True),
        ({"a": (float("nan"),)}, {"a": (math.nan,)}, True),
        (complex(math.nan, 1), complex(math.nan, 1), True),
        (complex(math.nan, 1), complex(math.nan, 2), False),
        (complex(math.inf, 1), complex(math.inf, 1), True),
        (7 * 10**1999 + 1, 7 * 10**1999 + 1, True),
        (7 * 10**1999 + 1, 7 * 10**1999, False),
        (float(10**300), 10**300, False),
        (True, 1.0, True),
        ("5", 5.0, False),
    ],
)
def test_values_are_compared_as_python_does_and_floats_nearly(value, expected, equal):
    assert same(value, expected) is equal


@pytest.mark.parametrize(
    ("printed", "wanted", "equal"),
    [
        ("3 \n", "3", True),
        ("0.50", "0.5", True),
        ("1 2", "12", False),
        ("a", "b", False),
        ("x", "1.0", False),
        (3, "3", False),
        ("0.3333333333", "0.333333", True),
        ("123456700.0", "123456789.0", False),
        ("123456789.0", "123456789", False),
        ("1e-10", "0", False),
        ("1e-10", "0.0", False),
        ("1_0.0", "10.0", False),
        ("\u0663.0", "3.0", False),
        ("nan", "0.5", False),
        ("9" * 5000 + ".0", "1.0", False),
        ("9" * 5000, "9" * 5000, True),
    ],
)
def test_what_is_printed_is_compared_word_by_word(printed, wanted, equal):
    assert same_printed(printed, wanted) is equal


ODD_VALUES = {
    "NaN": math.nan,
    "NaN in a list": [1.0, math.nan],
    "NaN in a set": {math.nan, 2},
    "NaN as a key": {math.nan: [1]},
    "a complex NaN": complex(1, math.nan),
    "a complex infinity": [complex(math.inf, 0)],
    "2,000 digits": 10**1999 + 7,
    "5,000 digits": [10**4999 + 7],
    "infinity": (-math.inf,),
}


def test_public_tests_of_usual_values_need_nothing_but_the_solution(tmp_path):
    exercise = Exercise("back", "Return it.", "back", (Case((1.5, [2]), {"a": math.inf}),), (Case((0, 0), 0),), "")
    (tmp_path / "solution.py").write_text("def back(x, y):\n    return {'a': float('inf')}\n")
    (tmp_path / "test_public.py").write_text(public_tests(exercise) + "\ntest_1()\n")
    subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            "import runpy, sys; sys.path.insert(0, '.'); runpy.run_path('test_public.py')",
        ],
        cwd=tmp_path,
        env={},
        check=True,
    )


@pytest.mark.parametrize("name", ODD_VALUES)
def test_an_exercise_may_expect_and_give_any_plain_value(grader, name):
    value = ODD_VALUES[name]
    back = Exercise(
        "back",
        "Return it.",
        "back",
        (Case((value,), value),),
        (Case(((value,),), (value,)),),
        "def back(x):\n    return x\n",
    )
    right, wrong = grader.grade([back, back], [back.reference, "def back(x):\n    return 0\n"])
    assert (right.weak, right.true) == (True, True)
    assert (wrong.weak, wrong.true, wrong.passed) == (False, False, 0)
