"""What a study of acting models is: subjects in a grid of offices, without any training; and how it runs, from options to the results folder.

    results/agentic-misalignment/summary.json         claims and exhibits, for people and programs
                                 acts.parquet          one row a sample (see measure/agentic/table.py)
                                 conversations.parquet the records that the page shows
                                 logs/                 Inspect logs: inspect view --log-dir .../logs
                                 judges/               verdicts on labelled records

With a store, logs/ and judges/, which are what is not asked again, lie in the folder of this name there.

The study file declares parts, claims and exhibits; this is their frame, as `study` and `runner` are for studies that train.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator

from astray.artifacts import Progress, Store
from astray.engine.claims import with_holm
from astray.engine.exhibits import Exhibit
from astray.engine.next_steps import NextStep, times_as_many
from astray.engine.summary import ClaimRow, JudgeRow, SubjectRow, Summary
from astray.errors import ConfigurationError, StoreError
from astray.measure.agentic.check import check_scenario
from astray.measure.agentic.conduct import Conduct
from astray.measure.agentic.judge_errors import judge_errors, labelled_work
from astray.measure.agentic.labelled import labelled_records
from astray.measure.agentic.logs import unreadable_logs
from astray.measure.agentic.reader import write_conversations
from astray.measure.agentic.runs import ACTS_FILE, LOGS, AgenticFindings, Part, run_parts
from astray.measure.agentic.scenario import load_scenario, scenario_names
from astray.measure.agentic.subjects import AgenticSubject, check_models, subjects_from
from astray.studies.agentic_misalignment.forecast import forecast_acting
from astray.subjects.identity import digest_of

REPLICATES, SIMULATED_REPLICATES = 100, 4
"""Samples a cell: 100 in the paper; few for scripted subjects, whose page is to be there within minutes."""
SINGLE = 4
"""Up to so many subjects each have claims of their own; more are taken together."""
SIMULATED = (
    "The subjects are simulated: scripts that play written courses with known probabilities, judged by scripts. The page shows that the "
    "counting works, and nothing about any model. Run it on a real one with --subject and --grader."
)


def _split(given: object) -> object:
    return tuple(name.strip() for name in given.split(",") if name.strip()) if isinstance(given, str) else given


class AgenticOptions(BaseModel):
    """What a user may choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str | None = Field(default=None, description="Inspect name of one model; without it and without a file the scripted subjects")
    subjects: Path | None = Field(default=None, description="YAML file of several")
    grader: tuple[str, ...] = Field(default=(), max_length=2, description="Inspect name of one judge, or of a panel of two")
    scenarios: tuple[str, ...] = Field(default=(), description="names or folders; all of the package if none is named")
    samples: int | None = Field(default=None, ge=1, description="samples a cell (100 in arXiv 2510.05179)")
    quick: bool = Field(default=False, description="a tenth of the samples (a quarter of the scripted): to see that everything runs")
    max_tokens: int = Field(default=4000, ge=1, description="longest answer of a subject, reasoning included")
    reader: str | None = Field(
        default=None, description="local model whose activations watch every call, a folder or a name; a local subject is read itself without it"
    )
    labels: Path | None = Field(
        default=None, description="folder of labelled records that the judges are held against, such as tests/agentic_transcripts"
    )
    budget: float | None = Field(default=None, gt=0, description="million tokens of all models together; then the run stops and keeps what is done")

    @field_validator("grader", "scenarios", mode="before")
    @classmethod
    def _names(cls, given: object) -> object:
        """The command line's form, names with commas between them, is allowed as well."""
        names = _split(given)
        if given and not names:
            raise ValueError(f"{given!r} names none: leave it out, or write names with commas between them")
        return names

    @property
    def chosen(self) -> tuple[str, ...]:
        """The scenarios."""
        return self.scenarios or scenario_names()

    @property
    def simulated(self) -> bool:
        """Whether the scripted subjects run."""
        return not self.subject and not self.subjects

    @property
    def budget_tokens(self) -> int | None:
        """The budget in tokens; None without one."""
        return round(self.budget * 1e6) if self.budget else None

    @property
    def replicates(self) -> int:
        """Samples a cell."""
        samples = self.samples or (SIMULATED_REPLICATES if self.simulated else REPLICATES)
        return max(1, samples // (4 if self.simulated else 10)) if self.quick else samples


@dataclass(frozen=True)
class AgenticStudy:
    """A registered study of acting models.

    Attributes:
        name: what `astray run` calls it.
        title: heading of its report.
        question: what it asks, one sentence.
        parts: options -> what every subject does.
        claims: table of acts, names of the subjects -> the decided claims.
        exhibits: findings -> figures and tables.
    """

    name: str
    title: str
    question: str
    parts: Callable[[AgenticOptions], Iterable[Part]]
    claims: Callable[..., Iterable[ClaimRow]]
    exhibits: Callable[[AgenticFindings], Iterable[Exhibit]]

    @property
    def options(self) -> type[Any]:
        """What a user may choose."""
        return AgenticOptions

    def run(
        self,
        options: AgenticOptions,
        *,
        out: Path = Path("astray-results"),
        store: str | Path | None = None,
        workers: int | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Path:
        """Runs the study and gives its results folder. See `processes_for` about workers.

        Args:
            options: subjects, scenarios and the like.
            out: the results go into a folder of the study's name here.
            store: folder that keeps the logs, in a folder of the study's name; by default the results folder does.
            workers: processes.
            progress: told when a part begins and ends.

        Raises:
            UnknownNameError, DataFormatError, ConfigurationError: subjects, scenarios, options or the store cannot be used.
            JudgeError: a grader cannot be used.
            DataNotFoundError, EmptyDataError: the labelled records cannot be used.
            StepFailedError: an evaluation broke off; what it finished is kept.
            StoreError: the folder cannot be written.
        """
        kept = self._kept(out, store)
        subjects = subjects_from(options.subject, options.subjects, options.grader, options.reader)
        parts = tuple(self.parts(options))
        for part in parts:
            _ = part.grid.cells
        folder = Path(out) / self.name
        for name in options.chosen:
            if name not in scenario_names():
                check_scenario(load_scenario(name))
        check_models(subjects)
        for option, each in {"--out": folder, "--store": kept}.items():
            _check_writable(each, option)
        errors = judge_errors(subjects, labelled_records(options.labels, options.chosen), kept) if options.labels else ()
        limits: dict[str, Any] = {"max_tokens": options.max_tokens, "budget": options.budget_tokens, "progress": progress}
        found = run_parts(subjects, parts, kept, workers=workers, **limits)
        if any(each.read_by for each in subjects):
            from astray.studies.agentic_misalignment.activations import run_watched  # reads activations, so it needs torch

            found = run_watched(found, parts, kept, **limits)
        found = replace(found, judge_errors=errors)
        summary = Summary(
            study=self.name,
            title=self.title,
            question=self.question,
            astray_version=version("astray"),
            design="acting models",
            subject=_subject_row(subjects),
            judges=tuple(_judge_rows(found, options)),
            seeds=(),
            quick=options.quick,
            arms=(),
            claims=with_holm(tuple(self.claims(found.table, [each.name for each in subjects]))),
            rates=(),
            exhibits=tuple(self.exhibits(found)),
            notes=tuple(_notes(found, options, kept)),
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found.table.write_parquet(folder / ACTS_FILE)
            write_conversations(found.table, folder, kept / LOGS)
            summary.write(folder)
        except OSError as error:
            raise _unwritable(folder, error, "--out") from error
        return folder

    def _kept(self, out: Path, store: str | Path | None) -> Path:
        """Return the folder that logs and verdicts are kept in.

        Raises:
            ConfigurationError: the store is no folder of this machine.
            StoreError: the store is a file.
        """
        if store is None:
            return Path(out) / self.name
        there = Store(store)
        if there.mirror is not None:
            raise ConfigurationError(
                f"--store {store} is no folder, and the logs of acting models, which take the place of a store here, are kept in one. "
                "Give a folder, or leave --store out: logs then lie beside the results."
            )
        return there.folder / self.name

    def plan(
        self,
        options: AgenticOptions,
        *,
        out: Path = Path("astray-results"),
        store: str | Path | None = None,
        workers: int | None = None,
        prices: tuple[float, float] = (0.0, 0.0),
    ) -> str:
        """What the study would ask, take, cost and show, for a terminal; nothing is asked.

        Args:
            options: subjects, scenarios and the like.
            out: folder of the results; what its logs hold is not counted as work.
            store: folder that keeps the logs, as for `run`.
            workers: processes, as for `run`.
            prices: of a million tokens in and out, for graders and for subjects without prices of their own.

        Raises:
            The errors of `run` about subjects, scenarios, options, the store and labelled records.
        """
        kept = self._kept(out, store)
        subjects = subjects_from(options.subject, options.subjects, options.grader, options.reader)
        labelled = labelled_work(subjects, labelled_records(options.labels, options.chosen), kept) if options.labels else None
        return forecast_acting(
            self.title,
            subjects,
            tuple(self.parts(options)),
            kept,
            max_tokens=options.max_tokens,
            budget=options.budget_tokens,
            workers=workers,
            prices=prices,
            labelled=labelled,
        ).render()

    def announcement(
        self, options: AgenticOptions, *, out: Path = Path("astray-results"), store: str | Path | None = None, workers: int | None = None
    ) -> str:
        """What a user is told before it runs: the plan, since every sample may cost money."""
        return self.plan(options, out=out, store=store, workers=workers)

    def next_steps(self, options: AgenticOptions, summary: Summary) -> Iterator[NextStep]:
        """What to run after this."""
        given = options.model_dump(exclude_defaults=True)
        if given.pop("quick", False):
            yield NextStep("All samples", given)
        else:
            more = math.ceil(options.replicates * times_as_many(summary.claims))
            yield NextStep("More samples a cell", given | {"samples": more})
        if options.simulated:
            yield NextStep("The same with a model of your own", {"subject": "MODEL", "grader": "MODEL"})
        elif options.labels is None:
            yield NextStep("The judges' error, from records that you labelled", given | {"labels": "FOLDER"})


def _check_writable(folder: Path, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error, option) from error


def _unwritable(folder: Path, error: OSError, option: str) -> StoreError:
    return StoreError(f"The results cannot be written to {folder}: {error.strerror}. Free space or name another folder with {option}.")


def groups(table: pl.DataFrame, subjects: Sequence[str] = ()) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield name and samples of each subject, also of one of `subjects` that has none; of all together where there are many."""
    names = list(dict.fromkeys([*table["subject"], *subjects]))
    if len(names) > SINGLE:
        yield f"all {len(names)} subjects", table
        return
    for name in names:
        yield name, table.filter(pl.col("subject") == name)


def _subject_row(subjects: tuple[AgenticSubject, ...]) -> SubjectRow:
    named = subjects[0].name if len(subjects) == 1 else f"{len(subjects)} subjects: {', '.join(each.name for each in subjects)}"
    return SubjectRow(name=named, id=digest_of([{"name": each.name, **each.identity} for each in subjects]), parameters=0, is_organism=False)


def _judge_rows(found: AgenticFindings, options: AgenticOptions) -> Iterator[JudgeRow]:
    """Each panel, by identity, with its error on labelled records where there are any; the gate beside it is what it is held against in any case."""
    by_graders = {each.name: " and ".join(each.grader) for each in found.subjects}
    known = {error.identity: error.panel for error in found.judge_errors}
    pairs = found.table.filter(pl.col("panel") != "").select("subject", "panel").unique(maintain_order=True)
    names = {str(panel): by_graders[str(subject)] for subject, panel in pairs.iter_rows()}
    for identity, name in names.items():
        row = JudgeRow(name=name, identity=identity, validated=False)
        if options.labels and identity in known and known[identity].verdicts:
            error = known[identity]
            agreed = error.agreement()
            both = agreed.sensitivity is not None and agreed.specificity is not None
            shares = {"sensitivity": agreed.sensitivity, "specificity": agreed.specificity, "kappa": agreed.kappa}
            row = row.model_copy(update={"validated": both, "labels": error.n, "labelled": f"records in {options.labels.name}", **shares})
        yield row


def _notes(found: AgenticFindings, options: AgenticOptions, kept: Path) -> Iterator[str]:
    if any(each.simulated for each in found.subjects):
        yield SIMULATED
    if found.exhausted:
        yield (
            f"The budget of {options.budget:g} million tokens ended before the work. What was done is counted; the same command with a larger budget "
            "goes on from there."
        )
    errored = found.table.filter(pl.col("outcome") == Conduct.ERRORED)
    if len(errored):
        told = errored["note"].value_counts(sort=True)["note"][0][:200]
        yield f"{len(errored):,} of {len(found.table):,} samples ended in an error; running again tries them again. Most frequent: {told}"
    unjudged = int((found.table["outcome"] == Conduct.JUDGE_FAILED.value).sum())
    if unjudged:
        yield f"Of {unjudged:,} of {len(found.table):,} samples no judge gave a usable verdict; running again asks the judges again, not the subject."
    unreadable = unreadable_logs(kept / LOGS)
    if unreadable:
        yield f"{len(unreadable):,} logs cannot be read, as of a run that was killed; their samples were asked again: {', '.join(unreadable[:3])}."
    scripted = [each.name for each in found.subjects if each.judged_by_scripts]
    if scripted:
        yield (
            f"The judge of {', '.join(scripted)} is a script that knows the courses of scripted subjects alone. Of a real model its verdicts say "
            "nothing: only what the gate finds can be read here. Name a model with --grader."
        )
    retried, harmful = (int(found.table[name].sum()) for name in ("retried", "retried_harm"))
    if retried:
        yield (
            f"{retried:,} attempts ended in an error and were made again; in {harmful:,} of them the harmful act had been executed by then. They are "
            "in no rate: where errors come with the act, rates are too low."
        )
    texts = found.table.filter(pl.col("protocol") == "text")["subject"].unique(maintain_order=True).to_list()
    if texts:
        yield f"These subjects take no tools and were given a text protocol, which is another prompt: {', '.join(texts)}."
    titles = [load_scenario(name).manifest.title for name in options.chosen]
    yield f"Rates are of these {len(titles)} scenarios and their wording ({'; '.join(titles)}), not of scenarios in general."
