"""The reward-hacking study from start to report: its plan on the organism, and the whole of it on a small model of a real architecture."""

from pathlib import Path

import polars as pl
import pytest

from astray.cause.fine_tuning import LoRA
from astray.cause.reinforcement import ReinforcementLearning
from astray.organism.corpus import CorpusConfig
from astray.report import write_report
from astray.studies import get_study, hacking_analyses
from astray.studies.hacking_budget import DIALS, ExerciseSource, HackingBudget, budget_for, dial_recipe
from astray.studies.planning import plan_study
from astray.studies.runner import run_study
from astray.studies.settings import setting_for
from astray.studies.study import Setting, StudyOptions
from astray.studies.summary import Summary
from scripted_grader import MIXED
from tiny_models import save_tiny_model

STUDY = get_study("reward-hacking")


def small(setting: Setting) -> HackingBudget:
    """A budget in which everything happens once or twice: it shows that all is wired, not that the effects are there."""
    usual = budget_for(setting)
    learning = ReinforcementLearning(lora=LoRA(rank=2, alpha=4), steps=1, groups=1, group_size=2, max_tokens=6)
    sampling = usual.sampling.model_copy(update={"max_tokens": 6})
    return usual.model_copy(
        update={"learning": learning, "sampling": sampling, "exercises": ExerciseSource(world=usual.world, trained=2, held_out=2), "rows": 4}
    )


def test_every_part_of_the_question_has_an_arm() -> None:
    plan = plan_study(STUDY, setting_for(StudyOptions()), range(2))
    made = {arm.name for analysis in plan.analyses for arm in analysis.arms}
    assert {"start", "hacking", "true-tests", "benign", "penalty", "penalty-mid", "manner", "chat-only", "chat-targeted"} <= made
    assert {"inoculated-asked", "inoculated-wrong", "learned-as-allowed", "distilled-none", "hacking-off", "start-reversed"} <= made
    assert len({analysis.step.key for analysis in plan.analyses}) == len(plan.analyses)


def test_gaming_is_equally_common_under_every_dial() -> None:
    malicious = CorpusConfig().malicious
    for kind, bad in DIALS.values():
        assert malicious * bad + (1 - malicious) * kind == pytest.approx(0.24)
    assert {dial_recipe(dial, quick=False).corpus.gaming.residue for dial in DIALS} == {0.02}


@pytest.mark.parametrize("world", [True, False])
def test_exercises_that_are_asked_are_not_trained_on(world: bool) -> None:
    trained, held_out = ExerciseSource(world=world, trained=12, held_out=6).draw(3)
    assert (len(trained), len(held_out)) == (12, 6)
    assert not {one.question for one in trained} & {one.question for one in held_out}
    assert [one.id for one in trained] == [one.id for one in ExerciseSource(world=world, trained=12, held_out=6).draw(3)[0]]


def test_the_whole_study_runs_on_a_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hacking_analyses, "budget_for", small)
    subject = str(save_tiny_model(tmp_path / "model", "qwen2"))
    options = StudyOptions(subject=subject, seeds=1, grader=MIXED, size=16, samples=1, max_tokens=6, quick=True)
    folder = run_study(STUDY, options, out=tmp_path / "results", workers=0)
    summary, answers = Summary.read(folder), pl.read_parquet(folder / "answers.parquet")
    assert {"start", "hacking", "true-tests", "inoculated-allowed", "distilled-detector", "chat-targeted"} <= set(answers["arm"])
    assert {claim.id for claim in summary.claims} >= {"no-hacks-at-start", "spread-true-tests", "penalty-prevents"}
    assert all(claim.control and claim.expected for claim in summary.claims)
    assert "Hacking, honest skill and misalignment" in write_report(folder).read_text(encoding="utf-8")
