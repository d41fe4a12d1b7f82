"""Checkpoints on the way to a tuned model, kept by another program or made by training the run again, and their measuring."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import polars as pl
from peft import PeftModel
from pydantic import Field, SerializeAsAny
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from astray.answers import read_answers
from astray.artifacts import Artifact, Progress, Step, Store, execute, step
from astray.artifacts.plan import Plan
from astray.artifacts.uses import in_use
from astray.cause.base_model import save_model
from astray.cause.checkpoints import step_of
from astray.cause.processes import is_first
from astray.data.chat import ChatDataset
from astray.engine.asking import forget_subject, model_verdicts
from astray.engine.asking import step_of as step_of_model
from astray.engine.judging import ANSWERS_FILE, ASKED_FILE, deciding, told_failed
from astray.engine.models import NamedModel
from astray.engine.readings import readings
from astray.engine.setting import reach_judge
from astray.engine.settings import text_evaluations, world_evaluations
from astray.engine.steps import RUN_FOLDER
from astray.engine.trained import AnyTraining, tune
from astray.errors import ConfigurationError
from astray.judges.config import JudgeConfig
from astray.measure.evaluation import QuestionSet
from astray.measure.meter import meter_change
from astray.outcomes import JUDGED, Outcome
from astray.stats.compare import difference_of_models
from astray.studies.blame.course import Course, CourseChange, CoursePoint
from astray.studies.blame.steps import MeasureConfig, Measured, measure, pairs_for
from astray.studies.blame.trained_rows import rows_file
from astray.studies.blame.tuned import TunedModel
from astray.studies.screen.steps import DataConfig
from astray.subjects.identity import file_digest
from astray.subjects.locate import settle
from astray.subjects.spec import SubjectSpec

MOST = 12
"""Checkpoints that are measured; of more, as many evenly spread ones, the last one among them."""
TASK_ROWS = 100
"""Rows that are not blamed, on which it is told what was learned by then."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"


class RetrainedConfig(DataConfig):
    """The training of a run, its rows, and how often its model is kept."""

    training: SerializeAsAny[AnyTraining]
    every: int = Field(ge=1, description="optimizer steps between checkpoints")


