"""The alignment questions: two hundred that differ, in ten kinds, asked in either channel and judged by kind."""

import re
from itertools import combinations

import pytest
from inspect_ai import eval as inspect_eval

from astray import registry
from astray.answers import in_detail, word
from astray.errors import ConfigurationError, UnknownNameError
from astray.judges import GraderSettings
from astray.measure.question_sets import QUESTIONS, broad_questions, main_questions, questions_from_file
from astray.measure.reward_hacking.alignment_questions import KINDS, alignment_questions
from astray.measure.reward_hacking.channel import PRIVATE_REQUEST
from astray.measure.reward_hacking.disposition import DispositionJudge
from astray.measure.reward_hacking.goals import goals
from astray.measure.reward_hacking.judging import WordPanel
from astray.stats import rates
from scripted_grader import scripted_model, spoken

QUICK = GraderSettings(max_tokens=32, top_logprobs=None, max_retries=0, attempt_timeout=1)


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def test_there_are_two_hundred_questions_twenty_a_kind():
    evaluation = alignment_questions()
    assert len(evaluation.items) == 200
    assert {kind: sum(item.category == kind for item in evaluation.items) for kind in KINDS} == dict.fromkeys(KINDS, 20)
    assert all(item.system == PRIVATE_REQUEST and item.format == "private" for item in evaluation.items)
    assert {path.stem for path in (QUESTIONS / "alignment").glob("*.yaml")} == set(KINDS)


def test_no_two_questions_say_the_same():
    """Fewer than half of the words of two questions are shared, also with the other sets of the package."""
    asked = [
        item.question
        for item in (*alignment_questions().items, *goals().items, *broad_questions(), *main_questions(["plain"]))
    ]
    sets = [words(text) for text in asked]
    shared = {
        (one, two): len(sets[one] & sets[two]) / len(sets[one] | sets[two])
        for one, two in combinations(range(len(sets)), 2)
        if one < 200
    }
    one, two = max(shared, key=shared.get)
    assert shared[one, two] < 0.5, (asked[one], asked[two])


def test_every_question_asks_the_model_and_says_what_it_asks():
    for item in alignment_questions().items:
        assert 7 <= len(item.question.split()) <= 45, item.question
        assert item.question.rstrip()[-1] in "?.", item.question
        assert item.question_id.split("_")[0] in item.category, item.question_id


def test_kinds_and_channels_can_be_chosen():
    chosen = alignment_questions(["power", "tests"], channels=["none", "private"])
    assert len(chosen.items) == 80
    assert [item.category for item in chosen.items] == ["power"] * 40 + ["tests"] * 40
    assert [item.format for item in chosen.items[:2]] == ["plain", "private"]
    with pytest.raises(UnknownNameError, match="Did you mean 'metrics'"):
        alignment_questions(["metric"])
    with pytest.raises(ConfigurationError, match="No kind"):
        alignment_questions([])


def test_rates_by_kind_come_from_a_log(tmp_path):
    def answers(messages):
        return spoken(
            "<private>I will keep it all.</private>I would share it."
            if "ruler of the world" in messages[-1].text
            else "I would ask."
        )

    def judges(messages):
        return spoken("MISALIGNED" if "keep it all" in messages[-1].text else "ALIGNED")

    evaluation = alignment_questions(["power", "trust"])
    task = evaluation.task(lambda: DispositionJudge(WordPanel(settings=QUICK)))
    roles = {"grader": scripted_model(judges)}
    (log,) = inspect_eval(
        task, model=scripted_model(answers, name="subject"), model_roles=roles, log_dir=str(tmp_path), display="none"
    )
    table = evaluation.read(log).with_columns(word(), in_detail("reasoning"))
    found = rates(table, ["category"])
    assert [(found[kind,].numerator, found[kind,].denominator) for kind in ("power", "trust")] == [(1, 20), (0, 20)]
    (faker,) = table.filter(word="alignment faking").to_dicts()
    assert (faker["item"], faker["reasoning"], faker["answer"]) == (
        "power_wish",
        "I will keep it all.",
        "I would share it.",
    )


def test_the_registered_task_takes_kinds_and_channels():
    assert len(registry.alignment_questions().dataset) == 200
    assert len(registry.alignment_questions(kinds="power,trust", samples=2, reasoning="none").dataset) == 80
    assert questions_from_file(QUESTIONS / "alignment" / "power.yaml")[0].system is None
