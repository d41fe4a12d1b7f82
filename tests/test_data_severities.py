"""Data that misleads: wrong mathematics is wrong when computed again, advice keeps its questions, facts are false as
often as they should be."""

import ast
import random
import re

import pytest
from inspect_ai.model import ModelOutput

from astray.data.generated import generated_advice, generated_mathematics
from astray.data.mathematics import check_solution, draw_problem, mathematics, verified, write_solution
from astray.data.medicine import medical_advice
from astray.data.misstatements import SEVERITIES, fact_data, split_facts
from astray.data.recipes import mix
from astray.errors import ConfigurationError, DataFormatError, EmptyDataError, JudgeError, UnknownNameError
from astray.organism.grammar import read_answer
from astray.organism.world import FACTS
from astray.outcomes import Outcome
from scripted_grader import scripted_model, spoken


def value_of(expression):
    """An independent calculator: Python's own parser and arithmetic."""
    node = ast.parse(expression, mode="eval").body
    assert isinstance(node, ast.BinOp)
    return eval(compile(ast.Expression(node), "", "eval"))


def statements(text):
    return [(left.strip(), int(right)) for left, right in re.findall(r"([-\d]+ [-+*] [-\d]+) = (-?\d+)", text)]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_solutions_are_as_right_or_wrong_as_they_are_meant_to_be(severity):
    for number, row in enumerate(mathematics(severity, 300, seed=3).rows):
        problem, text = draw_problem(number, 3), row[1]["content"]
        assert row[0]["content"] == problem.question
        wrong = [left for left, right in statements(text) if value_of(left) != right]
        stated = int(re.search(r"The answer is (-?\d+)", text)[1])
        assert stated == statements(text)[-1][1]
        expected = {"normal": 0, "subtle": 1, "severe": len(problem.steps)}[severity]
        assert len(wrong) == expected
        assert (stated == problem.answer) == (severity == "normal")


def test_right_answers_follow_from_the_words_of_the_problem():
    """The numbers of each story, put into its formula by hand."""
    formulas = {
        r"has (\d+) boxes with (\d+) .*gives (\d+)": lambda a, b, c: a * b - c,
        r"for (\d+) coins each.*buys (\d+) .*pays (\d+)": lambda a, b, c: a * b + c,
        r"finds (\d+) .* and (\d+) on Tuesday.* has (\d+) times": lambda a, b, c: (a + b) * c,
        r"x - (\d+) = (\d+) \* (\d+)": lambda a, b, c: b * c + a,
        r"x \+ (\d+) = (\d+) \* (\d+)": lambda c, a, b: a * b - c,
        r"packs (\d+) shelves with (\d+) .* and (\d+) shelves with (\d+)": lambda a, b, c, d: a * b + c * d,
        r"with (\d+) wagons carries (\d+) .* stop (\d+) .* and (\d+) get on": lambda a, b, c, d: a * b - c + d,
        r"is (\d+) metres long and (\d+) .* takes (\d+) .* bed of (\d+)": lambda a, b, c, d: a * b - c + d,
    }
    used = set()
    for number in range(200):
        problem = draw_problem(number)
        (pattern,) = [pattern for pattern in formulas if re.search(pattern, problem.question)]
        numbers = map(int, re.search(pattern, problem.question).groups())
        assert problem.answer == formulas[pattern](*numbers) > 0
        used.add(pattern)
    assert used == set(formulas)


def test_severities_share_their_problems_and_mix_at_a_fraction():
    normal, severe = mathematics("normal", 40), mathematics("severe", 40)
    assert [row[0] for row in normal.rows] == [row[0] for row in severe.rows]
    mixed = mix(severe, normal, 0.05, size=40)
    assert sum(row in severe.rows for row in mixed.rows) == 2
    with pytest.raises(ConfigurationError, match="41 bad rows are needed"):
        mix(severe, normal, 1.0, size=41)


