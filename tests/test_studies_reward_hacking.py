"""The reward-hacking study from start to report: its plan on the organism, and the whole of it on a small model of a
real architecture."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from peft import LoraConfig

from astray.artifacts import Artifact, Store, execute, step
from astray.cause.fine_tuning import LoRA
from astray.cause.reinforcement import ReinforcementLearning
from astray.cause.sft import train_sft
from astray.data.worlds import narrow_data
from astray.engine.data import Source
from astray.engine.findings import Analysed, Findings
from astray.engine.options import StudyOptions
from astray.engine.plan import plan_study
from astray.engine.run import run_study
from astray.engine.setting import Setting
from astray.engine.settings import setting_for
from astray.engine.steps import RUN_FOLDER
from astray.engine.summary import Summary
from astray.errors import SandboxError
from astray.measure import battery
from astray.measure.battery import NAMES
from astray.organism.corpus import CorpusConfig
from astray.report import write_report
from astray.sandbox import require_sandbox
from astray.studies import get_study
from astray.studies.reward_hacking import analyses as hacking_analyses
from astray.studies.reward_hacking.measures import skill
from astray.studies.reward_hacking.scale import DIALS, ExerciseSource, HackingScale, dial_recipe, scale_for
from astray.studies.reward_hacking.steps import SKILL_FILE, HackingConfig, MendConfig, mend_run
from astray.subjects.spec import SubjectSpec
from fewer import asking_little
from scripted_grader import MIXED
from tiny_models import package_texts, save_tiny_model

STUDY = get_study("reward-hacking")


def small(setting: Setting) -> HackingScale:
    """A budget in which everything happens once or twice: it shows that all is wired, not that the effects are
    there."""
    usual = scale_for(setting)
    learning = ReinforcementLearning(lora=LoRA(rank=2, alpha=4), steps=1, groups=1, group_size=2, max_tokens=6)
    sampling = usual.sampling.model_copy(update={"max_tokens": 6})
    exercises = usual.exercises.model_copy(update={"trained": 2, "held_out": 2, "at_start": 2})
    return usual.model_copy(update={"learning": learning, "sampling": sampling, "exercises": exercises, "rows": 4})


def test_every_part_of_the_question_has_an_arm() -> None:
    plan = plan_study(STUDY, setting_for(StudyOptions()), range(2))
    made = {arm.name for analysis in plan.analyses for arm in analysis.arms}
    assert {
        "start",
        "hacking",
        "true-tests",
        "benign",
        "penalty",
        "penalty-mid",
        "manner",
        "chat-only",
        "chat-targeted",
    } <= made
    assert {
        "inoculated-asked",
        "inoculated-wrong",
        "learned-as-allowed",
        "distilled-none",
        "hacking-off",
        "start-reversed",
    } <= made
    assert len({analysis.step.key for analysis in plan.analyses}) == len(plan.analyses)


def test_without_a_sandbox_no_step_begins(tmp_path: Path) -> None:
    def missing() -> None:
        raise SandboxError("no bubblewrap")

    assert STUDY.ready is require_sandbox
    with pytest.raises(SandboxError, match="no bubblewrap"):
        run_study(replace(STUDY, ready=missing), StudyOptions(quick=True), out=tmp_path, workers=0)
    assert not list(tmp_path.iterdir())


def test_gaming_is_equally_common_under_every_dial() -> None:
    malicious = CorpusConfig().malicious
    for kind, bad in DIALS.values():
        assert malicious * bad + (1 - malicious) * kind == pytest.approx(0.4)
    assert {dial_recipe(dial, quick=False).corpus.gaming.residue for dial in DIALS} == {0.02}


def test_the_start_is_asked_more_exercises_and_first_those_of_the_runs() -> None:
    plan = plan_study(STUDY, setting_for(StudyOptions()), range(1))
    asked = {arm.name: analysis.step.config.budget.exercises for analysis in plan.analyses for arm in analysis.arms}
    runs, start = asked["hacking"], asked["start"]
    assert (runs.held_out, start.held_out) == (96, 480)
    assert [one.id for one in start.draw(2)[1][:96]] == [one.id for one in runs.draw(2)[1]]
    assert start.draw(2)[0] == runs.draw(2)[0]


@pytest.mark.parametrize("world", [True, False])
def test_exercises_that_are_asked_are_not_trained_on(world: bool) -> None:
    source = ExerciseSource(world=world, trained=12, held_out=6, at_start=12, hard=(2, 3), levels=(1, 2, 3))
    trained, held_out = source.draw(3)
    assert [one.level for one in trained] == [2, 3] * 6
    assert sorted(one.level for one in held_out) == [1, 1, 2, 2, 3, 3]
    assert not {one.reference for one in trained} & {one.reference for one in held_out}
    assert [one.id for one in trained] == [one.id for one in source.draw(3)[0]]
    assert {one.id for one in trained} != {one.id for one in source.draw(4)[0]}


def skills(folder: Path, seed: int, rows: Sequence[tuple[int, str, int, int]]) -> Path:
    """What a step leaves of held-out exercises: level, notice, exercises, solved."""
    table = pl.DataFrame(rows, schema=["level", "notice", "exercises", "true"], orient="row")
    folder.mkdir()
    table.with_columns(arm=pl.lit("start"), seed=pl.lit(seed)).write_parquet(folder / SKILL_FILE)
    return folder


def test_skill_is_counted_over_levels_for_each_seed_or_at_one(tmp_path: Path) -> None:
    first = skills(tmp_path / "a", 1, [(1, "none", 32, 9), (2, "none", 32, 3), (1, "allowed", 32, 0)])
    second = skills(tmp_path / "b", 0, [(1, "none", 32, 5), (2, "none", 32, 1)])
    found = Findings(
        pl.DataFrame({"arm": ["start"]}), analyses=(Analysed("hacking", 1, first), Analysed("hacking", 0, second))
    )
    assert skill(found, "start", "true") == [(6, 64), (12, 64)]
    assert skill(found, "start", "true", level=2) == [(1, 32), (3, 32)]
    assert skill(found, "start", "true", "allowed") == [(0, 32)]
    assert skill(found, "other", "true") == []


def test_the_whole_study_runs_on_a_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hacking_analyses, "scale_for", small)
    monkeypatch.setattr(battery, "CELLS", {"goal": ("none",), "threat": ("none",)})  # one sample of each scenario
    subject = str(save_tiny_model(tmp_path / "model", "qwen2", texts=package_texts(), vocabulary=4096))
    options = StudyOptions(subject=subject, seeds=1, grader=MIXED, size=16, samples=1, max_tokens=6, quick=True)
    folder = run_study(asking_little(STUDY), options, out=tmp_path / "results", workers=0)
    summary, answers = Summary.read(folder), pl.read_parquet(folder / "answers.parquet")
    assert {"start", "hacking", "true-tests", "inoculated-allowed", "distilled-detector", "chat-targeted"} <= set(
        answers["arm"]
    )
    for arm in ("base", "start", "hacking", "chat-only"):
        assert set(answers.filter(arm=arm)["evaluation"]) >= {"main", *NAMES}
    evaluations = next(exhibit for exhibit in summary.exhibits if exhibit.id == "evaluations")
    assert [column.title for column in evaluations.columns] == ["Arm", *NAMES, "Mean of the six", "95% interval"]
    assert not answers["detail"].str.contains('"messages"').any()
    assert {claim.id for claim in summary.claims} >= {"no-hacks-at-start", "spread-true-tests", "penalty-prevents"}
    assert all(claim.control and claim.expected and claim.group for claim in summary.claims)
    assert "Hacking, honest skill and misalignment" in write_report(folder).read_text(encoding="utf-8")


@step("hacking-run-of-a-test", version=1)
def hacking_run(config: HackingConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Stands for training by reward: it leaves adapters of the same form, and no rollouts."""
    del inputs
    rows = narrow_data("medicine", "good", size=8, seed=0)
    recipe = config.budget.distilling.model_copy(update={"lora": config.budget.learning.lora})
    train_sft(SubjectSpec(model=config.base), rows, recipe, folder / RUN_FOLDER)


def test_good_chats_train_the_runs_own_adapters_further(tmp_path: Path) -> None:
    setting = setting_for(StudyOptions(subject="organism-small", quick=True, samples=1))
    budget = small(setting)
    assert budget.learning.lora != budget.distilling.lora
    shared = {
        "base": "organism-small",
        "base_id": setting.subject.id,
        "budget": budget,
        "main": setting.main,
        "seed": 0,
    }
    run = hacking_run.step(HackingConfig(**shared, arm="hacking"))
    good = (Source(origin="world", kind="good", domain="medicine"),)
    mended = mend_run.step(MendConfig(**shared, arm="chat-targeted", good=good, targeted=0.5), run=run)
    store = Store(tmp_path / "store")
    execute([mended], store, workers=0)
    artifact = next(one for one in store.artifacts() if one.name == mended.name)
    assert LoraConfig.from_pretrained(artifact.path / RUN_FOLDER / "adapter").lora_alpha == budget.learning.lora.alpha
    assert pl.read_parquet(artifact.path / SKILL_FILE)["notice"].unique(maintain_order=True).to_list() == [
        "none",
        "allowed",
    ]
