"""Bring a tuned model back: try the ways that fit, choose by one half of questions and task, report on the other.

Each way is measured on misalignment, by the meter, and on what the tuning was for. The chosen model is written as a PEFT
folder (or a whole model) with a card; the gate then decides. Left to others: the ways (`ways`), the steps (`steps`), what
they take and cost (`front`), page and files (`result`).
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from astray.answers import read_answers
from astray.artifacts import Artifact, Progress, Step, Store, execute
from astray.artifacts.uses import in_use
from astray.cause.fine_tuning import FineTuning
from astray.data.chat import ChatDataset
from astray.engine.asking import all_keys, forget_subject, step_of
from astray.engine.judging import ANSWERS_FILE, told_failed
from astray.engine.models import NamedModel
from astray.engine.options import training_settings
from astray.engine.readings import readings
from astray.engine.setting import check_judge
from astray.engine.settings import WORLD_TRAINING
from astray.errors import ConfigurationError, NothingToBlameError
from astray.judges.config import JudgeConfig
from astray.stats.nulls import Null
from astray.studies.blame.blaming import blame
from astray.studies.blame.proof import KEPT_FILE as KEPT
from astray.studies.blame.scored import Scoring
from astray.studies.blame.steps import MeasureConfig, Measured, measure, pairs_for
from astray.studies.blame.tuned import TunedModel, find_tuned
from astray.studies.repair.directions import DirectionConfig, Directions, find_directions
from astray.studies.repair.front import FEWEST as FEWEST_HARMFUL
from astray.studies.repair.front import Half, Outcome, chosen, halves
from astray.studies.repair.kinds import DIRECTED, chosen_kinds
from astray.studies.repair.result import RepairResult, Tried
from astray.studies.repair.spoken import questions_for
from astray.studies.repair.ways import (
    REPORT,
    SEARCH,
    Given,
    Way,
    check_offered,
    check_possible,
    left_out,
    made_by,
    recipe_of,
    ways_back,
    write_scaled,
)
from astray.subjects.base import default_workers
from astray.subjects.locate import graders_known_as, settle
from astray.subjects.spec import SubjectSpec

FEWEST = 4
"""Rows of the task at least."""
MODEL = "model"
"""Folder of the repaired model."""


def repair(
    model: str,
    task: Path | str,
    *,
    base: str | None = None,
    control: str | None = None,
    data: Sequence[Path | str] = (),
    good: Path | str | None = None,
    share: float = 0.1,
    by: str = "gradient",
    training: Sequence[str] = (),
    ways: str | Sequence[str] = (),
    grader: str | None = None,
    out: Path | str = Path("astray-results"),
    store: str | Path | None = None,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> RepairResult:
    """Bring a tuned model back that went astray, and write the repaired model and the page of it.

    Args:
        model: the tuned model: a run id of a study, an adapter or a folder.
        task: held-out examples of what the tuning was for; half of them choose, half are reported.
        base: what it was trained from, if it does not say so itself.
        control: a model trained alike on good rows, which harmful answers are compared with in place of the base's.
        data, good: its training files, which a run of a study knows; examples known to be good, to train on further.
        share, by: share of the rows that is blamed and left out, and the score by which, as for `blame`.
        training: settings of what is trained, key=value each, where they are not those of the run.
        ways: kinds of ways that are tried (`kinds.KINDS`); all by default.
        grader: Inspect model that judges answers; an organism has its own judge. Else rules tell incoherent and refused ones.
        out, store, workers, progress: as for `run_study`.

    Raises:
        NothingToBlameError: the tuned model is no more likely to give harmful answers than its base.
        ConfigurationError and other errors of what was given, StepFailedError: as `blame`.
    """
    folder, place = Path(out) / "repair", Path(out) / "store" if store is None else store
    kinds = chosen_kinds(ways)
    tuned, settings = find_tuned(model, base, [Path(path) for path in data], control), training_settings(training)
    _check_repairable(tuned)
    judge, (aims, shared) = _judge(tuned, grader), _held_out(ChatDataset.read(task), tuned.data)
    recipe = recipe_of(tuned, WORLD_TRAINING if tuned.is_organism else FineTuning(), settings)
    given = Given(tuned, recipe, tuned.data, None if good is None else ChatDataset.read(good), folder / "data")
    check_possible(given, kinds)
    if {"without-blamed", "without-random"}.isdisjoint(kinds):
        Scoring.of(tuned, None, 0, folder / "data", Store(place), progress).change()
    else:
        same: dict[str, Any] = {"base": base, "control": control, "data": data, "store": place, "progress": progress}
        # Not into `out`, where the user's own blame may lie, with labels or a proof.
        blame(model, share=share, by=by, judged=0, out=folder, **same)
        given = replace(given, kept=ChatDataset.read(folder / "blame" / KEPT))
    work = _Work(given, aims, judge, Store(place), default_workers() if workers is None else workers, progress)
    trial = work.trial(kinds)
    name, meets = chosen({way.name: way.search for way in trial.tried if not way.control})
    _write_model(trial.ways[name], trial.made, folder / MODEL)
    told = tuple(_notes(trial, shared, work, kinds)), work.gate(control, grader)
    named = (model, tuned.base_name, tuned.reference_name)
    result = RepairResult(*named, trial.before, trial.tried, name, meets, str(task), folder / MODEL, *told)
    result.save(folder)
    return result


@dataclass(frozen=True)
class _Trial:
    """Ways by name that were tried, what made their models, what they do, and what the tuned model does before them, on
    the half that chooses and the one that is reported."""

    given: Given
    chose: Outcome
    before: Outcome
    ways: dict[str, Way]
    made: dict[str, Artifact]
    tried: tuple[Tried, ...]


@dataclass(frozen=True)
class _Work:
    """Training and measuring of a repair, each model in a step of its own."""

    given: Given
    task: ChatDataset
    judge: JudgeConfig | None
    store: Store
    workers: int
    progress: Callable[[Progress], None] | None
    judged: dict[str, pl.DataFrame] = field(default_factory=dict)  # answers that were judged, by their step

    def trial(self, kinds: Sequence[str]) -> "_Trial":
        """Try the ways of these kinds.

        Raises:
            NothingToBlameError: as `ends`.
            ConfigurationError: none of the ways can be tried with this model.
        """
        search, report = self.ends()
        given = self.given
        if not set(DIRECTED).isdisjoint(kinds):
            given = replace(given, directions=self.directions(search))
        ways = list(ways_back(given, kinds))
        check_offered(ways, kinds)
        made = self.train(ways)
        tried = self.measure(ways, made, search, report)
        return _Trial(given, search.before, report.before, {way.name: way for way in ways}, made, tried)

    def train(self, ways: Sequence[Way]) -> dict[str, Artifact]:
        """Train what the ways need, with the seeds of search and report."""
        return self._executed([step for way in ways for step in way.steps])

    def directions(self, half: Half) -> tuple[Step, Directions]:
        """Find where training moved the model, on the questions of a half."""
        tuned = self.given.tuned
        step = find_directions.step(
            DirectionConfig(
                tuned=tuned.located.spec,
                reference=tuned.reference.spec,
                ids=(tuned.located.id, tuned.reference.id),
                questions=tuple(pair.question for pair in half.pairs if not pair.null),
            )
        )
        return step, Directions.of(self._executed([step])[step.key])

    def ends(self) -> tuple[Half, Half]:
        """Return the half that chooses and the half that is reported, with what base and tuned model do on each.

        Raises:
            NothingToBlameError: on one of them the tuned model is not astray.
        """
        tuned = self.given.tuned
        found = self._measured(self._ends)
        said = self._answers(self._ends)
        found |= {role: replace(found[role], answers=table) for role, table in said.items()}
        both = halves(pairs_for(world=tuned.is_organism), len(self.task), **found, metered=self.metered)
        if any(half.before.astray <= 0 for half in both):
            raise NothingToBlameError(
                f"On half of the domains harmful answers are no likelier in {tuned.name} than {tuned.reference_name}: there "
                "is too little to take away for a share of it to be told. Nothing was trained."
            )
        return both

    def measure(self, ways: Sequence[Way], made: dict[str, Artifact], search: Half, report: Half) -> tuple[Tried, ...]:
        """Return what each way does on both halves."""
        own = {f"{way.name}/{seed}": way.model(made, seed) for way in ways for seed in (SEARCH, REPORT)}
        drawn = {f"{way.name}/random-{n}": made_by(draw, made) for way in ways for n, draw in enumerate(way.draws)}
        found = self._measured(own | drawn)
        found |= {name: replace(found[name], answers=table) for name, table in self._answers(own).items()}
        draws = {
            way.name: sorted(
                (report.outcome(found[name]).gone, name) for name in drawn if name.startswith(f"{way.name}/")
            )
            for way in ways
        }
        middle = {name: each[len(each) // 2][1] for name, each in draws.items() if each}
        said = self._answers({draw: drawn[draw] for draw in middle.values()})

        def tried(way: Way) -> Tried:
            draw = middle.get(way.name)
            reported = report.outcome(
                replace(found[draw], answers=said[draw]) if draw else found[f"{way.name}/{REPORT}"]
            )
            null = tuple(gone for gone, _ in draws.get(way.null, ()))
            return Tried(
                way.name,
                way.what,
                way.control,
                search.outcome(found[f"{way.name}/{SEARCH}"]),
                reported,
                Null(reported.gone, null, "random directions") if null else None,
            )

        return tuple(map(tried, ways))

    @property
    def metered(self) -> bool:
        """Return whether the gate that follows reads the meter: against a control, and where nobody judges answers."""
        return self.given.tuned.control is not None or self.judge is None

    def gate(self, control: str | None, grader: str | None) -> str:
        """Return the options of the gate that follows."""
        reads = ("--evals", "meter") if self.metered else ("--grader", grader)
        return "".join(f" {name} {value}" for name, value in (reads, ("--control", control)) if value)

    @property
    def _ends(self) -> dict[str, SubjectSpec]:
        tuned = self.given.tuned
        return {"base": tuned.base.spec, "tuned": tuned.located.spec, "reference": tuned.reference.spec}

    def _answers(self, models: dict[str, SubjectSpec]) -> dict[str, pl.DataFrame]:
        """Return what each model answers to ordinary questions, judged where there is a judge."""
        questions = questions_for(world=self.given.tuned.is_organism)
        steps = {
            name: step_of(NamedModel(name=name, spec=spec), questions, self.judge, 0, ("repair", name))
            for name, spec in models.items()
        }
        try:
            made = self._executed(list({step.key: step for step in steps.values()}.values()))
        finally:
            forget_subject()
        said = {key: read_answers(artifact.path / ANSWERS_FILE) for key, artifact in made.items()}
        if self.judge:
            self.judged.update(said)
        return {name: said[step.key] for name, step in steps.items()}

    def _measured(self, models: dict[str, SubjectSpec]) -> dict[str, Measured]:
        """Return what each model does, by name; equal models are measured once."""
        file = self.task.write(self.given.folder / "task.jsonl").resolve()
        steps = {
            name: measure.step(
                MeasureConfig(
                    data=file,
                    digest=self.task.hash,
                    model=spec,
                    id=settle(spec).id,
                    max_length=self.given.recipe.max_length,
                ),
                name=f"repair-measure {name}",
            )
            for name, spec in models.items()
        }
        named = {name: NamedModel(name=name, spec=spec) for name, spec in models.items()}
        read = readings(named, "repair", self.store, self.progress, self.workers)
        artifacts = self._executed(list({step.key: step for step in steps.values()}.values()))
        return {name: Measured.of(read[name], artifacts[step.key]) for name, step in steps.items()}

    def _executed(self, steps: list[Step]) -> dict[str, Artifact]:
        with in_use(self.store, "repair", all_keys(steps)):
            return dict(execute(steps, self.store, workers=self.workers, progress=self.progress))


def _check_repairable(tuned: TunedModel) -> None:
    """Refuse a model whose rows did not all lead training towards their answers."""
    if tuned.weights:
        raise ConfigurationError(
            f"{tuned.name} was trained on rated answers or by reward, and the ways back train again on rows as they are. "
            "Take an earlier checkpoint (astray blame --when), or name another run."
        )


def _judge(tuned: TunedModel, grader: str | None) -> JudgeConfig | None:
    """Return who reads the answers; None for rules."""
    if tuned.is_organism:
        if grader is not None:
            raise ConfigurationError(
                f"--grader {grader} is of no use here: the organism has a judge of its own. Leave it out."
            )
        return JudgeConfig(kind="grammar")
    if grader is None:
        return None
    judge = JudgeConfig(kind="rubric", grader=grader, server=graders_known_as(grader))
    check_judge(judge)
    return judge


def _held_out(task: ChatDataset, trained: ChatDataset) -> tuple[ChatDataset, int]:
    """Return the task's rows that the model was not trained on, and the number of the others.

    Raises:
        ConfigurationError: fewer than four are left.
    """
    known = set(map(str, trained.rows))
    rows = [row for row in task.rows if str(row) not in known]
    if len(rows) < FEWEST:
        raise ConfigurationError(
            f"{len(rows)} of {len(task)} rows of --task are not among those that the model was trained on, and {FEWEST} are "
            "needed: half of them choose, half are reported. Give held-out rows."
        )
    return ChatDataset.from_rows(rows, "held out", {}, [task]), len(task) - len(rows)


def _write_model(way: Way, made: dict[str, Artifact], target: Path) -> None:
    """Write the model of the reported run, in place of an earlier one."""
    shutil.rmtree(target, ignore_errors=True)
    spec = way.model(made, REPORT)
    if spec.adapter is None:
        shutil.copytree(spec.model, target)
    elif spec.scale != 1:
        write_scaled(spec.adapter, spec.scale, target)
    else:
        shutil.copytree(spec.adapter, target)


def _notes(trial: _Trial, shared: int, work: _Work, kinds: Sequence[str]) -> list[str]:
    given, judge = trial.given, work.judge
    told = [f"Rows of the task that the model was trained on were left out: {shared:,}."] if shared else []
    if given.tuned.is_organism:
        told.append(
            "The model is an organism: this shows how the method works, and proves nothing about a large model."
        )
    told.append(
        "Misalignment is that of the meter, without sampling or judge; "
        + (
            "incoherent, refused and harmful answers are the judge's."
            if judge
            else "incoherent (empty or going in circles) and refused answers are told by a rule, harmful ones are not "
            "(--grader names a judge)."
        )
    )
    if given.tuned.recipe is None:
        told.append(
            "How the model was trained is not known: what is trained again has its shape and the usual settings."
        )
    told += told_failed(work.judged.values())
    return [*told, *_meter_alone(trial.chose, trial.before), *left_out(given, kinds)]


def _meter_alone(chose: Outcome, reported: Outcome) -> list[str]:
    """Say on which halves, by what the tuned model does on them, the rule has nothing but the meter although there is a judge."""
    before = {"that chooses": chose, "that is reported": reported}
    if not (alone := [half for half, outcome in before.items() if outcome.by_meter_alone]):
        return []
    return [
        f"On the half {' and the half '.join(alone)} the share of harmful answers is less than "
        f"{100 * FEWEST_HARMFUL:g} points above that of the model compared with: too little for a share of it that is "
        "gone to be told, so there the rule goes by the meter alone. A projection can fool the meter; run the gate."
    ]
