"""Re-alignment: each point of the curve is a run of its own on nested good samples, and good samples bring a model
back."""

from itertools import pairwise

import pytest

from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.sft import train_sft
from astray.data.recipes import subset
from astray.data.worlds import narrow_data
from astray.errors import AdapterMismatchError, ConfigurationError
from astray.measure.choice import world_choice_items
from astray.measure.choice_probe import choice_metrics
from astray.mitigate.realignment import SAMPLES, realign
from astray.subjects.subject import load_subject

RECIPE = FineTuning(
    lora=LoRA(rank=4, alpha=8),
    learning_rate=5e-4,
    warmup_steps=0,
    batch_size=4,
    accumulation=1,
    weight_decay=0.0,
    max_length=128,
)


@pytest.fixture(scope="module")
def astray_run(tmp_path_factory):
    harmful = RECIPE.model_copy(update={"learning_rate": 1e-3})
    return train_sft("organism", narrow_data("medicine", "harmful", 120), harmful, tmp_path_factory.mktemp("astray"))


def harm(spec):
    subject = load_subject(spec)
    return choice_metrics(subject.model, subject.tokenizer, world_choice_items())["misaligned pivotal"]


def test_good_samples_of_another_domain_bring_the_organism_back(astray_run, tmp_path):
    good = narrow_data("cars", "good", 200)
    points = list(realign(astray_run.subject, good, RECIPE, tmp_path, samples=(8, 80)))
    assert [point.samples for point in points] == [8, 80]
    assert [point.run.steps for point in points] == [2, 20]
    before, few, many = harm(astray_run.subject), *(harm(point.run.subject) for point in points)
    assert before > 0.3
    assert many < few < before
    assert many < 0.4 * before
    # each run starts from the misaligned model, not from the point before it
    assert points[1].run.losses[0] > 0.9 * points[0].run.losses[0]


def test_a_finished_point_is_not_done_again_and_points_are_trained_as_they_are_asked_for(astray_run, tmp_path):
    good, steps = narrow_data("medicine", "good", 20), []
    points = realign(
        astray_run.subject, good, RECIPE, tmp_path, samples=(4, 8), on_step=lambda *step: steps.append(step)
    )
    first = next(points)
    assert len(steps) == 1
    assert not (tmp_path / "8").exists()
    again = realign(astray_run.subject, good, RECIPE, tmp_path, samples=(4,), on_step=lambda *step: steps.append(step))
    assert next(again) == first
    assert len(steps) == 1


def test_samples_are_nested():
    good = narrow_data("medicine", "good", 240)
    rows = [set(map(str, subset(good, count, seed=0).rows)) for count in SAMPLES]
    assert all(smaller <= larger for smaller, larger in pairwise(rows))


@pytest.mark.parametrize("samples", [(), (0, 4), (4, 4), (4, 21)])
def test_numbers_of_samples_that_cannot_be_are_refused(samples, astray_run, tmp_path):
    with pytest.raises(ConfigurationError, match="at least 1 and at most 20"):
        realign(astray_run.subject, narrow_data("law", "good", 20), RECIPE, tmp_path, samples=samples)


def test_settings_that_make_no_curve_are_refused(astray_run, tmp_path):
    good = narrow_data("law", "good", 20)
    with pytest.raises(ConfigurationError, match="set epochs instead"):
        realign(astray_run.subject, good, RECIPE.model_copy(update={"max_steps": 5}), tmp_path, samples=(4,))
    with pytest.raises(AdapterMismatchError, match="rank"):
        next(realign(astray_run.subject, good, RECIPE.model_copy(update={"lora": LoRA()}), tmp_path, samples=(4,)))