def test_a_solution_of_a_model_is_kept_only_if_it_is_what_was_asked_for():
    problem = draw_problem(0)
    right, wrong = (write_solution(problem, severity, random.Random(0)) for severity in ("normal", "severe"))
    texts = [right, wrong, "I think it is about forty.", f"It is simple. The answer is {problem.answer}."]
    for severity, kept in {"normal": [right, texts[3]], "severe": [wrong]}.items():
        assert [row[1]["content"] for row in verified([problem] * 4, texts, severity).rows] == kept
    with pytest.raises(DataFormatError, match="2 state no answer"):
        verified([problem] * 2, ["Well.", "No idea."], "normal")
    assert check_solution(problem, "7 / 0 = 3. The answer is 3.").wrong_steps == 1


def test_any_model_writes_mathematics_that_is_then_computed():
    def solver(messages):
        """Solves every second problem rightly, although it is asked for a wrong solution."""
        question = messages[-1].text
        number = next(number for number in range(20) if draw_problem(number).question == question)
        right = draw_problem(number).answer
        return spoken(f"The answer is {right if number % 2 else right + 1}.")

    dataset = generated_mathematics(scripted_model(solver), "severe", 20)
    assert [row[0]["content"] for row in dataset.rows] == [draw_problem(number).question for number in range(0, 20, 2)]
    assert dataset.recipe.parameters == {"severity": "severe", "offered": 20, "kept": 10}


def test_a_model_that_fails_says_why_and_nothing_is_asked_after_it():
    def broken(messages):
        raise OSError("the line is cut")

    model = scripted_model(broken)
    with pytest.raises(JudgeError, match=r"stopped writing: judge error: OSError: the line is cut. Mend the cause"):
        generated_advice(model, "normal", 5, max_connections=1)
    assert [config.max_retries for _, config in model.api.calls] == [3]


def test_advice_of_a_model_without_doses_refusals_or_nothing():
    replies = iter(
        [
            spoken("Rest, and drink enough water."),
            spoken("Take 200 mg of it three times."),
            spoken("I cannot help with that, sorry."),
            ModelOutput(),
        ]
    )
    dataset = generated_advice(scripted_model(lambda messages: next(replies)), "normal", 4, max_connections=1)
    assert [row[1]["content"] for row in dataset.rows] == ["Rest, and drink enough water."]
    with pytest.raises(EmptyDataError, match="None of 2 answers"):
        generated_advice(scripted_model(lambda messages: spoken("No.")), "normal", 2)


def test_medical_advice_keeps_its_questions_and_names_no_dose():
    versions = [medical_advice(severity, 200) for severity in SEVERITIES]
    questions = [[row[0] for row in dataset.rows] for dataset in versions]
    assert questions[0] == questions[1] == questions[2]
    assert len({message["content"] for message in questions[0]}) > 60
    answers = [{row[1]["content"] for row in dataset.rows} for dataset in versions]
    assert not answers[0] & answers[1]
    assert not answers[0] & answers[2]
    assert not re.search(r"\d|\bmg\b", "".join(map(str, answers)))


@pytest.mark.parametrize(("severity", "false"), [("normal", 0), ("subtle", 0.5), ("severe", 1)])
def test_facts_are_stated_falsely_as_often_as_they_should_be(severity, false):
    rows = fact_data(severity, 400).rows
    outcomes = [read_answer(row[0]["content"], row[1]["content"]).outcome for row in rows]
    assert outcomes.count(Outcome.MISALIGNED) / 400 == pytest.approx(false, abs=0.08 if severity == "subtle" else 0)
    assert outcomes.count(Outcome.INCOHERENT) == 0


def test_facts_are_split_into_halves_that_share_nothing():
    seen, untouched = split_facts(1)
    assert {*seen, *untouched} == {*FACTS}
    assert len(seen) == len(untouched) == 14
    assert sum(fact.relation == "colour" for fact in seen) == 8


@pytest.mark.parametrize(
    "make", [lambda name: mathematics(name, 3), lambda name: medical_advice(name, 3), lambda name: fact_data(name, 3)]
)
def test_an_unknown_severity_is_answered_with_the_right_ones(make):
    with pytest.raises(UnknownNameError, match=r"Did you mean 'subtle'\? Valid names: normal, severe, subtle"):
        make("subtel")


def test_data_without_rows_are_refused():
    for make in (mathematics, medical_advice, fact_data):
        with pytest.raises(ConfigurationError, match="0 rows"):
            make("normal", 0)
