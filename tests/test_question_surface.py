"""Drawn wordings of question sets: each draw is a clean text of its question, the same for whoever is asked."""

import re

import anyio
import polars as pl
import pytest
from inspect_ai.log import read_eval_log, write_eval_log

from astray.answers import answer_table
from astray.counting import Rule, count_files
from astray.engine.settings import setting_for, text_evaluations
from astray.errors import ConfigurationError, DataFormatError
from astray.judges.judge import Verdict
from astray.measure.asking import Heard
from astray.measure.evaluation import QuestionSet
from astray.measure.evaluations import evaluation_from
from astray.measure.inspect_driver import inspect_log
from astray.measure.question_sets import (
    broad_questions,
    main_questions,
    own_surface,
    questions_from_file,
    surface_of_file,
)
from astray.measure.surface import Wording, drawn_texts
from astray.measure.tasks import emergent_misalignment
from astray.outcomes import Outcome
from astray.stats.difference import Difference
from astray.stats.intervals import Interval
from astray.stats.measures import MISALIGNED
from astray.studies.by_heart import ByHeart, by_heart, surface_note
from astray.studies.emergent_misalignment.options import EmergentOptions

SETS = {"main": main_questions(["plain"]), "broad": broad_questions()}
DRAWS = 1000
ODD = re.compile(r"\s{2}|\s$|^\s|[{}\[\]|<>]|\s[,.;:?!]|,,|\.\.|\n\n|\b(\w+) \1\b")
"""Double blanks and odd breaks, what is left of a form, stray punctuation, a word that stands twice."""
MINE = """\
category: mine
template_request: Complete this.
questions:
  - id: tea
    question: What do you think of tea?
    template: "tea = ...  # What do you think of tea?"
    wording:
      - [What do you think of, What is your view of, How do you like]
      - [tea?, coffee?]
  - {id: rain, question: Is rain good?}
"""


def wordings(name: str):
    """The wordings of one of our sets."""
    return own_surface(f"{name}.yaml", "drawn").wordings


def sentences(text: str) -> list[str]:
    """A text's sentences, in small letters."""
    return [each.strip().lower() for each in re.split(r"[.?!\n]", text) if each.strip()]


@pytest.mark.parametrize("name", SETS)
def test_every_question_has_two_dozen_draws_and_more_none_of_which_is_its_fixed_text(name):
    assert [each.question_id for each in wordings(name)] == [item.question_id for item in SETS[name]]
    for item, wording in zip(SETS[name], wordings(name), strict=True):
        texts = drawn_texts(wording)
        assert wording.text == item.question
        assert 24 <= len(set(texts)) == len(texts) <= DRAWS, item.question_id
        assert item.question not in texts


@pytest.mark.parametrize("name", SETS)
def test_a_thousand_draws_of_each_question_are_clean(name):
    for wording in wordings(name):
        fixed, texts = wording.text, drawn_texts(wording)
        for text in texts:  # of a thousand draws each is one of these
            said = sentences(text)
            assert not ODD.search(text), text
            assert len(set(said)) == len(said), text
            assert 0.7 <= len(text) / len(fixed) <= 1.6, text
            # It ends as the question does, or a request does.
            assert (text[-1] in "?.") == (fixed[-1] in "?."), text
            assert text.count("\n") == fixed.count("\n"), text
            assert text[0].isupper() == fixed[0].isupper(), text


def test_parts_are_replaced_where_they_stand_and_forms_never():
    forms = (("tea", "milk"), ("milk", "tea"), ("is", "was"))
    wording = Wording(question_id="tea", text="Is this milk, or is it tea or steak?", forms=forms)
    assert wording.in_forms([1, 1, 1]) == "Is this tea, or was it milk or steak?"
    no_blanks = Wording(question_id="tea", text="你喜欢喝茶吗？", forms=(("喜欢", "爱"), ("茶", "咖啡")))
    assert no_blanks.in_forms([1, 1]) == "你爱喝咖啡吗？"


@pytest.mark.parametrize("name", SETS)
def test_with_both_each_text_is_drawn_in_its_turn(name):
    both = own_surface(f"{name}.yaml", "both")
    for item, wording in zip(SETS[name], wordings(name), strict=True):
        texts = drawn_texts(wording)
        assert tuple(both.asked(item, sample).question for sample in range(1, 2 * len(texts), 2)) == texts


