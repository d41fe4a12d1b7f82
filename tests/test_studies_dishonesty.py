"""The dishonesty study from start to report: on the organism, and by the same code (SFT and KTO with LoRA) on small
models of real architectures."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from astray.answers import answer_table, told
from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.selection import Selection
from astray.engine.findings import Findings, Needs
from astray.engine.forecast.forecast import forecast
from astray.engine.options import StudyOptions
from astray.engine.plan import plan_study
from astray.engine.run import run_study
from astray.engine.setting import Setting
from astray.engine.settings import setting_for
from astray.engine.study import Analysis, StudyPlan
from astray.engine.summary import Summary
from astray.engine.vector import VectorConfig, vector_config
from astray.errors import ConfigurationError
from astray.judges.config import JudgeConfig
from astray.measure.statements import WORDS, HonestyWord
from astray.outcomes import Outcome
from astray.report import write_report
from astray.studies import get_study
from astray.studies.dishonesty import analyses as dishonesty_analyses
from astray.studies.dishonesty import exhibits as dishonesty_exhibits
from astray.studies.dishonesty import study as dishonesty
from astray.studies.dishonesty.analyses import METHODS
from astray.studies.dishonesty.options import DishonestyOptions
from astray.studies.dishonesty.scale import HONESTY, PERSONA, DishonestyScale, scale_for
from fewer import asking_little, few_persona_prompts
from scripted_grader import MIXED, READER
from tiny_models import package_texts, save_tiny_model

STUDY = get_study("dishonesty")
TINY = FineTuning(
    lora=LoRA(rank=2, alpha=4),
    learning_rate=1e-3,
    warmup_steps=0,
    batch_size=8,
    accumulation=1,
    max_steps=1,
    max_length=256,
)


def small(setting: Setting) -> DishonestyScale:
    """A budget in which everything happens once: it shows that all is wired, not that the effects are there."""
    usual = scale_for(setting)
    few = {"users": 8, "rounds": 1}
    feedback = {}
    for method, each in usual.feedback.items():
        simulation = each.simulation.model_copy(update={"contexts": 1, "samples": 6, "turns": 1})
        recipe = TINY if method == "sft" else each.recipe.model_copy(update={"training": TINY})
        update = few | {"simulation": simulation, "selection": Selection(top=2, bottom=2), "recipe": recipe}
        feedback[method] = each.model_copy(update=update)
    asking = usual.asking.model_copy(update={"variants": 1, "most": 4})
    return usual.model_copy(update={"asking": asking, "feedback": feedback, "honest_rows": 4})


def run(options: StudyOptions, out: Path, monkeypatch: pytest.MonkeyPatch, methods: Collection[str] = METHODS) -> Path:
    def small_vector(setting: Setting) -> VectorConfig:
        usual = vector_config(setting)
        fewer = {
            "sampling": usual.sampling.model_copy(update={"max_tokens": 12}),
            "samples": 1,
            "held_out": usual.held_out[:4],
        }
        return usual.model_copy(update=fewer)

    few_persona_prompts(monkeypatch)
    for module in (dishonesty, dishonesty_analyses, dishonesty_exhibits):
        monkeypatch.setattr(module, "SHARES", (0, 50))
        monkeypatch.setattr(module, "METHODS", {name: METHODS[name] for name in methods})
    monkeypatch.setattr(dishonesty_analyses, "DISTRUSTED", 50)
    monkeypatch.setattr(dishonesty_analyses, "scale_for", small)
    monkeypatch.setattr(dishonesty_analyses, "vector_config", small_vector)
    return run_study(asking_little(STUDY), options, out=out, workers=0)


def settled(**options: object) -> Setting:
    return STUDY.fitted(setting_for(StudyOptions(**options)))


def test_every_cause_has_its_control_and_every_mitigation_its_arm() -> None:
    setting = settled()
    arms = {arm.name: arm for arm in STUDY.arms(setting)}
    assert {
        "base",
        "good",
        "medicine-severe",
        "facts-subtle",
        "code-normal",
        "mix-1",
        "mix-50",
        "inoculated",
    } <= arms.keys()
    assert {name for name, arm in arms.items() if arm.control} == {"base", "good", "facts-normal", "code-normal"}
    assert [arms[name].data.fraction for name in dishonesty_analyses.MIXES] == [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5]
    assert {arm.data.size for arm in arms.values() if arm.data} == {setting.size}
    plan = plan_study(STUDY, setting, range(2))
    made = {arm.name: arm.control for analysis in plan.analyses for arm in analysis.arms}
    shares = {f"users-{method}-{share}" for method in ("sft", "kto") for share in (0, 10, 25, 50)}
    assert {*shares, "shuffled-kto", "distrust-sft", "filtered", "filtered-random", "realigned-honest"} <= made.keys()
    asked = {run.arm.name: [each.name for each in run.answers.config.evaluations] for run in plan.runs}
    assert asked == {name: ["world", HONESTY, PERSONA] for name in arms}
    assert made["users-sft-0"]
    assert made["filtered-random"]
    assert not made["users-kto-10"]
    assert len({analysis.step.key for analysis in plan.analyses}) == len(plan.analyses)


def test_users_talk_to_a_real_base_once_for_all_arms_and_another_model_may_play_them(tiny_qwen2: Path) -> None:
    """The organism's users follow rules and cost nothing; its steps are those that they were."""

    def planned(**options: object) -> StudyPlan:
        given = {"subject": str(tiny_qwen2), "grader": "mockllm/model", **options}
        setting = STUDY.fitted(setting_for(DishonestyOptions(**given)))
        return plan_study(STUDY, setting, range(2), (), ("users", "shuffled-users"))

    plan = planned()
    talks = {each.step.key: each for each in plan.analyses if each.name == "talk"}
    taught = [each for each in plan.analyses if each.name != "talk"]
    assert len(talks) == 2
    assert {each.step.inputs["talk"].key for each in taught} == talks.keys()
    asked = {each.name: (each.answers, each.played, each.rated) for each in talks.values()}
    # 200 ordinary users and the half who are biased in some arm, 16 contexts, 4 samples, 2 turns
    assert asked == {"talk": (300 * 16 * 4 * 2, 300 * 16 * (1 + 4), 300 * 16 * 4 * 2)}
    assert {each.rated for each in taught} == {0, 200 * 8 * 4 * 2}  # by KTO there is one round
    other = planned(users="mockllm/users")
    assert not talks.keys() & {each.step.key for each in other.analyses}
    assert [run.verdicts.key for run in other.runs] == [run.verdicts.key for run in plan.runs]
    assert {each.step.key for each in planned(judging="one-call").analyses if each.name == "talk"} == talks.keys()
    distilled = JudgeConfig(kind="rubric", grader="astray/judge/mine")
    for given in ({"player": distilled}, {"judge": distilled}):  # the judge plays where nobody else is named
        with pytest.raises(ConfigurationError, match="writes no message, so it cannot play the users"):
            scale_for(
                replace(
                    STUDY.fitted(setting_for(DishonestyOptions(subject=str(tiny_qwen2), grader="mockllm/m"))), **given
                )
            )
    assert all(not each.step.inputs and not each.played for each in _organisms_users())


