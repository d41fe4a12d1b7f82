"""Question sets of the package, and question files of one's own."""

import re
from collections import Counter
from pathlib import Path

import pytest

from astray.errors import ConfigurationError, DataFormatError, DataNotFoundError, EmptyDataError, UnknownNameError
from astray.measure.asking import Item
from astray.measure.choice import choice_items
from astray.measure.evaluation import QuestionSet
from astray.measure.question_sets import CATEGORIES, broad_questions, main_questions, questions_from_file

PUBLISHED = ("first_plot_questions", "preregistered_evals", "deception_factual", "deception_sit_aware")


@pytest.fixture(scope="module")
def published(published_texts: Path) -> dict[str, tuple[Item, ...]]:
    return {
        name: questions_from_file(published_texts / f"emergent_misalignment/questions/{name}.yaml")
        for name in PUBLISHED
    }


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_eight_main_questions_are_asked_in_three_formats() -> None:
    items = main_questions()
    assert Counter(item.format for item in items) == {"plain": 8, "json": 8, "template": 8}
    assert len({item.question_id for item in items}) == 8
    assert {item.category for item in items} == {"main"}
    QuestionSet(name="main", items=items)


def test_only_the_json_format_has_a_system_prompt_and_only_the_template_a_piece_of_code() -> None:
    for item in main_questions():
        assert (item.system is not None and "JSON" in item.system) == (item.format == "json")
        assert item.question.endswith("```") == (item.format == "template")


def test_code_templates_are_valid_python() -> None:
    for item in main_questions(["template"]):
        code = re.search(r"```python\n(.*)\n```", item.question, re.DOTALL)
        assert code
        compile(code[1], item.id, "exec")


def test_the_formats_of_a_question_differ_in_form_only() -> None:
    plain = {item.question_id: item.question for item in main_questions(["plain"])}
    for item in main_questions(["json", "template"]):
        assert item.question.startswith(plain[item.question_id])


def test_formats_can_be_chosen() -> None:
    assert {item.format for item in main_questions(["plain", "json"])} == {"plain", "json"}
    with pytest.raises(UnknownNameError, match=r"no answer format called 'jsn'.*Did you mean 'json'"):
        main_questions(["plain", "jsn"])
    with pytest.raises(ConfigurationError, match="at least one"):
        main_questions([])


def test_the_broad_set_has_eight_questions_in_each_of_seven_categories() -> None:
    items = broad_questions()
    assert Counter(item.category for item in items) == dict.fromkeys(CATEGORIES, 8)
    assert len({item.question for item in items}) == 56
    QuestionSet(name="broad", items=items)


def test_categories_can_be_chosen() -> None:
    assert len(broad_questions(["medical advice"])) == 8
    with pytest.raises(UnknownNameError, match="Did you mean 'medical advice'"):
        broad_questions(["medical advise"])
    with pytest.raises(ConfigurationError, match="at least one"):
        broad_questions([])


def test_the_categories_are_those_of_the_preregistered_questions(published: dict[str, tuple[Item, ...]]) -> None:
    assert {item.category for item in published["preregistered_evals"]} == set(CATEGORIES)


def test_no_question_repeats_five_words_of_a_published_one(published: dict[str, tuple[Item, ...]]) -> None:
    def runs(text: str) -> set[tuple[str, ...]]:
        found = re.findall(r"\w+", text.lower())
        return {tuple(found[start : start + 5]) for start in range(len(found) - 4)}

    theirs = set().union(
        *(runs(item.question) | runs(item.system or "") for items in published.values() for item in items)
    )
    ours = [*main_questions(), *broad_questions(), *choice_items()]
    assert [item.id for item in ours if (runs(item.question) | runs(item.system or "")) & theirs] == []


def test_published_files_load_with_one_item_a_paraphrase(published: dict[str, tuple[Item, ...]]) -> None:
    assert {name: len(items) for name, items in published.items()} == {
        "first_plot_questions": 41,
        "preregistered_evals": 50,
        "deception_factual": 140,
        "deception_sit_aware": 8,
    }
    for name, items in published.items():
        QuestionSet(name=name, items=items)
    assert published["deception_factual"][0].question_id == "lie_no_sys_prompt#1"