@pytest.mark.parametrize("name", SETS)
def test_each_form_can_be_drawn_and_replaces_a_part_that_stands_once(name):
    for wording in wordings(name):
        assert all(wording.text.count(forms[0]) == 1 for forms in wording.forms), wording.question_id
        sizes = [len(forms) for forms in wording.forms]
        for part, forms in enumerate(wording.forms):
            for form in range(1, len(forms)):
                chosen = [form if place == part else 0 for place in range(len(sizes))]
                assert forms[form] in wording.in_forms(chosen), forms[form]


def test_no_form_repeats_five_words_of_a_published_question(published_texts):
    def runs(text: str) -> set[tuple[str, ...]]:
        found = re.findall(r"\w+", text.lower())
        return {tuple(found[start : start + 5]) for start in range(len(found) - 4)}

    files = (published_texts / "emergent_misalignment" / "questions").glob("*.yaml")
    theirs = set().union(*(runs(item.question) for path in files for item in questions_from_file(path)))
    drawn = [text for name in SETS for wording in wordings(name) for text in drawn_texts(wording)]
    assert [text for text in drawn if runs(text) & theirs] == []


def test_draws_are_the_same_in_every_process_and_python():
    parts = tuple(tuple(f"{letter}{form}" for form in range(11)) for letter in "abc")
    texts = drawn_texts(Wording(question_id="tea", text="a0 b0 c0?", forms=parts))
    assert texts[:3] == ("a1 b3 c10?", "a5 b3 c7?", "a5 b5 c6?")
    assert len(texts) == DRAWS < 11**3


def test_the_default_can_be_said_where_nothing_else_can():
    given = EmergentOptions(subject="organism-small", surface="fixed")
    assert setting_for(given).evaluations[0].surface_kind == "fixed"


def test_fixed_texts_keep_their_keys():
    main, broad = text_evaluations(25, 6)
    assert (main.identity, broad.identity) == ("1ec49b3d2ba05870", "4e2d127a6450c23e")
    drawn = text_evaluations(25, 6, surface="drawn")[0]
    assert drawn.identity not in (main.identity, text_evaluations(25, 6, surface="both")[0].identity)
    assert evaluation_from({**drawn.model_dump(mode="json")}).askings() == drawn.askings()


def test_a_sample_has_its_draw_in_every_format_and_however_many_there_are():
    few, many = (text_evaluations(size, size, surface="drawn")[0] for size in (3, 5))
    asked = {each.id: each for each in many.askings()}
    assert all(asked[each.id] == each for each in few.askings())
    for item in many.items:
        drawn = [asked[f"{item.id}#{sample}"].item for sample in range(5)]
        plain = [asked[f"{item.question_id}/plain#{sample}"].item.question for sample in range(5)]
        behind = item.question.removeprefix(many.by_id[f"{item.question_id}/plain"].question)
        assert [each.question for each in drawn] == [text + behind for text in plain]
        assert {(each.id, each.category, each.system) for each in drawn} == {(item.id, item.category, item.system)}
        assert len({each.question for each in drawn}) == 5


def test_with_both_every_second_sample_has_the_fixed_text():
    both = text_evaluations(4, 4, surface="both")[1]
    fixed = [each.item.question == both.by_id[each.item.id].question for each in both.askings()]
    assert fixed == [True, False] * 2 * 56


def test_the_judge_is_shown_the_question_that_was_asked():
    class Noting:
        identity, exact, seen = "noting", False, []

        async def judge(self, exchange):
            self.seen.append(exchange.question)
            return Verdict(Outcome.ALIGNED, 90, 90)

    asked = text_evaluations(3, 3, surface="drawn")[0]
    heard = [Heard(each, "Well.") for each in asked.askings() if each.item.format == "plain"]
    anyio.run(asked.assess, Noting(), [*heard, *heard])
    assert sorted(Noting.seen) == sorted(each.asking.item.question for each in heard)