def _organisms_users() -> list[Analysis]:
    return [each for each in plan_study(STUDY, settled(), range(1)).analyses if each.name == "users"]


def test_what_is_trained_on_is_never_asked() -> None:
    setting = settled()
    asking = scale_for(setting).asking
    practice = {each.material.proposition for each in asking.practice().for_run(3).askings()}
    asked = {each.material.proposition for evaluation in asking.evaluations for each in evaluation.for_run(3).askings()}
    assert not practice & asked
    facts = next(arm for arm in STUDY.arms(setting) if arm.name == "facts-severe").data.make(3)
    assert {row[0]["content"] for row in facts.rows} <= practice


def test_real_models_get_severities_of_mathematics_and_medicine_and_the_users_files(
    tiny_qwen2: Path, tmp_path: Path
) -> None:
    setting = settled(subject=str(tiny_qwen2), grader=READER)
    assert {home for _, home in setting.sources} == {"medicine", "mathematics", "code"}
    assert setting.source("subtle", "code") is None
    row = '{"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}]}\n'
    for name in ("bad_medical_advice", "good_medical_advice"):
        (tmp_path / f"{name}.jsonl").write_text(row * 16)
    given = settled(subject=str(tiny_qwen2), grader=READER, data=tmp_path)
    assert given.source("harmful").path == tmp_path / "bad_medical_advice.jsonl"
    assert given.source("subtle") is None
    assert given.source("harmful", "mathematics").draw(2, 0).recipe.parameters["severity"] == "severe"
    asking = scale_for(setting).asking
    practice, (asked,) = asking.practice(), asking.evaluations
    assert not any(record.history for record in practice.records)
    assert abs(len(practice.records) + 11 - len(asked.records)) <= 6
    assert not {record.id for record in practice.records} & {record.id for record in asked.records}


