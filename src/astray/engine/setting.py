"""Setting of a study: the data to train on, the evaluations and the judge that fit its subject.

How a setting is made for a subject is in `settings`; a paper's own texts (a trigger, a system prompt) are the paper's.
"""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspect_ai._util.error import PrerequisiteError
from typing_extensions import override

from astray.cause.fine_tuning import FineTuning, with_settings
from astray.data.sources import DataKind
from astray.engine.data import FILE, Source
from astray.engine.gold import Gold
from astray.engine.judging import try_judge
from astray.engine.summary import SubjectRow
from astray.errors import JudgeError
from astray.judges.calibrate import read_labels
from astray.judges.config import JudgeConfig, make_judge
from astray.measure.evaluation import QuestionSet, TextEvaluation
from astray.measure.interface import Evaluation, check_fits, offered_by
from astray.measure.probing import ProbeKind
from astray.subjects.base_files import ORGANISMS
from astray.subjects.engines.spec import Engine, check_engine
from astray.subjects.locate import Located, settle

PROBE_EVERY = 10
CALIBRATION_SIZE = 160
"""Labelled answers for a grader's calibration: sensitivity and specificity are known to about 10 points."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Facts about its subjects that the engine needs of any study.

    Attributes:
        subject: the model under study as a page shows it.
        quick: whether the run is only a check that everything works.
        budget: tokens that all models together may use; None for no limit.
    """

    subject: SubjectRow
    quick: bool = False
    budget: int | None = None

    def check(self, folders: Sequence[Path]) -> None:
        """Refuse what would fail only after hours of work; no model is asked, so that a plan can check it too."""

    def reach(self, evaluations: Sequence[Evaluation], workers: int | None) -> None:
        """Make one real call to each remote model that thousands will follow to; by default none."""


@dataclass(frozen=True, kw_only=True)
class Setting(World):
    """Facts that a study which trains needs: the data to train on and the evaluations.

    Attributes:
        located: the model under study, resolved once and handed on as it is.
        homes: possible subjects of narrow data; controls and mixes are made of the first.
        sources: (kind, home) -> examples of that kind; kinds without data in this setting are absent.
        size: training examples of an arm.
        training: settings of every fine-tuning run.
        main: the evaluation that the claims are about, the first set of questions among `evaluations`.
        evaluations: the evaluations of every run.
        held_out: categories that no training data touches.
        judge: the judge of the answers.
        engine: what samples the answers of the arms; None for this process.
        gold: a second judge, which reads a sample of the answers of each arm and by which rates are corrected.
        player: the model that plays users, if it is not the judge's.
        notes: what a reader of the report has to know.
        labels: labelled answers that a judge which can err is held against; None for answers of the organism's world.
        calibration_size: how many of those.
        asked: answers a question that `--samples` stands for; 0 where it is those of `main`.
        chosen: settings of fine-tuning that the user chose; they stand in `training` already.
        probe_every: optimizer steps between probes of a run.
        probe: what a real model is asked by them.
        unjudged: what is left out because no model judges, for the plan; empty where nothing is.
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
    probe_every: int = PROBE_EVERY
    probe: ProbeKind = "choices"
    asked: int = 0
    gold: Gold | None = None
    player: JudgeConfig | None = None
    engine: Engine | None = None
    unjudged: str = ""

    def tuned(self, recipe: FineTuning) -> FineTuning:
        """Return a paper's recipe with the settings that the user chose."""
        return with_settings(recipe, self.chosen)

    @override
    def check(self, folders: Sequence[Path]) -> None:
        """Refuse a judge that cannot be used, and labels that cannot be read."""
        for judge in self._judges:
            check_judge(judge)
        if self.player:
            try:
                check_judge(self.player)
            except JudgeError as error:
                why = str(error).replace("The grader", "The model", 1)
                raise JudgeError(f"--users {self.player.grader}: {why}") from error
        if self.labels is not None:
            read_labels(self.labels)

    @override
    def reach(self, evaluations: Sequence[Evaluation], workers: int | None) -> None:
        """Ask the judge one real question of each kind, and an engine's server whether it takes adapters."""
        if self.engine:
            from astray.subjects.engines.served import reach_engine

            reach_engine(self.engine)
        for judge in self._judges:
            reach_judge(judge, evaluations, workers)
        if self.player:
            reach_player(self.player, workers)

    @property
    def _judges(self) -> tuple[JudgeConfig, ...]:
        return (self.judge, self.gold.judge) if self.gold else (self.judge,)

    @property
    def asks_freely(self) -> bool:
        """Return whether answers are sampled and judged, and not only read from probabilities."""
        return any(isinstance(evaluation, QuestionSet) for evaluation in self.evaluations)

    @property
    def main(self) -> QuestionSet:
        """Return the evaluation that the claims are about."""
        sets = [evaluation for evaluation in self.evaluations if isinstance(evaluation, QuestionSet)]
        assert sets, "nothing is asked freely"
        return sets[0]

    def source(self, kind: DataKind, home: str | None = None) -> Source | None:
        """Return examples of a kind, about the first home if none is named; None where the setting has no such data."""
        return self.sources.get((kind, self.homes[0] if home is None else home))

    @property
    def knows_topics(self) -> bool:
        """Return whether it is known what the rows are about; nobody looks at those of a user's files."""
        return all(source.origin != FILE for source in self.sources.values())

    def about(self, home: str, kind: DataKind = "harmful") -> str:
        """Return how a statement names rows: "about medicine", or "of" a user's file."""
        source = self.source(kind, home)
        return f"of {source.users_file}" if source and source.users_file else f"about {home}"