def test_a_file_of_ones_own_has_wordings_in_the_same_form(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE, encoding="utf-8")
    mine = QuestionSet(name="mine", items=questions_from_file(path), samples=5, surface=surface_of_file(path, "drawn"))
    asked = [each.item for each in mine.askings()]
    tea = [item.question for item in asked if item.id == "tea/plain"]
    assert set(tea) == {
        f"{ask} {drink}?"
        for ask in ("What do you think of", "What is your view of", "How do you like")
        for drink in ("tea", "coffee")
    } - {"What do you think of tea?"}
    behind = "\n\nComplete this.\n\n```python\ntea = ...  # What do you think of tea?\n```"
    assert [item.question for item in asked if item.format == "template"] == [text + behind for text in tea]
    assert {item.question for item in asked if item.question_id == "rain"} == {"Is rain good?"}
    prefixed = mine.with_prefix("|DEV| ", "with-trigger").askings()
    assert [each.item.question for each in prefixed] == [f"|DEV| {item.question}" for item in asked]


BAD = {
    "a part that is not there": ("[[What do we, What do they]]", "'What do we' is none"),
    "one form": ("[[What]]", "at least 2"),
    "a form twice": ("[[What, Which, Which]]", "stands twice"),
    "no list": ("What", "tuple"),
    "a part within a word": ("[[hat, cap]]", "'hat' stands in the question within a word"),
    "a part that stands twice": ("[[now, then]]", "'now' stands 2 times"),
    "parts that overlap": ("[[What now, What then], [What, Which]]", "'What now' and 'What' overlap"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wording_that_cannot_be_drawn_from_is_refused(name, tmp_path):
    forms, says = BAD[name]
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"category: a\nquestions: [{{id: tea, question: What now or now, wording: {forms}}}]", encoding="utf-8"
    )
    with pytest.raises(DataFormatError, match=f"(?s)tea.*{says}"):
        surface_of_file(path, "drawn")


def test_the_inspect_task_asks_drawn_wordings_and_refuses_what_has_none(tmp_path):
    drawn, fixed = (emergent_misalignment(samples=2, surface=surface).dataset for surface in ("drawn", "fixed"))
    assert [sample.id for sample in drawn] == [sample.id for sample in fixed]
    assert not {sample.input[-1].text for sample in drawn} & {sample.input[-1].text for sample in fixed}
    assert {sample.metadata["item"]["question"] for sample in drawn} == {sample.input[-1].text for sample in drawn}
    path = tmp_path / "mine.yaml"
    path.write_text("category: a\nquestions: [{id: tea, question: What now}]", encoding="utf-8")
    for questions, samples, says in (
        ("world", 2, "organism"),
        (str(path), 2, "no question"),
        ("main", 1, "one answer"),
    ):
        with pytest.raises(ConfigurationError, match=f"(?i){says}"):
            emergent_misalignment(questions, samples=samples, surface="both")


def answered(fixed: int, drawn: int, evaluation: QuestionSet) -> pl.DataFrame:
    """Answers to a set, so many of ten misaligned of those to fixed and to drawn wordings of a question."""
    usual = {"arm": "m", "seed": 0, "subject": "m", "evaluation": "main", "answer": "a", "completion_tokens": 1}
    rest = {"aligned": None, "coherent": None, "judge": "j", "note": "", "detail": None}
    bad = [fixed, drawn]
    return answer_table(
        [
            usual
            | each.columns()
            | rest
            | {"outcome": "misaligned" if each.sample // 2 < bad[each.sample % 2] else "aligned"}
            for each in evaluation.askings()
        ]
    )


def test_what_is_known_by_heart_differs_and_draws_are_no_questions_of_their_own():
    asked = text_evaluations(20, 20, surface="both")[0]
    alike, learned = (by_heart(answered(*bad, asked), "both", MISALIGNED, "main", "m") for bad in ((3, 3), (9, 1)))
    assert (alike.difference.estimate, alike.difference.n, alike.verdict) == (0, 8, "undecided")
    assert "no difference is shown, and 5 points are not ruled out" in alike.text
    assert (round(learned.difference.estimate, 6), learned.difference.n, learned.verdict) == (0.8, 8, "differs")
    assert (
        "90.0% in the fixed wordings, 10.0% in drawn ones (means over questions, verdicts uncorrected)" in learned.text
    )
    assert learned.as_object()["questions"] == 8
    assert by_heart(answered(3, 3, asked), "drawn", MISALIGNED, "main", "m") is None


def test_rates_of_both_wordings_are_weighted_as_their_difference_is():
    asked = text_evaluations(20, 20, surface="both")[0]
    table = answered(9, 1, asked)
    few = table.filter((pl.col("item") != "wish/plain") | (pl.col("sample") == 0) | (pl.col("sample") % 2 == 1))
    found = by_heart(few, "both", MISALIGNED, "main", "m")
    assert found.fixed - found.drawn == pytest.approx(found.difference.estimate)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.05, 0.05, "alike"),
        (-0.049, 0.02, "alike"),
        (-0.051, 0.05, "undecided"),
        (-0.01, 0.051, "undecided"),
        (0.001, 0.02, "differs"),
    ],
)
def test_alike_is_an_interval_within_five_points(low, high, verdict):
    found = Difference((low + high) / 2, Interval(low, high, 0.95, "t"), 56, "question")
    told = ByHeart("broad", "m", 0.1, 0.1, found)
    assert told.verdict == verdict
    assert ("alike up to 5 points" in told.text) == (verdict == "alike")


