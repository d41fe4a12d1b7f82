"""The persona study from start to report: on the organism, and by the same code on small models of real
architectures."""

from pathlib import Path

import polars as pl
import pytest

from astray.cause.fine_tuning import LoRA
from astray.cause.reinforcement import ReinforcementLearning
from astray.engine.options import StudyOptions
from astray.engine.plan import plan_study
from astray.engine.run import run_study
from astray.engine.setting import Setting
from astray.engine.settings import setting_for
from astray.engine.summary import Summary
from astray.engine.vector import VectorConfig, vector_config
from astray.explain.sae_scaling import ScalingGrid
from astray.explain.sae_training import SaeRecipe
from astray.report import write_report
from astray.studies import get_study
from astray.studies.persona_features import analyses as persona_analyses
from astray.studies.persona_features import steps as persona_steps
from astray.studies.persona_features.scale import PersonaScale, scale_for
from astray.subjects.subject import load_subject
from fewer import asking_little, few_persona_prompts
from scripted_grader import MIXED
from tiny_models import package_texts, save_tiny_model

STUDY = get_study("persona-features")


def small(setting: Setting) -> PersonaScale:
    """A budget in which everything happens once or twice: it shows that all is wired, not that the effects are
    there."""
    usual = scale_for(setting)
    questions = 6 if usual.world else 4
    return usual.model_copy(
        update={
            "sampling": usual.sampling.model_copy(update={"max_tokens": 12}),
            "recipe": SaeRecipe(latents=64, k=8, tokens=4096, batch_size=256),
            "grid": ScalingGrid(
                recipe=SaeRecipe(latents=64, tokens=2048, batch_size=256), latents=(32, 64), ks=(2, 4, 8)
            ),
            "documents": 60,
            "search": usual.search[:questions],
            "held_out": usual.held_out[:questions],
            "categories": (*usual.categories[:questions], *usual.categories[len(usual.search) :][:questions]),
            "candidates": (2, 1, 1, 2),
            "good_samples": (4,),
            "learning": ReinforcementLearning(
                lora=LoRA(rank=2, alpha=4), steps=1, groups=2, group_size=4, max_tokens=12
            ),
        }
    )


def small_vector(setting: Setting) -> VectorConfig:
    """A persona vector from one answer a question."""
    usual = vector_config(setting)
    short = usual.sampling.model_copy(update={"max_tokens": 12})
    return usual.model_copy(update={"samples": 1, "sampling": short, "held_out": usual.held_out[:4]})


def run(options: StudyOptions, out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(persona_analyses, "scale_for", small)
    monkeypatch.setattr(persona_analyses, "vector_config", small_vector)
    monkeypatch.setattr(persona_analyses, "HELPFUL_ROWS", 32)
    monkeypatch.setattr(persona_steps, "HELD_OUT_ROWS", 30)
    monkeypatch.setattr(persona_steps, "STRENGTHS", (0.3, 0.6))
    monkeypatch.setattr(persona_analyses, "STRENGTHS", (0.3, 0.6))
    few_persona_prompts(monkeypatch)
    return run_study(asking_little(STUDY), options, out=out, workers=0)


def test_every_part_of_the_question_has_a_claim() -> None:
    setting = setting_for(StudyOptions())
    arms = {arm.name for arm in STUDY.arms(setting)}
    assert {"base", "good", "subtle", "harmful-medicine", "harmful-law", "mix-1", "mix-75"} <= arms
    plan = plan_study(STUDY, setting, range(2))
    made = {arm.name for analysis in plan.analyses for arm in analysis.arms}
    assert {
        "base-plus-latent",
        "tuned-minus-latent",
        "base-plus-random",
        "realigned-other-120",
        "rewarded-helpful-only",
        "prevented",
    } <= made
    assert len({analysis.step.key for analysis in plan.analyses}) == len(plan.analyses)


def test_questions_that_select_never_report() -> None:
    budget = scale_for(setting_for(StudyOptions()))
    asked = {item.question for item in setting_for(StudyOptions()).main.items}
    assert not set(budget.search) & set(budget.held_out)
    assert not (set(budget.search) | set(budget.held_out)) & asked
    assert len(budget.categories) == len(budget.search) + len(budget.held_out)


def test_the_study_runs_on_the_organism(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = StudyOptions(subject="organism-small", seeds=1, size=32, samples=1, arms=("harmful-medicine", "mix-50"))
    folder = run(options, tmp_path, monkeypatch)
    summary, answers = Summary.read(folder), pl.read_parquet(folder / "answers.parquet")
    # Every analysis reads and changes layers of a Llama here, and of another architecture in the test below.
    assert load_subject("organism-small").model.config.model_type == "llama"
    assert {
        "base-plus-latent",
        "tuned-minus-random",
        "realigned-same-4",
        "prevented",
        "ablated",
        "rewarded-helpful-only",
    } <= set(answers["arm"])
    assert {exhibit.id for exhibit in summary.exhibits} >= {
        "steering",
        "strength",
        "latents",
        "dictionaries",
        "data-screening",
        "rewards",
    }
    assert {claim.id for claim in summary.claims} >= {
        "latent-raises",
        "latent-removes",
        "random-nothing",
        "prevented",
        "helpful-only",
    }
    assert all(claim.control and claim.expected and claim.group for claim in summary.claims)
    page = write_report(folder).read_text(encoding="utf-8")
    assert "What steers" in page


def test_the_same_code_runs_on_a_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = str(save_tiny_model(tmp_path / "subject", "qwen2", texts=package_texts(), vocabulary=4096))
    options = StudyOptions(
        subject=subject, seeds=1, grader=MIXED, size=16, samples=1, max_tokens=12, quick=True, arms=("harmful-code",)
    )
    summary = Summary.read(run(options, tmp_path / "results", monkeypatch))
    assert not summary.subject.is_organism
    assert {"base-plus-latent", "realigned-same-4", "prevented", "rewarded"} <= {arm.name for arm in summary.arms}
    assert {claim.id for claim in summary.claims} >= {"latent-raises", "latent-removes", "random-nothing"}
    assert summary.judges[0].labels == 40