def engine_for_training(engine: Engine | None, located: Located, name: str, training: FineTuning) -> Engine | None:
    """Return a chosen engine for adapters of the rank that is trained; None for this process.

    Raises:
        ConfigurationError, MissingExtraError: it cannot serve the subject, or is not installed.
    """
    if engine is None:
        return None
    check_engine(engine, located, name)
    return engine.model_copy(update={"rank": training.lora.rank if training.lora else 0})


def is_organism(subject: str) -> bool:
    """Return whether a subject is an embedded organism, or was trained from one."""
    return settle(subject).spec.model in ORGANISMS


def check_evaluations(setting: Setting, evaluations: Iterable[Evaluation]) -> None:
    """Refuse, before anything is trained, evaluations that the subject does not support.

    Raises:
        ConfigurationError: names what is missing and what to write instead.
        ChatTemplateError: the subject's chat template cannot write training data, or what is asked.
    """
    from astray.subjects.render import check_template, prompt_ids
    from astray.subjects.weights import adapted_tokenizer

    evaluations = list(evaluations)
    spec = setting.located.spec
    tokenizer = adapted_tokenizer(spec.model, setting.located.base, spec.adapter)
    check_template(tokenizer, trained=True)
    for evaluation in evaluations:
        if isinstance(evaluation, TextEvaluation):
            chats = {
                str(chat): chat for asking in evaluation.askings() for chat in (asking.conversation, *asking.beside)
            }
            prompt_ids(tokenizer, list(chats.values()))
    needing = [evaluation for evaluation in evaluations if evaluation.needs]
    offered = offered_by(setting.judge) if needing else frozenset()
    for evaluation in needing:
        check_fits(evaluation, offered, setting.subject.name)


def reach_judge(judge: JudgeConfig, evaluations: Sequence[Evaluation], workers: int | None) -> None:
    """Ask a judge one real question of each kind; raises what `try_judge` does."""
    _reach(judge, workers, try_judge, judge, evaluations)


def reach_player(player: JudgeConfig, workers: int | None) -> None:
    """Let a model that plays users write one message and rate one answer; raises what `ModelUsers.try_once` does."""
    _reach(player, workers, _try_player, player)


def _try_player(player: JudgeConfig) -> None:
    from astray.cause.model_users import ModelUsers

    assert player.grader is not None
    ModelUsers(player.grader).try_once()


def _reach(model: JudgeConfig, workers: int | None, trial: Callable[..., None], *arguments: object) -> None:
    if model.local and workers != 0:
        # In a process that ends: this one would keep the weights in memory, which the workers need.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            pool.submit(trial, *arguments).result()
    else:
        trial(*arguments)


_ASKS_NOTHING: ContextVar[bool] = ContextVar("asks_nothing", default=False)


@contextlib.contextmanager
def asking_nothing() -> Iterator[None]:
    """Let a plan name a provider's grader without its key or package, which only asking takes."""
    token = _ASKS_NOTHING.set(True)
    try:
        yield
    finally:
        _ASKS_NOTHING.reset(token)


def check_judge(config: JudgeConfig) -> None:
    """Refuse, before a study, a judge that would fail after the training; a local grader is located, not loaded.

    Raises:
        JudgeError: the grader cannot be used.
        SubjectNotFoundError: there is no such local grader.
    """
    if config.grader and config.local and not config.distilled:
        settle(config.grader.removeprefix("astray/"))
        return
    try:
        make_judge(config)
    except JudgeError as error:
        # Inspect's class for what a person has still to set up, in contrast to a name that no provider has.
        if not (_ASKS_NOTHING.get() and isinstance(error.__cause__, PrerequisiteError)):
            raise