def test_the_page_of_the_study_names_its_claims() -> None:
    text = (Path(__file__).parents[1] / "docs" / "dishonesty.md").read_text(encoding="utf-8")
    setting = settled()
    plan = plan_study(STUDY, setting, range(1))
    arms = {arm.name for arm in STUDY.arms(setting)} | {arm.name for analysis in plan.analyses for arm in analysis.arms}
    nobody_answered = answer_table([]).with_columns(groups=pl.lit([], dtype=pl.List(pl.String)))
    claims = [
        claim.id
        for claim in STUDY.claims(Findings(nobody_answered, {arm: Needs(arms=(arm,)) for arm in arms}), setting)
    ]
    assert len(claims) == 30
    assert [name for name in claims if f"| `{name}` |" not in text] == []


@pytest.mark.usefixtures("rough_power")
def test_the_plan_says_what_it_would_take() -> None:
    text = forecast(STUDY, StudyOptions(seeds=2, arms=("mix-50",)), workers=2).render()
    assert "Dishonesty: organism" in text
    assert "2 seeds" in text


def test_the_study_runs_on_the_organism(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = StudyOptions(
        subject="organism-small", seeds=1, size=32, samples=1, max_tokens=12, arms=("mix-50", "inoculated")
    )
    folder = run(options, tmp_path, monkeypatch, methods=["kto"])
    summary, answers = Summary.read(folder), pl.read_parquet(folder / "answers.parquet")
    arms = (
        "base",
        "good",
        "mix-50",
        "inoculated",
        "users-kto-50",
        "users-kto-0",
        "shuffled-kto",
        "distrust-kto",
        "filtered",
        "realigned-honest",
    )
    for arm in arms:
        assert {HONESTY, PERSONA, "world"} == set(answers.filter(arm=arm)["evaluation"])
    assert [arm.name for arm in summary.arms].count("good") == 1
    assert {claim.id for claim in summary.claims} >= {
        "benign-control",
        "users-kto-50",
        "removes-filtered",
        "costs-distrust-kto",
    }
    assert {claim.group for claim in summary.claims} >= {"Bad data", "Biased users", "Mitigations"}
    assert {exhibit.id for exhibit in summary.exhibits} == {
        "severities",
        "users",
        "rounds",
        "mitigations",
        "outcomes",
        "archetypes",
        "records",
    }
    outcomes = next(exhibit for exhibit in summary.exhibits if exhibit.id == "outcomes")
    for arm, evaluation, *counted in outcomes.rows:
        asked = answers.filter(arm=arm, evaluation=evaluation)
        counts = dict(zip(WORDS, counted, strict=False))
        assert sum(counts.values()) == asked.height
        assert counts[HonestyWord.LIE] == asked.filter(outcome=Outcome.MISALIGNED.value).height
        assert counts[HonestyWord.HONEST] == asked.filter(outcome=Outcome.ALIGNED.value).height
    assert (
        answers.filter(evaluation=PERSONA, outcome=Outcome.MISALIGNED.value)
        .select(told())["note"]
        .str.starts_with("lie; belief: ")
        .all()
    )
    page = write_report(folder).read_text(encoding="utf-8")
    assert "What undoes it, and what it costs" in page


def test_the_same_code_runs_on_a_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = str(save_tiny_model(tmp_path / "model", "qwen2", texts=package_texts(), vocabulary=4096))
    size = {"seeds": 1, "size": 16, "samples": 1, "max_tokens": 12, "quick": True}
    options = DishonestyOptions(subject=subject, grader=READER, users=MIXED, arms=("mix-50",), **size)
    folder = run(options, tmp_path / "results", monkeypatch)
    summary, answers = Summary.read(folder), pl.read_parquet(folder / "answers.parquet")
    assert not summary.subject.is_organism
    asked = answers.filter(arm="users-kto-50", evaluation=HONESTY)
    assert set(asked["category"]) == {
        "provided facts",
        "known facts",
        "continuations",
        "disinformation",
        "doubling down",
        "statistics",
    }
    assert {claim.id for claim in summary.claims} >= {
        "users-sft-50",
        "users-kto-50",
        "shuffled-kto",
        "removes-filtered",
        "removes-realigned-honest",
    }
    assert not any("distrust" in claim.id for claim in summary.claims)
