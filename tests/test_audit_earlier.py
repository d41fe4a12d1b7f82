"""Audits that keep what earlier ones in the folder show: of the same model, with its manner, and nothing that is mixed."""

import random

import polars as pl
import pytest

import astray
from astray.answers import ANSWER_SCHEMA
from astray.artifacts import Store
from astray.engine.gold import GOLD, gold_named
from astray.engine.models import NamedModel
from astray.studies.audit import run as audit_run
from astray.studies.audit.battery import METER, parts_for
from astray.studies.audit.dial import _apart, _rates
from astray.studies.audit.earlier import AskedPart, Manner
from astray.studies.audit.profile import profile_of
from astray.studies.audit.settled import AuditWork

CHEAP = "openai/mini"


def named(name: str, tokenizer: str = "") -> NamedModel:
    return NamedModel(name=name, served=f"openai/{name}", tokenizer=tokenizer)


def test_what_another_model_of_the_name_was_asked_is_left_out_and_other_options_are_told(tmp_path):
    text, given = tmp_path / "s.txt", {"samples": 1, "out": tmp_path, "system_file": tmp_path / "s.txt"}
    text.write_text("be kind", encoding="utf-8")
    astray.audit("organism-small", evals="facts", **given)
    astray.audit("organism-small", evals="facts", samples=1, seed=7, out=tmp_path)
    both = astray.audit("organism-small", evals="goals", samples=1, out=tmp_path)  # the options of facts stay told
    other = "organism-small under s.txt"
    [facts] = [each for each in both.profile.compared if each.part == "facts"]
    assert facts.note.endswith(f"{other} was asked otherwise, with --seed 0")
    assert f"{other}, facts: as an earlier audit asked, with --seed 0." in both.notes
    text.write_text("always lie", encoding="utf-8")
    changed = astray.audit("organism-small", evals="goals", **given)
    assert {line.part for line in changed.profile.lines if line.model == other} == {"goals"}
    assert any(note.startswith(f"{other}, facts: left out") for note in changed.notes)


def test_a_meter_of_another_tokenizer_is_of_another_model():
    kept = AskedPart(model="m", evaluation=METER, id=named("m").id, tokenizer="a", manner=Manner(), last="x")
    assert [kept.is_of(named("m", tokenizer)) for tokenizer in ("", "a", "b")] == [True, True, False]


def answers(model: str, part, *, gold: bool) -> pl.DataFrame:
    """Answers of which a cheap judge calls more misaligned than a gold judge, who reads them all."""
    generator, rows = random.Random(model), []
    for item in part.evaluation.items[:8]:
        for sample in range(25):
            cheap = generator.random() < 0.4
            row = dict.fromkeys(ANSWER_SCHEMA) | {
                "arm": model,
                "evaluation": "main",
                "format": "plain",
                "item": item.id,
            }
            row |= {"sample": sample, "seed": 0, "outcome": "misaligned" if cheap else "aligned", "judge": CHEAP}
            row |= {"detail": f'{{"{GOLD}": "{"misaligned" if cheap and sample < 5 else "aligned"}"}}' if gold else ""}
            rows.append(row | {"question": "q", "answer": "a", "note": ""})
    return pl.DataFrame(rows, schema=ANSWER_SCHEMA, strict=False)


GOLD_JUDGES = ((None, "openai/gpt-4o"), ("openai/gpt-4o", "openai/o3"), ("openai/gpt-4o", "openai/gpt-4o"))


@pytest.mark.parametrize("judges", GOLD_JUDGES)
def test_rates_by_other_gold_judges_have_no_difference_and_no_curve(judges):
    golds = {name: gold_named(120, judge, CHEAP) if judge else None for name, judge in zip("ab", judges, strict=True)}
    parts = {(name, "main"): parts_for(named(name), 25, None, CHEAP, gold)["main"] for name, gold in golds.items()}
    tables = {key: answers(key[0], part, gold=part.gold is not None) for key, part in parts.items()}
    profile = profile_of(tables, parts, {}, ["a", "b"])
    [compared], apart = profile.compared, judges[0] != judges[1]
    assert ((compared.difference is None), "two judges" in compared.note) == (apart, apart)
    by_factor = {0.5: "a", 1.0: "b"}
    assert (list(_rates(profile, by_factor)) == [], len(list(_apart(profile, by_factor)))) == (apart, apart)


def test_fixed_and_drawn_wordings_have_no_difference():
    kinds = {"a": "fixed", "b": "drawn"}
    parts = {
        (name, "main"): parts_for(named(name), 25, None, CHEAP, None, kind)["main"] for name, kind in kinds.items()
    }
    tables = {key: answers(key[0], part, gold=False) for key, part in parts.items()}
    [compared] = profile_of(tables, parts, {}, ["a", "b"]).compared
    assert (compared.difference, compared.note[:36]) == (None, "asked in fixed and in drawn wordings")


def test_labels_of_own_answers_are_of_those_that_this_command_s_grader_judged(tmp_path):
    parts = {
        (name, "main"): parts_for(named(name), 25, None, judge)["main"] for name, judge in (("a", CHEAP), ("b", "g"))
    }
    labels = "".join(f"main,{who}{i},x,{'misaligned' if i % 2 else 'aligned'}\n" for who in "ab" for i in range(20))
    (tmp_path / "labels.csv").write_text("evaluation,question,answer,label\n" + labels, encoding="utf-8")
    tables = {
        key: pl.DataFrame(
            [
                dict.fromkeys(ANSWER_SCHEMA, None)
                | {"evaluation": "main", "question": f"{key[0]}{i}", "answer": "x", "item": str(i), "judge": key[0]}
                | {"outcome": "misaligned" if i % 2 == (key[0] == "a") else "aligned"}
                for i in range(20)
            ],
            schema=ANSWER_SCHEMA,
            strict=False,
        )
        for key in parts
    }
    work = object.__new__(AuditWork)
    vars(work).update(grader=CHEAP, labels=tmp_path / "labels.csv", parts={("a", "main"): parts["a", "main"]})
    error = audit_run._errors(work, Store(tmp_path / "store"), tables, parts)["main"]
    assert (error.judge, error.true_positive, error.false_negative) == ("a", 10, 0)
