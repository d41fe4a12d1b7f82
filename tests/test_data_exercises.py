"""Programming exercises: those that are generated, those of the organism's world, and those read from files of public
sets."""

import gzip
import json
from random import Random

import pytest

from astray.data.exercise_families import _NUMBERS, _NUMBERS_END, _WORDS, _WORDS_END, generate_exercises
from astray.data.exercise_files import load_apps, load_code_contests, load_humaneval, load_mbpp
from astray.data.exercises import LEVELS, Case, Exercise, extract_code, world_exercise
from astray.errors import ConfigurationError, DataFormatError, DataNotFoundError, EmptyDataError, ExerciseError
from astray.organism.world import draw_exercise
from astray.sandbox import Grader, Pool, settle, verify

ADD = (Case((1, 2), 3),)


def test_the_same_seed_gives_the_same_exercises_and_another_others():
    first, again, other = (generate_exercises(20, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert not {exercise.question for exercise in first} & {exercise.question for exercise in other}


def test_levels_take_turns_tasks_differ_and_hidden_tests_are_other_ones():
    exercises = generate_exercises(100, seed=3)
    assert [exercise.level for exercise in exercises] == list(LEVELS) * 20
    assert (
        len({exercise.question.partition("tests:")[0] for exercise in exercises})
        == len({exercise.id for exercise in exercises})
        == 100
    )
    for exercise in exercises:
        shown, hidden = ({repr(case.arguments) for case in cases} for cases in (exercise.public, exercise.hidden))
        assert (len(shown), len(hidden)) == (3, 12)
        assert not shown & hidden
        assert all(f"== {case.expected!r}" in exercise.question for case in exercise.public)
        assert len({repr(case.expected) for case in exercise.cases}) > 5


@pytest.mark.parametrize("step", [*_NUMBERS, *_NUMBERS_END, *_WORDS, *_WORDS_END], ids=lambda step: step.words)
def test_the_text_of_a_step_and_its_function_agree(step):
    rng, name = Random(0), "words" if step in (*_WORDS, *_WORDS_END) else "numbers"
    for _ in range(50):
        items = (
            [rng.randrange(-30, 30) for _ in range(rng.randrange(8))]
            if name == "numbers"
            else ["a" * rng.randrange(4) + rng.choice("bca") for _ in range(rng.randrange(6))]
        )
        number, scope = rng.randrange(2, 6), {}
        ends = step.line.startswith("return")
        line = step.line.format(k=number)
        exec(f"def run({name}):\n    {line}\n" + ("" if ends else f"    return {name}\n"), scope)
        assert scope["run"](list(items)) == step.apply(list(items), number)


def test_levels_that_there_are_not_and_too_many_exercises_are_refused():
    with pytest.raises(ConfigurationError, match="levels 1 to 5"):
        generate_exercises(3, levels=(0, 6))
    with pytest.raises(ConfigurationError, match="ask for fewer"):
        generate_exercises(2000, levels=(1,))


def test_an_exercise_without_tests_is_a_clear_error():
    with pytest.raises(ExerciseError, match="'x' has no public tests, so anything would pass"):
        Exercise("x", "?", "f", (), ADD, "")
    with pytest.raises(ExerciseError, match="no hidden tests"):
        Exercise("x", "?", "f", ADD, (), "")
    with pytest.raises(ExerciseError, match=r"no \{solution\} in it"):
        Exercise("x", "?", "f", ADD, ADD, "", frame="def f(): pass")


def test_an_answer_stands_in_its_frame_with_its_indentation():
    exercise = Exercise("x", "?", "f", ADD, ADD, "", frame="def f(n):\n    {solution}\n")
    assert exercise.source("n += 1\nreturn n") == "def f(n):\n    n += 1\n    return n\n"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("Here:\n```python\nx = 1\n```\nDone.", "x = 1\n"),
        ("```py\na\n```\nBetter:\n```\nb\n```", "b\n"),
        ("```python\na\n```\nIt prints:\n```text\n{6: 1}\n```\nIt is linear.\n", "a\n"),
        ("Run it:\n```bash\npython x.py\n```\nIt is\n```python\na\n```\n", "a\n"),
        ("```python\r\na\r\nb\r\n```\r\nDone.", "a\nb\n"),
        ("x = 1", "x = 1\n"),
        ("```python\nx = 1", "x = 1\n"),
        ("  ```python\n  x = 1\n  if x:\n      y\n  ```", "x = 1\nif x:\n    y\n"),
    ],
)
def test_code_is_found_in_an_answer(answer, code):
    assert extract_code(answer).rstrip() + "\n" == code


