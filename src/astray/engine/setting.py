"""What every study needs to know about its subject's world: what there is to train on, what is asked, and who judges.

How a setting is made for a subject is in `settings`; a paper's own words (a trigger, a system prompt) are the paper's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

from astray.cause.fine_tuning import FineTuning, with_settings
from astray.data.sources import DataKind
from astray.engine.data import Source
from astray.engine.summary import SubjectRow
from astray.judges.config import JudgeConfig, make_judge
from astray.measure.evaluation import QuestionSet
from astray.measure.interface import Evaluation, check_fits, offered_by
from astray.subjects.locate import ORGANISMS, Located, settle

CALIBRATION_SIZE = 160
"""Labelled answers of the world that a grader is held against: sensitivity and specificity are known to about 10 points."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What the engine needs to know about any study's subjects.

    Attributes:
        subject: the model under study as a page shows it.
        quick: whether it is to be seen that everything runs, and nothing else.
        budget: tokens that all models together may use; None for no limit.
    """

    subject: SubjectRow
    quick: bool = False
    budget: int | None = None

    def check(self, folders: Sequence[Path]) -> None:
        """Raise what would fail after hours of work; nothing is asked, so that a plan can do it too.

        Args:
            folders: where results and what is kept may lie from before.
        """

    def reach(self) -> None:
        """Ask models behind an address for a word, before they are asked for thousands; where none is asked, do nothing."""


@dataclass(frozen=True, kw_only=True)
class Setting(World):
    """What a study that trains needs to know about the subject's world: what there is to train on and what is asked.

    Attributes:
        located: the model under study, resolved; what takes a subject takes it as it is.
        homes: what narrow data may be about; the first is the one that controls and mixes are made of.
        sources: (kind, home) -> rows of that kind; kinds that the setting has no data for are absent.
        size: training rows an arm.
        training: settings of every fine-tuning run.
        main: the evaluation that the claims are about, first among `evaluations`.
        evaluations: what every run is asked.
        held_out: categories that no training data touches.
        judge: who reads the answers.
        notes: what a reader of the report has to know.
        labels: labelled answers that a judge which can err is held against; None for answers of the organism's world.
        calibration_size: how many of those.
        chosen: settings of fine-tuning that the user chose; they stand in `training` already.
    """

    located: Located
    homes: tuple[str, ...]
    sources: Mapping[tuple[DataKind, str], Source]
    size: int
    training: FineTuning
    evaluations: tuple[Evaluation, ...]
    held_out: tuple[str, ...]
    judge: JudgeConfig
    notes: tuple[str, ...]
    labels: Path | None = None
    calibration_size: int = CALIBRATION_SIZE
    chosen: Mapping[str, Any] = field(default_factory=dict)

    def tuned(self, recipe: FineTuning) -> FineTuning:
        """Return a paper's recipe with the settings that the user chose."""
        return with_settings(recipe, self.chosen)

    @override
    def check(self, folders: Sequence[Path]) -> None:
        """Refuse a judge that cannot be used."""
        check_judge(self.judge)

    @property
    def main(self) -> QuestionSet:
        """The evaluation that the claims are about."""
        main = self.evaluations[0]
        assert isinstance(main, QuestionSet)
        return main

    def source(self, kind: DataKind, home: str | None = None) -> Source | None:
        """Rows of a kind, about the first home if none is named; None where the setting has no such data."""
        return self.sources.get((kind, self.homes[0] if home is None else home))


def is_organism(subject: str) -> bool:
    """Whether a subject is an embedded organism, or one that was trained further."""
    return settle(subject).spec.model in ORGANISMS


def check_evaluations(setting: Setting, evaluations: Iterable[Evaluation]) -> None:
    """Refuse, before anything is trained, evaluations that the subject cannot be asked.

    Raises:
        ConfigurationError: names what is missing and what to write instead.
    """
    needing = [each for each in evaluations if each.needs]
    offered = offered_by(setting.located, setting.judge) if needing else frozenset()
    for evaluation in needing:
        check_fits(evaluation, offered, setting.subject.name)


def check_judge(config: JudgeConfig) -> None:
    """Refuses before a study what would fail after hours of training; a local grader is looked for and not loaded.

    Raises:
        JudgeError: the grader cannot be used.
        SubjectNotFoundError: there is no such local grader.
    """
    if config.grader and config.grader.startswith("astray/"):
        settle(config.grader.removeprefix("astray/"))
    else:
        make_judge(config)