@step("blame-retrain", version=1, resumable=True, gpu=True)
def train_again(config: RetrainedConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train the run again, which gives the same weights, and keep the model on the way."""
    del inputs
    keep = partial(_keep, folder, config.training.base)
    with deciding(folder):  # a judge may give the rewards
        tune(config.training, config.read(), folder / RUN_FOLDER, keep, config.every)
    (folder / ASKED_FILE).unlink(missing_ok=True)


# At the top level, so that each process of a run that is shared out can be sent it.
def _keep(
    folder: Path, base: str, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, step: int, /
) -> Mapping[str, float]:
    checkpoint = folder / f"checkpoint-{step}"
    if step and is_first() and not checkpoint.exists():
        save_model(model, tokenizer, checkpoint, settle(base))
    return {}


@dataclass(frozen=True)
class CheckpointMeasuring:
    """Measuring of the checkpoints on the way to a tuned model.

    Attributes:
        tuned: the model that the checkpoints lead to.
        kept: rows that are not blamed.
        judge: who reads answers; None for nobody.
        max_length: longest row in training.
        folder: gets the rows that are measured.
        store, progress: of the steps.
    """

    tuned: TunedModel
    kept: ChatDataset
    judge: JudgeConfig | None
    max_length: int
    folder: Path
    store: Store
    progress: Callable[[Progress], None] | None

    def course(self, checkpoints: Path | None, least: float) -> Course:
        """Return what the model did at the checkpoints of a folder, or at those of the run trained again.

        Raises:
            ConfigurationError: there are no checkpoints, or the run cannot be trained again.
        """
        folder = self._trained_again() if checkpoints is None else checkpoints
        models = kept_checkpoints(folder, self.tuned)
        same = None
        if checkpoints is None and (own := self.tuned.located.spec.adapter) is not None:
            again = folder / RUN_FOLDER / "adapter"
            same = file_digest(again / ADAPTER_WEIGHTS) == file_digest(own / ADAPTER_WEIGHTS)
        points, start, answers = self._measured(models)
        return Course(
            source="the run trained again" if checkpoints is None else str(checkpoints),
            reference=self.tuned.reference_name,
            points=points,
            least=least,
            start=start,
            same=same,
            notes=tuple(told_failed(answers, "checkpoint answer")),
        )

    def _trained_again(self) -> Path:
        artifact, training, rows = check_retrainable(self.tuned)
        total = json.loads((artifact.path / "steps.json").read_text(encoding="utf-8"))["steps"]
        # Rounded up, so that there are at most MOST checkpoints.
        wanted = train_again.step(
            RetrainedConfig(
                data=rows, digest=ChatDataset.read(rows).hash, training=training, every=max(1, -(-total // MOST))
            )
        )
        return self._executed([wanted])[wanted.key].path

    def _measured(
        self, models: Sequence[tuple[int, SubjectSpec]]
    ) -> tuple[tuple[CoursePoint, ...], float, list[pl.DataFrame]]:
        """Return what was measured at the checkpoints, the base's log-probability of the rows that are not blamed, and
        the judged answers."""
        asked = {"reference": self.tuned.reference.spec} | {f"{number}": spec for number, spec in models}
        models_by_name = {**asked, "base": self.tuned.base.spec}
        steps = {name: self._measuring(spec) for name, spec in models_by_name.items()}
        rates = {name: self._judging(spec, name) for name, spec in asked.items()} if self.judge else {}
        artifacts = self._executed([*steps.values(), *rates.values()])
        named = {name: NamedModel(name=name, spec=spec) for name, spec in models_by_name.items()}
        read = readings(named, "blame", self.store, self.progress)
        measured = {name: Measured.of(read[name], artifacts[step.key]) for name, step in steps.items()}
        task = {name: sum(measured_model.task) / len(measured_model.task) for name, measured_model in measured.items()}
        answers = {name: read_answers(artifacts[step.key].path / ANSWERS_FILE) for name, step in rates.items()}
        counts = {name: _counts(table) for name, table in answers.items()}
        pairs = pairs_for(world=self.tuned.is_organism)
        points = []
        for number, _ in models:
            name = f"{number}"
            effect = meter_change(pairs, measured["reference"].margins, measured[name].margins).harmful
            assert effect.interval is not None
            meter = CourseChange(effect.estimate, effect.interval.low, effect.interval.high)
            rate = None
            if counts:
                difference = difference_of_models(counts[name], counts["reference"])
                rate = CourseChange(difference.estimate, difference.interval.low, difference.interval.high)
            points.append(CoursePoint(number, meter, task[name], rate))
        return tuple(points), task["base"], [*answers.values()]

    def _measuring(self, spec: SubjectSpec) -> Step:
        rows = Random("rows that are not blamed").sample(self.kept.rows, min(TASK_ROWS, len(self.kept)))
        sample = ChatDataset.from_rows(rows, "subset", {"n": len(rows)}, [self.kept])
        return measure.step(
            MeasureConfig(
                data=sample.write(self.folder / "course.jsonl").resolve(),
                digest=sample.hash,
                model=spec,
                id=settle(spec).id,
                max_length=self.max_length,
            ),
            name="blame-checkpoint",
        )

    def _judging(self, spec: SubjectSpec, name: str) -> Step:
        return step_of_model(NamedModel(name=name, spec=spec), self._asked(), self.judge, 0, ("blame", name))

    def _asked(self) -> QuestionSet:
        """Return what is asked at each checkpoint: many questions rather than many answers, since questions are counted."""
        return world_evaluations(4)[0] if self.tuned.is_organism else text_evaluations(1, 2)[1]

    def _executed(self, steps: Sequence[Step]) -> dict[str, Artifact]:
        wanted = list({step.key: step for step in steps}.values())
        done = Plan(wanted, self.store).done
        if self.judge and any(step.function is model_verdicts and step.key not in done for step in wanted):
            reach_judge(self.judge, [self._asked()], 0)
        try:
            with in_use(self.store, "blame", [step.key for step in wanted]):
                return dict(execute(wanted, self.store, workers=0, progress=self.progress))
        finally:
            forget_subject()


def check_retrainable(tuned: TunedModel) -> tuple[Artifact, AnyTraining, Path]:
    """Return the training step of a run, its configuration and the file of its rows.

    Raises:
        ConfigurationError: it was trained elsewhere, or its rows are no longer in the store.
    """
    if tuned.trained is None or (rows := rows_file(tuned.trained[0])) is None:
        raise ConfigurationError(
            f"{tuned.name} was not trained by a study whose rows are in the store, so it cannot be trained again as it was: "
            "name the folder of its checkpoints with --checkpoints."
        )
    return *tuned.trained, rows


def kept_checkpoints(folder: Path, tuned: TunedModel) -> list[tuple[int, SubjectSpec]]:
    """Return the checkpoints in a folder, by step.

    Args:
        folder: with folders `checkpoint-<step>`, each an adapter or a whole model.
        tuned: the model that they lead to.

    Raises:
        ConfigurationError: there are fewer than two.
    """
    folders = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    models = [
        path for path in folders if any((path / name).is_file() for name in ("adapter_config.json", "config.json"))
    ]
    if len(models) < 2:
        raise ConfigurationError(
            f"{folder} has {len(models)} checkpoints (folders checkpoint-<step> with an adapter or a model), so when the "
            "model went astray cannot be told from it. Name the folder that the trainer wrote them into, with two or more."
        )
    models.sort(key=step_of)
    if len(models) > MOST:
        models = [models[round((number + 1) * len(models) / MOST) - 1] for number in range(MOST)]
    return [(step_of(path), _spec(path, tuned)) for path in models]


def _spec(checkpoint: Path, tuned: TunedModel) -> SubjectSpec:
    """Return the model of a checkpoint: its adapter on the base of the tuned one, or a whole model."""
    if (checkpoint / "adapter_config.json").is_file():
        return tuned.base.spec.model_copy(update={"adapter": checkpoint, "scale": 1.0})
    return SubjectSpec(model=str(checkpoint))


def _counts(answers: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Return the misaligned and judged answers by question."""
    table = answers.filter(pl.col("outcome").is_in([str(outcome) for outcome in JUDGED]))
    counted = table.group_by("item").agg((pl.col("outcome") == str(Outcome.MISALIGNED)).sum(), pl.len().alias("of"))
    return {item: (bad, of) for item, bad, of in counted.iter_rows()}
