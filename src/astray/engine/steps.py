"""Steps of every study: data, training, answers, verdicts, and the check of a fallible judge. Each makes one artifact.

They only join the packages: examples from `data`, adapters from `cause`, answers from `measure`, verdicts from
`judges`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import polars as pl
from pydantic import Field, SerializeAsAny

from astray.answers import answer_table, read_answers
from astray.artifacts import Artifact, step
from astray.artifacts.places import Place
from astray.cause.fine_tuning import FineTuning
from astray.data.chat import ChatDataset
from astray.engine.data import ArmData
from astray.engine.judging import ANSWERS_FILE, calibrate_into, judge_into
from astray.judges.config import JudgeConfig
from astray.judges.distilled import known_error
from astray.measure.interface import Evaluation
from astray.measure.probing import ProbeKind
from astray.strict import Strict, left_out
from astray.subjects.engines.spec import Asked
from astray.subjects.identity import digest_of
from astray.subjects.locate import settle
from astray.subjects.spec import BaseName, SubjectSpec

DATA_FILE, RUN_FOLDER, CALIBRATION_FILE, VERDICTS_FILE = "data.jsonl", "run", "calibration.json", "verdicts.json"
FORMERLY_UNFINISHED = ".training"
"""Folder in which older stores kept killed runs, before steps had working folders; such runs are continued."""
CHECKPOINT_EVERY = 50
"""Optimizer steps between checkpoints of a real model; an organism is trained in seconds and needs none."""


class DataConfig(Strict):
    """Data set recipe and the seed with which it is drawn."""

    data: ArmData
    seed: int


class TrainConfig(Strict):
    """One training run."""

    base: BaseName
    base_id: str = Field(description="content of the base, so that new weights under an old name are another run")
    recipe: FineTuning
    home: str = Field(description="category that the data is about, for the probe during training")
    probe_every: int
    probe: ProbeKind = "choices"

    _keys = left_out(probe="choices")


class AnswerConfig(Asked):
    """Evaluations of one subject."""

    base: BaseName
    base_id: str
    evaluations: tuple[SerializeAsAny[Evaluation], ...]
    arm: str
    seed: int


class CalibrationConfig(Strict):
    """Labelled answers that a judge is compared with."""

    judge: JudgeConfig
    labels: Annotated[Path | None, Place()] = Field(
        description="file with labelled answers; None for those of the organism's world"
    )
    digest: str = Field(description="content of that file, so that changed labels are another calibration")
    size: int = Field(description="labelled answers of the organism's world")


@step("make-data", version=1, formerly="astray.studies.steps:make_data")
def make_data(config: DataConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Write the data set with its recipe."""
    del inputs
    config.data.make(config.seed).write(folder / DATA_FILE)


@step("train-sft", version=2, formerly="astray.studies.steps:train", resumable=True, gpu=True)
def train(config: TrainConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Fine-tune the base and probe it during training; a real model's killed run continues from its last checkpoint."""
    from astray.cause.sft import train_sft
    from astray.engine.setting import is_organism
    from astray.measure.dynamics import text_probe, world_probe

    data = inputs["data"]
    in_world = is_organism(config.base)
    _bring_unfinished(config, data, folder / RUN_FOLDER)
    run = train_sft(
        SubjectSpec(model=config.base),
        ChatDataset.read(data.path / DATA_FILE),
        config.recipe,
        folder / RUN_FOLDER,
        probe=world_probe(config.home) if in_world else text_probe(config.probe),
        probe_every=config.probe_every,
        checkpoint_every=None if in_world else CHECKPOINT_EVERY,
    )
    (folder / "steps.json").write_text(
        json.dumps({"steps": run.steps, "supervised_tokens": run.supervised_tokens}), encoding="utf-8"
    )


@step(
    "answer",
    version=2,
    formerly="astray.studies.steps:answer",
    resumable=lambda config: config.engine is not None,
    gpu=lambda config: config.uses_gpu,
)
def answer(config: AnswerConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Sample the answers of the trained run, or of the base where there is no run, to every evaluation."""
    from astray.subjects.engines.served import asked_subject

    if not config.evaluations:  # of a study that asks the meter alone, whose rows are no answers
        answer_table([]).write_parquet(folder / ANSWERS_FILE)
        return
    spec = SubjectSpec(model=config.base)
    if "run" in inputs:
        spec = trained_subject(config.base, inputs["run"])
    with asked_subject(spec, config.engine, folder) as subject:
        # Not within `subject.merged()`, which keeps other threads out: scenarios are answered from the threads of
        # Inspect.
        tables = [evaluation.ask(subject, arm=config.arm, seed=config.seed) for evaluation in config.evaluations]
    pl.concat(tables).write_parquet(folder / ANSWERS_FILE)


@step("judge", version=1, formerly="astray.studies.steps:judge", resumable=True, gpu=lambda config: config.local)
def judge(config: JudgeConfig, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Judge every answer that has no verdict yet; no answer is sampled again."""
    from astray.measure.evaluations import evaluation_from

    # The evaluations stand in the origin of the answers: verdicts need no copy of them in their own configuration.
    asked, begun = inputs["answers"].manifest.origin.config["evaluations"], folder / ANSWERS_FILE
    table = read_answers(begun if begun.is_file() else inputs["answers"].path / ANSWERS_FILE)
    return judge_into(folder, table, map(evaluation_from, asked if isinstance(asked, list) else []), config, inputs)


@step(
    "check-judge-error",
    version=1,
    formerly="astray.studies.steps:check_judge_error",
    resumable=True,
    gpu=lambda config: config.judge.local,
)
def check_judge_error(config: CalibrationConfig, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Judge labelled answers, to measure the judge's error; a distilled judge brings its own where there are none."""
    del inputs
    from astray.judges import read_labels, world_labels

    if config.labels is None and (recorded := known_error(config.judge.grader)):
        recorded.write(folder / CALIBRATION_FILE)
        return None
    labels = read_labels(config.labels) if config.labels else world_labels(config.size)
    calibration, left = calibrate_into(folder / VERDICTS_FILE, config.judge, labels)
    calibration.write(folder / CALIBRATION_FILE)
    return left


def _bring_unfinished(config: TrainConfig, data: Artifact, run: Path) -> None:
    """Move a run that an older version began into the working folder, also under the data's former key."""
    for key in filter(None, (data.key, data.manifest.formerly)):
        begun = data.store.folder / FORMERLY_UNFINISHED / digest_of([config.model_dump(mode="json"), key])
        if begun.is_dir() and not run.exists():
            begun.replace(run)


def trained_subject(base: str, run: Artifact) -> SubjectSpec:
    """Return the subject that a training step made."""
    adapter, model = run.path / RUN_FOLDER / "adapter", run.path / RUN_FOLDER / "model"
    spec = settle(base).spec
    if not adapter.is_dir():
        return SubjectSpec(model=str(model), dtype=spec.dtype)
    # A base that is itself an adapter was trained further: its own is in the new one.
    return SubjectSpec(model=spec.model, adapter=adapter, dtype=spec.dtype)