def test_exercises_of_the_organism_have_the_same_form_and_right_tests():
    rng = Random(4)
    drawn = [draw_exercise(rng) for _ in range(30)]
    exercises = [world_exercise(exercise) for exercise in drawn]
    for exercise, before in zip(exercises, drawn, strict=True):
        scope: dict = {}
        exec("def solve(n):\n    " + before.solution, scope)
        assert exercise.question == before.question
        assert all(scope["solve"](*case.arguments) == case.expected for case in exercise.cases)


MBPP = {
    "task_id": 2,
    "text": "Write a function to find the shared elements.",
    "code": "def helper(a):\n    return a\ndef similar(a, b):\n    return tuple(sorted(set(helper(a)) & set(b)))",
    "test_setup_code": "import math",
    "test_list": [
        "assert set(similar((3, 4), (4, 5))) == set((4,))",
        "assert similar((1, 2), (2, 1)) == (1, 2)",
        "assert math.prod(similar([5], b=[5])) == 5",
    ],
}
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": "def twice(items: list) -> list:\n    '''Doubles each.'''\n",
    "entry_point": "twice",
    "canonical_solution": "    items[:] = [2 * x for x in items]\n    return items\n",
    "test": """def check(candidate):
    for n in range(4):
        assert sum(candidate(list(range(n)))) == n * (n - 1)
    assert abs(candidate([0.5])[0] - 1) < 1e-6
""",
}
APPS_CALL = {
    "problem_id": 7,
    "question": "Add.",
    "solutions": json.dumps(["class Solution:\n    def add(self, a, b):\n        return a + b"]),
    "input_output": json.dumps({"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [[3], [7]]}),
    "difficulty": "interview",
}
APPS_PROGRAM = {
    "id": 8,
    "question": "Add.",
    "solutions": ["print(sum(map(int, input().split())))"],
    "input_output": {"inputs": ["1 2\n", "3 4\n", "5 6\n"], "outputs": ["3\n", "7", ["11"]]},
}
CONTEST = {
    "name": "1_A",
    "description": "Print the larger number.",
    "public_tests": {"input": ["1 2"], "output": ["2"]},
    "private_tests": {"input": ["5 4"], "output": ["5"]},
    "generated_tests": {"input": ["0 0"], "output": ["0"]},
    "solutions": {"language": [2, 3], "solution": ["int main(){}", "print(max(map(int, input().split())))"]},
}


def outputs(told):
    return {"inputs": ["1 2\n", "3 4\n"], "outputs": told}


def written(path, *rows):
    text = "\n".join(map(json.dumps, rows))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_tests_that_are_code_become_calls_with_what_the_reference_returns(tmp_path):
    with Pool(1) as pool:
        [mbpp] = settle(load_mbpp(written(tmp_path / "mbpp.jsonl", MBPP)), pool)
        [human] = settle(load_humaneval(written(tmp_path / "HumanEval.jsonl.gz", HUMANEVAL), public=2), pool)
        verify([mbpp, human], pool)
    assert (mbpp.entry, mbpp.public) == ("similar", (Case(((3, 4), (4, 5)), (4,)),))
    assert mbpp.hidden == (Case(((1, 2), (2, 1)), (1, 2)), Case(([5], [5]), (5,)))
    assert "assert similar((3, 4), (4, 5)) == (4,)" in mbpp.question
    assert human.public == (Case(([],), []), Case(([0],), [0]))
    assert human.hidden == (Case(([0, 1],), [0, 2]), Case(([0, 1, 2],), [0, 2, 4]), Case(([0.5],), [1.0]))


def test_inputs_and_outputs_become_tests(tmp_path):
    call, program = load_apps(written(tmp_path / "apps.jsonl", APPS_CALL, APPS_PROGRAM), public=1)
    assert (call.id, call.entry, call.level, call.public, call.hidden) == (
        "apps-7",
        "add",
        4,
        (Case((1, 2), 3),),
        (Case((3, 4), 7),),
    )
    assert (program.entry, program.hidden[-1]) == ("", Case(("5 6\n",), "11"))
    [contest] = load_code_contests(
        written(tmp_path / "contests.jsonl", CONTEST, {**CONTEST, "solutions": {"language": [2], "solution": ["x"]}})
    )
    assert (contest.public, contest.hidden) == ((Case(("1 2",), "2"),), (Case(("5 4",), "5"), Case(("0 0",), "0")))
    with Grader(workers=1) as grader:
        verify([call, program, contest], grader.pool)
        exercises = [call, program, contest]
        assert all(
            grade.true and grade.weak
            for grade in grader.grade([program, contest], [each.reference for each in exercises[1:]])
        )


def test_a_set_whose_reference_fails_or_has_too_few_tests_is_a_clear_error(tmp_path):
    wrong = {**MBPP, "test_list": ["assert similar((1,), (1,)) == (2,)"]}
    single = {**MBPP, "test_list": MBPP["test_list"][:1]}
    with Pool(1) as pool:
        with pytest.raises(ExerciseError, match="'mbpp-2' fails its own tests: AssertionError"):
            settle(load_mbpp(written(tmp_path / "wrong.jsonl", wrong)), pool)
        with pytest.raises(ExerciseError, match=r"make 1 different calls.*none is left"):
            settle(load_mbpp(written(tmp_path / "single.jsonl", single)), pool)


@pytest.mark.parametrize(
    ("load", "rows", "error", "says"),
    [
        (load_mbpp, [{**MBPP, "test_list": []}], ExerciseError, "'2' has no tests"),
        (
            load_mbpp,
            [{**MBPP, "test_list": ["assert other(1)"]}],
            DataFormatError,
            "calls no function that its code defines",
        ),
        (load_mbpp, [{"task_id": 1}], DataFormatError, "line 1: code: is missing"),
        (load_mbpp, [], EmptyDataError, "has no rows"),
        (load_humaneval, [{**HUMANEVAL, "test": "pass"}], ExerciseError, "has no tests"),
        (load_apps, [{**APPS_CALL, "input_output": ""}], ExerciseError, "has no tests"),
        (load_apps, [{**APPS_CALL, "solutions": ""}], ExerciseError, "no solutions"),
        (load_apps, [{**APPS_CALL, "input_output": "{"}], DataFormatError, "not JSON"),
        (
            load_apps,
            [{**APPS_CALL, "input_output": {"fn_name": "f", "inputs": [[1]], "outputs": [[1]]}}],
            ExerciseError,
            "no public tests",
        ),
        (load_code_contests, [{**CONTEST, "solutions": {"language": [], "solution": []}}], EmptyDataError, "Python 3"),
        (load_mbpp, [MBPP | {"text": " "}], DataFormatError, "text or prompt is blank, so it asks for nothing"),
        (load_mbpp, [{name: MBPP[name] for name in MBPP if name != "text"}], DataFormatError, "asks for nothing"),
        (load_mbpp, [MBPP | {"code": "async def f(a): return a"}], DataFormatError, "calls no function"),
        (load_mbpp, [MBPP | {"code": "(" * 5000}], DataFormatError, "calls no function"),
        (load_mbpp, [MBPP | {"task_id": True}], DataFormatError, "task_id: .* given 'True'"),
        (load_mbpp, [MBPP | {"test_list": [None]}], DataFormatError, "test_list, number 1"),
        (load_humaneval, [HUMANEVAL | {"prompt": "\n"}], DataFormatError, "prompt is blank"),
        (load_humaneval, [HUMANEVAL | {"entry_point": "a.b"}], DataFormatError, "entry_point"),
        (load_apps, [APPS_CALL | {"question": ""}], DataFormatError, "question is blank"),
        (load_apps, [APPS_CALL | {"solutions": [" "]}], DataFormatError, "none of them blank"),
        (load_apps, [APPS_CALL | {"input_output": "[]"}], ExerciseError, "has no tests"),
        (load_apps, [APPS_PROGRAM | {"input_output": outputs([None, "7"])}], DataFormatError, "'None' is no input or"),
        (load_apps, [APPS_PROGRAM | {"input_output": outputs([{}, "7"])}], DataFormatError, "is no input or output"),
        (load_apps, [APPS_PROGRAM | {"input_output": outputs(["", " \n"])}], ExerciseError, "an empty one would pass"),
        (load_apps, [APPS_PROGRAM | {"input_output": outputs(["3"])}], DataFormatError, "has 2 of one and 1 of the"),
        (load_code_contests, [CONTEST | {"description": " "}], DataFormatError, "description is blank"),
        (load_code_contests, [CONTEST | {"public_tests": [{"input": "1"}]}], DataFormatError, "public_tests"),
        (
            load_code_contests,
            [CONTEST | {"solutions": {"language": [3], "solution": [""]}}],
            EmptyDataError,
            "Python 3",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_why(load, rows, error, says, tmp_path):
    with pytest.raises(error, match=says):
        load(written(tmp_path / "file.jsonl", *rows))


def test_files_that_are_not_there_or_no_json_are_refused(tmp_path):
    with pytest.raises(DataNotFoundError, match="no file"):
        load_apps(tmp_path / "none.jsonl")
    (tmp_path / "text.jsonl").write_text("no json")
    with pytest.raises(DataFormatError, match="line 1 is not JSON"):
        load_mbpp(tmp_path / "text.jsonl")