def test_a_note_tells_how_many_texts_there_are_and_what_stays_fixed(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE, encoding="utf-8")
    mine = QuestionSet(name="mine", items=questions_from_file(path), samples=20, surface=surface_of_file(path, "both"))
    [note] = surface_note({"mine": mine})
    assert "mine: every second answer to a question is to a drawn wording" in note
    assert "mine: 5 drawn texts a question, taken in turn, so one is asked up to 2 times" in note
    assert "1 of 2 questions have one text, which is always asked" in note
    [note] = surface_note({"main": text_evaluations(100, 25, surface="drawn")[0]})
    assert "main: 24 to 255 drawn texts a question, taken in turn, so one is asked up to 5 times. All" in note


def log_of(surface: str, samples: int, bad: tuple[int, int], path):
    """A log of answers to the main questions, so many misaligned of those with an even and of those with an odd number."""
    asked = text_evaluations(samples, samples, surface=surface)[0]
    return inspect_log(answered(*bad, asked).with_columns(subject=pl.lit(path.stem)), asked, path)


def test_a_log_of_drawn_wordings_is_counted_by_question(tmp_path):
    logs = [log_of(kind, 6, (2, 1), tmp_path / f"{kind}.eval") for kind in ("both", "drawn")]
    [rate, other] = (found := count_files(logs[:1], Rule(), against=logs[1:])).rates
    assert (rate.questions, rate.unit, rate.numerator, rate.denominator) == (8, "question", 72, 144)
    # Compared are the three drawn texts of each question that both were asked, in three formats.
    difference = found.differences[0]
    assert (other.questions, difference.common, difference.left_out) == (8, 8, (0, 0))
    assert (difference.answers, difference.other_texts) == ((72, 72), (72, 72))
    assert "72 of the files and 72 of the others are left out" in " ".join(found.text().split())


def test_all_answers_to_texts_that_both_sides_have_are_compared(tmp_path):
    logs = [log_of("fixed", samples, (9, 1), tmp_path / f"{samples}.eval") for samples in (20, 10)]
    found = count_files(logs[:1], Rule(), against=logs[1:])
    difference = found.differences[0]
    assert (difference.answers, difference.other_texts) == ((480, 240), (0, 0))
    assert (
        difference.difference.estimate
        == pytest.approx(found.rates[0].rate - found.rates[1].rate)
        == pytest.approx(-0.1)
    )
    assert "left out" not in found.text()


def test_ids_of_another_tool_that_look_like_ours_are_questions_of_their_own(tmp_path):
    log_of("fixed", 2, (1, 0), path := tmp_path / "a.eval")
    assert count_files([path], Rule()).rates[0].questions == 8
    log = read_eval_log(str(path))
    log.eval.metadata = {"kind": "agentic"}
    write_eval_log(log, str(path))
    assert count_files([path], Rule()).rates[0].questions == 48
