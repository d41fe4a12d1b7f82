"""Steps of a gate: the answers of one model to one set of questions, and their verdicts; both grow by further samples.

Keys hold what a model is (its content), not where it lies, so a base is asked once for all gates. Left to others: what
the answers mean (`bars`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from astray.answers import read_answers
from astray.artifacts import Artifact, Step, step
from astray.engine.judging import ANSWERS_FILE, judge_into
from astray.judges.config import JudgeConfig
from astray.measure.asking import Asking
from astray.measure.evaluation import QuestionSet
from astray.measure.evaluations import evaluation_from
from astray.subjects.locate import Located
from astray.subjects.spec import SubjectSpec

SAMPLE = ("item", "format", "sample")
"""Columns that name an answer of one model to one set of questions."""


class GateAnswerConfig(BaseModel):
    """Answers of one model to one set of questions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: SubjectSpec = Field(exclude=True, description="where the model lies; what it is stands in the key")
    subject_id: str = Field(description="content of the model")
    evaluation: QuestionSet
    seed: int = Field(description="moves the random numbers of the answers")


class _Samples(QuestionSet):
    """Samples of a set of questions from some number on, drawn as if all were asked at once."""

    first: int = 0

    @override
    def askings(self) -> Sequence[Asking]:
        return [
            Asking(item, sample, item.conversation) for item in self.items for sample in range(self.first, self.samples)
        ]


@step("gate-answers", version=1, resumable=True)
def gate_answers(config: GateAnswerConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Sample what is missing of the answers, and write them after each batch."""
    del inputs
    from astray.subjects.subject import load_subject

    evaluation, target = config.evaluation, folder / ANSWERS_FILE
    parts = [read_answers(target)] if target.is_file() else []
    done = int(parts[0].select(pl.col("sample").max()).item()) + 1 if parts else 0
    subject, together = (
        load_subject(config.subject),
        math.ceil(2 * evaluation.sampling.batch_size / len(evaluation.items)),
    )
    for first in range(done, evaluation.samples, together):
        settings = evaluation.model_dump() | {"first": first, "samples": min(first + together, evaluation.samples)}
        parts.append(_Samples.model_validate(settings).ask(subject, seed=config.seed))
        # Sorted, so that the table does not depend on how often the step was begun.
        _write(pl.concat(parts).sort(SAMPLE), target)


@step("gate-verdicts", version=1, resumable=True)
def gate_verdicts(config: JudgeConfig, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Judge the answers without a verdict; those that had one when there were fewer samples keep it."""
    answers, target = inputs["answers"], folder / ANSWERS_FILE
    table = read_answers(answers.path / ANSWERS_FILE)
    if target.is_file():
        judged = read_answers(target)
        new = table.join(judged, on=[*SAMPLE, "answer"], how="anti")
        kept = judged.join(table, on=[*SAMPLE, "answer"], how="semi")
        table = (
            table.select(SAMPLE)
            .join(pl.concat([kept, new]), on=SAMPLE, how="left", maintain_order="left")
            .select(table.columns)
        )
    return judge_into(folder, table, [evaluation_from(answers.manifest.origin.config["evaluation"])], config)


def steps_of(
    located: Located, evaluations: Sequence[QuestionSet], judge: JudgeConfig, seed: int, role: str
) -> list[Step]:
    """Return the steps with the verdicts on a model's answers, one a set of questions; each begins with what fewer
    samples left.

    Args:
        located: the model.
        evaluations: what it is asked.
        judge: who reads the answers.
        seed: moves the random numbers of the answers.
        role: base or tuned, for people.
    """
    steps = []
    for evaluation in evaluations:
        config = GateAnswerConfig(subject=located.spec, subject_id=located.id, evaluation=evaluation, seed=seed)
        answers = gate_answers.step(config, name=f"gate-answers-{role}-{evaluation.name}")
        verdicts = gate_verdicts.step(judge, name=f"gate-verdicts-{role}-{evaluation.name}", answers=answers)
        smaller = list(_keys_of_fewer(answers, evaluation.samples))
        answers = replace(answers, begins_with=tuple(smaller))
        begun = tuple(verdicts.origin.model_copy(update={"inputs": {"answers": key}}).key for key in smaller)
        steps.append(replace(verdicts, inputs={"answers": answers}, begins_with=begun))
    return steps


def _keys_of_fewer(answers: Step, samples: int) -> Iterator[str]:
    shown = dict(answers.origin.config)
    asked = shown["evaluation"]
    assert isinstance(asked, dict)
    for number in range(samples - 1, 0, -1):
        yield answers.origin.model_copy(update={"config": shown | {"evaluation": asked | {"samples": number}}}).key


def _write(table: pl.DataFrame, target: Path) -> None:
    written = target.with_name(f".{target.name}")
    table.write_parquet(written)
    written.replace(target)  # whole even if this process is killed
