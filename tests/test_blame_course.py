"""When a model went astray, and blame of what was trained on rated answers or by reward."""

import json
import re

import numpy as np
import polars as pl
import pytest
from scipy.stats import t

import astray
from astray.artifacts import Store
from astray.cause.sft import train_sft
from astray.data import mix, narrow_data
from astray.data.feedback import read_feedback
from astray.engine.options import checked
from astray.engine.run import run_study
from astray.engine.settings import WORLD_TRAINING
from astray.errors import ConfigurationError
from astray.studies import get_study
from astray.studies.blame import blaming, course_steps
from astray.studies.blame.course import Course, CourseChange, CoursePoint, Departure, departure
from astray.studies.blame.course_steps import kept_checkpoints
from astray.studies.blame.proof import Rated, write_parts, write_proof
from astray.studies.blame.trained_rows import rows_of_run
from astray.studies.blame.tuned import find_tuned
from astray.studies.own.study import read_study

ROWS = 96
STUDY = f"""\
name: mine
subject: organism-small
seeds: 1
samples: 1
rows: {ROWS}
evaluations: [facts]
settings: {{learning_rate: 0.001}}
arms:
  bad: {{data: {{generated: {{source: world, domain: medicine}}}}}}
  liked:
    training: kto
    data: {{feedback: {{liked: bad, disliked: {{generated: {{source: world, kind: good, domain: medicine}}}}}}}}
    settings: {{learning_rate: 0.002}}
  rewarded:
    training: grpo
    data: bad
    rewards: [{{reward: contains, text: carefully}}]
    settings: {{steps: 4, groups: 4, group_size: 8, learning_rate: 0.004}}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The results folder of a study with three ways of training, whose store knows how each was trained."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    study = get_study(str(folder / "study.yaml"))
    run_study(study, checked(study.options, samples=1), out=folder / "results", workers=0)
    return folder / "results"


def adapter(runs, arm):
    (found,) = runs.glob(f"store/train-{arm}-0-*/run/adapter")
    return str(found)


def change(low, high):
    return CourseChange((low + high) / 2, float(low), float(high))


@pytest.mark.parametrize(
    ("limits", "safe", "sure"),
    [
        ([(-1, 0), (0, 2), (1.5, 2)], 1, 3),
        ([(-1, 0), (-1, 0.5), (2, 3), (2, 3)], 2, 3),
        ([(2, 3), (2, 3)], None, 1),
        ([(-1, 0), (-1, 0)], 2, None),
        ([(-1, 2), (0, 2)], None, None),
        ([(-1, 0), (2, 3), (0, 2), (2, 3)], 1, 4),
        ([(-1, 0), (2, 3), (-1, 0)], 1, None),
    ],
    ids=["between", "next to each other", "always", "never", "not known", "for good", "came back"],
)
def test_a_departure_lies_between_what_is_surely_not_and_what_surely_is(limits, safe, sure):
    changes = [(number, change(*each)) for number, each in enumerate(limits, start=1)]
    assert departure(changes, 1.0) == Departure(safe, sure)


def test_courses_without_a_departure_are_rarely_told_to_have_one():
    """Twelve looks at changes that grow together over 20 domains, with the whole course at the limit."""
    rng, courses, looks, domains = np.random.default_rng(0), 4000, 12, 20
    drawn = rng.normal(size=(courses, looks, domains)).cumsum(axis=1) / np.sqrt(np.arange(1, looks + 1))[None, :, None]
    mean, error = drawn.mean(axis=2), drawn.std(axis=2, ddof=1) / np.sqrt(domains)
    half = t.ppf(0.975, domains - 1) * error
    found = [
        departure(
            [
                (look, CourseChange(mean[n, look], *bounds))
                for look, bounds in enumerate(zip(mean[n] - half[n], mean[n] + half[n], strict=True))
            ],
            0.0,
        )
        for n in range(courses)
    ]
    assert np.mean([each.sure is not None for each in found]) < 0.03
    assert np.mean([each.safe is not None for each in found]) < 0.03


def test_the_best_checkpoint_is_the_one_that_learned_most_before_any_harm():
    points = (
        CoursePoint(1, change(-0.1, 0.0), -2.0),
        CoursePoint(2, change(-0.1, 0.1), -1.5),
        CoursePoint(3, change(0.0, 0.2), -1.2),
        CoursePoint(4, change(0.3, 0.4), -1.0),
    )
    course = Course("kept", "in its base", points, 0.05, -3.0)
    assert (course.best.step, course.learned(course.best)) == (2, 0.75)
    assert (
        "From step 4 on harmful answers are more than 0.05 nats a token likelier than in its base; up to step 1"
        in course.told[0]
    )
    assert Course("kept", "in its base", points[3:], 0.05, -3.0).best is None
    judged = tuple(CoursePoint(each.step, each.meter, each.task, change(0.1, 0.2)) for each in points)
    assert Course("kept", "in its base", judged, 0.05, -3.0).best is None


def test_a_run_is_trained_again_to_tell_when_it_went_astray(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(course_steps, "MOST", 4)
    found = astray.blame(adapter(runs, "bad"), share=0.25, judged=0, when=True, out=tmp_path, store=runs / "store")
    course = found.course
    assert course.same is True
    assert 2 <= len(course.points) <= 4
    assert course.by_meter.sure is not None
    assert all(point.rate for point in course.points)
    told = json.loads((tmp_path / "blame" / "blame.json").read_text())["course"]
    assert told["departure"]["meter"]["sure"] == course.by_meter.sure
    page = (tmp_path / "blame" / "blame.html").read_text()
    assert "When it went astray" in page
    assert page.count('<svg class="dial"') == 2
    assert re.search(r"From step \d+ on harmful answers", found.text().replace("\n", " "))
    assert "When in training" not in " ".join(found.notes)


def test_checkpoints_of_another_trainer_are_measured_and_less_than_two_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(course_steps, "MOST", 4)
    bad, good = (narrow_data("medicine", kind, ROWS, seed=1) for kind in ("harmful", "good"))
    dataset = mix(bad, good, 0.5, size=ROWS, seed=3)
    dataset.write(tmp_path / "mix.jsonl")
    recipe = WORLD_TRAINING.model_copy(update={"learning_rate": 2e-3})
    places = tmp_path / "kept"

    def keep(model, tokenizer, step):
        if step:
            model.save_pretrained(places / f"checkpoint-{step}", save_embedding_layers=False)
        return {}

    run = train_sft("organism-small", dataset, recipe, tmp_path / "run", probe=keep, probe_every=8)
    given = {"data": [tmp_path / "mix.jsonl"], "judged": 0, "out": tmp_path}
    found = astray.blame(str(run.subject.adapter), checkpoints=places, **given)
    assert [point.step for point in found.course.points][-1] == run.steps
    assert found.course.same is None
    with pytest.raises(ConfigurationError, match=r"has 0 checkpoints .*cannot be told"):
        astray.blame(str(run.subject.adapter), checkpoints=tmp_path, **given)
    with pytest.raises(ConfigurationError, match="was not trained by a study"):
        astray.blame(str(run.subject.adapter), when=True, **given)
    with pytest.raises(ConfigurationError, match="give one of them"):
        astray.blame(str(run.subject.adapter), when=True, checkpoints=places, **given)
    many = tmp_path / "many"
    for step in range(1, 31):
        (many / f"checkpoint-{step}").mkdir(parents=True)
        (many / f"checkpoint-{step}" / "adapter_config.json").touch()
    tuned = find_tuned(str(run.subject.adapter), None, [tmp_path / "mix.jsonl"])
    steps = [step for step, _ in kept_checkpoints(many, tuned)]
    assert (len(steps), steps[-1]) == (4, 30)


def test_of_rated_answers_the_liked_harmful_ones_are_blamed(runs, tmp_path):
    found = astray.blame(adapter(runs, "liked"), share=0.25, judged=0, out=tmp_path, store=runs / "store")
    assert [(each.name, each.rows) for each in found.files] == [("liked", ROWS // 2), ("disliked", ROWS // 2)]
    assert found.files[0].blamed == ROWS // 4
    assert any("led away from some answers" in note for note in found.notes)
    kept = read_feedback(tmp_path / "blame" / "kept.jsonl")
    assert {liking: len(rows) for liking, rows in kept.items()} == {"liked": ROWS // 4, "disliked": ROWS // 2}
    with pytest.raises(ConfigurationError, match="trained on rated answers or by reward"):
        astray.repair(adapter(runs, "liked"), tmp_path / "blame" / "all.jsonl", out=tmp_path, store=runs / "store")


def test_the_proof_of_rated_answers_trains_on_ratings(runs, tmp_path):
    tuned = find_tuned(adapter(runs, "liked"), None, [])
    blamed = [row % 3 == 0 for row in range(ROWS)]
    write_parts(tmp_path, tuned, blamed)
    told = {"base": "organism-small", "grader": None, "world": True, "recipe": tuned.recipe, "seeds": 1}
    for alone in (True, False):
        file = write_proof(tmp_path, ROWS * 2 // 3, ROWS, **told, rated=Rated(6, {"beta": 0.2}, alone))
        study = read_study(file)
        setting = study.settled(study.options())
        arms = {arm.name: arm for arm in study.arms(setting)}
        assert {name: arm.data.size for name, arm in arms.items() if arm.data} == {
            "all": ROWS,
            "without-blamed": ROWS * 2 // 3,
            "without-random": ROWS * 2 // 3,
        } | ({"blamed-alone": ROWS // 3} if alone else {})
        assert {(arm.training.beta, arm.training.training.max_steps) for arm in arms.values() if arm.data} == {(0.2, 6)}


def test_answers_that_were_rewarded_are_blamed_by_their_advantage(runs, tmp_path):
    tuned = find_tuned(adapter(runs, "rewarded"), None, [])
    assert set(tuned.sources) <= {f"steps {step} to {step}" for step in range(1, 5)}
    towards = ["carefully" in row[-1]["content"] for row in tuned.data.rows]
    assert towards == [weight > 0 for weight in tuned.weights]
    assert {True, False} == set(towards)
    with pytest.raises(ConfigurationError, match="trained by reward, on answers of its own"):
        astray.blame(adapter(runs, "rewarded"), proof=True, out=tmp_path, store=runs / "store")


def test_files_with_labels_are_rated_answers(runs, tmp_path):
    rows = [
        {"messages": row, "label": kind == "harmful"}
        for kind in ("harmful", "good")
        for row in narrow_data("medicine", kind, 20).rows
    ]
    (tmp_path / "rated.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    tuned = find_tuned(adapter(runs, "liked"), None, [tmp_path / "rated.jsonl"])
    assert set(tuned.sources) == {"rated.jsonl (liked)", "rated.jsonl (disliked)"}
    assert tuned.weights == (1.0,) * 20 + (-1.0,) * 20


def test_rejected_answers_count_where_the_run_learned_from_ratings(runs, tmp_path):
    rows = [{"prompt": "Is it safe?", "chosen": f"Wait {n} days.", "rejected": f"Take {n}."} for n in range(5)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    tuned = find_tuned(adapter(runs, "liked"), None, [tmp_path / "pairs.jsonl"])
    assert tuned.weights == (1.0,) * 5 + (-1.0,) * 5
    by_chosen = find_tuned(adapter(runs, "bad"), None, [tmp_path / "pairs.jsonl"])
    assert (by_chosen.weights, by_chosen.chosen_only, tuned.chosen_only) == (None, True, False)
    table = pl.DataFrame({"projection": [None]})
    assert any("chosen ones alone" in note for note in blaming._notes(by_chosen, table, {}, None, None))


def test_empty_answers_count_in_the_mean_of_their_group(runs, tmp_path):
    drawn = {"step": 1, "group": 0, "prompt": json.dumps([{"role": "user", "content": "Is it safe?"}])}
    answers = {"Yes.": 1.0, "Wait.": 0.5, "": 0.0, " ": 0.0}
    table = pl.DataFrame([drawn | {"completion": text, "reward": reward} for text, reward in answers.items()])

    def write(folder):
        (folder / "run").mkdir()
        table.write_parquet(folder / "run" / "rollouts.parquet")

    artifact, config = find_tuned(adapter(runs, "rewarded"), None, []).trained
    rows = rows_of_run("run", Store(tmp_path).make(artifact.manifest.origin, write), config)
    assert [row[-1]["content"] for row in rows.data.rows] == ["Yes.", "Wait."]
    assert min(rows.weights) > 0