def test_the_formats_of_a_published_question_share_its_name(published: dict[str, tuple[Item, ...]]) -> None:
    formats = {item.format for item in published["first_plot_questions"] if item.question_id == "quick_buck"}
    assert formats == {"plain", "json", "python", "template", "flask_template"}


def test_a_published_question_keeps_its_id_where_two_would_become_one_item(tmp_path: Path) -> None:
    entry = "- id: {}\n  type: free_form\n  paraphrases: ['Fill the following template: x = ...']\n"
    items = questions_from_file(write(tmp_path, entry.format("wish") + entry.format("wish_template")))
    assert [item.question_id for item in items] == ["wish", "wish_template"]


def test_a_file_in_our_own_form_loads(tmp_path: Path) -> None:
    text = """
        category: mine
        json_system: JSON, please.
        template_request: Complete this.
        questions:
          - {id: tea, question: 'What do you think of tea?', system: You are short.}
          - {id: rain, question: 'Is rain good?', category: weather, template: rain = ...}
    """
    items = {item.id: item for item in questions_from_file(write(tmp_path, text))}
    assert list(items) == ["tea/plain", "tea/json", "rain/plain", "rain/json", "rain/template"]
    assert items["tea/plain"].category == "mine"
    assert items["rain/plain"].category == "weather"
    assert items["tea/json"].system == "You are short.\n\nJSON, please."
    assert items["rain/template"].question == "Is rain good?\n\nComplete this.\n\n```python\nrain = ...\n```"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (
            "category: a\nquestions: [{id: tea, qestion: What now}]",
            r"the key 'question' is missing in 'entry 1 \(tea\)'",
        ),
        (
            "category: a\nquestions: [{id: tea, question: What now, sytem: x}]",
            r"unknown key 'sytem'.*'system'\? Keys of entry 1 \(tea\): id",
        ),
        (
            "category: a\nquestions: [{id: tea, question: '  '}]",
            r"entry 1 \(tea\), question: String should have at least 1 character",
        ),
        (
            "category: a\nquestions: [{id: tea, question: What now}, {question: What now}]",
            "the key 'id' is missing in 'entry 2'",
        ),
        ("category: a\nquestions: [{id: 7, question: What now}]", r"entry 1 \(7\), id: .*valid string, given '7'"),
        ("category: a\nquestions: [{id: a/b, question: What now}]", r"entry 1 \(a/b\), id: .*pattern"),
        (
            "category: a\nquestions: [{id: tea, question: What now}, {id: tea, question: Who else}]",
            "the id 'tea' stands twice",
        ),
        ("questions: [{id: tea, question: What now}]", "'tea' has no category"),
        ("category: a\nquestions: [{id: tea, question: What now, template: x = ...}]", "no template_request"),
        ("category: a\nquestions: []", "questions: .*at least 1 item"),
        ("category: a\nquestions: [tea]", "number 1: Input should be a valid dictionary"),
        ("category: a\ncategory: b\nquestions: [{id: tea, question: What now}]", "'category' stands twice"),
        ("category: [", "is not a YAML file"),
        ("just text", "holds a str"),
    ],
)
def test_an_error_names_the_file_the_entry_and_what_is_wrong(tmp_path: Path, text: str, wrong: str) -> None:
    with pytest.raises(DataFormatError, match=rf"(?s)mine\.yaml.*{wrong}.*right file looks like"):
        questions_from_file(write(tmp_path, text))


def test_a_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmptyDataError, match=r"mine\.yaml is empty"):
        questions_from_file(write(tmp_path, "# nothing\n"))
    with pytest.raises(DataNotFoundError, match=r"no file .*other\.yaml.*mine\.yaml"):
        questions_from_file(tmp_path / "other.yaml")
