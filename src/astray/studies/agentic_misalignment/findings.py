"""Findings of the study of acting models: the table of acts, activation monitors, the judges' error, and notes."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import polars as pl
from pydantic import TypeAdapter

from astray.artifacts import Artifact
from astray.engine.findings import Needs
from astray.engine.judging import causes_text
from astray.engine.study import Shown, StudyPlan
from astray.engine.summary import JudgeRow, MethodNote
from astray.files import read_form
from astray.judges import count_causes
from astray.measure.agentic.conduct import Conduct
from astray.measure.agentic.judge_errors import LabelledConfig, PanelError, read_panel_error
from astray.measure.agentic.logs import unreadable_logs
from astray.measure.agentic.play import ACTS_FILE, LOGS, PlayConfig, read_acts
from astray.measure.agentic.reader import write_conversations
from astray.measure.agentic.scenario import load_scenario
from astray.measure.agentic.subjects import AgenticSubject
from astray.measure.agentic.table import CONDUCT_SCHEMA
from astray.stats.detection import Assessment
from astray.strict import Strict
from astray.studies.agentic_misalignment.setting import AgenticSetting

READING_FILE = "reading.json"
"""File in the artifact of an activation monitor."""
SIMULATED = (
    "The subjects are simulated: scripts that play written courses with known probabilities, judged by scripts. The "
    "page shows that the counting works, and nothing about any model. Run it on a real one with --subject and "
    "--grader."
)


@dataclass(frozen=True)
class ActivationReading:
    """The activation monitor of one subject, or why there is none.

    Attributes:
        subject: whose calls are watched.
        reader: the local model whose activations are read.
        calls: hash over the calls that it was made from; "" without a monitor.
        fitted: harmful and benign calls that the direction, its depth and the threshold come from; None without a
            monitor, as all that follows.
        block: number of the block, from 0.
        found: what it does to the calls of the main and control cells of the run without a monitor.
        auc_within: chance that, of the calls of the main cell alone, a harmful one scores above a benign one; None
            without both kinds.
        why: why there is none.
    """

    subject: str
    reader: str
    calls: str = ""
    fitted: tuple[int, int] | None = None
    block: int | None = None
    found: Assessment | None = None
    auc_within: float | None = None
    why: str = ""


@dataclass(frozen=True)
class AgenticFindings:
    """Findings of the study of acting models.

    Attributes:
        table: one row a sample, with the subject's short name in `subject`.
        subjects: who was run.
        exhausted: whether the budget ended before the work.
        judge_errors: known error of each panel; empty without labelled records.
        readings: the activation monitor of each subject that has one.
        not_analysed: names of the analyses, that is of parts of every subject, that were left out.
    """

    table: pl.DataFrame
    subjects: tuple[AgenticSubject, ...]
    exhausted: bool = False
    judge_errors: tuple[PanelError, ...] = ()
    readings: tuple[ActivationReading, ...] = ()
    not_analysed: tuple[str, ...] = ()

    def needs(self, *analyses: str) -> Needs:
        """Return which of these analyses were left out."""
        return Needs(analyses=tuple(name for name in analyses if name in self.not_analysed))

    @property
    def simulated(self) -> bool:
        """Return whether all subjects are scripted."""
        return all(subject.simulated for subject in self.subjects)


def read_reading(folder: Path) -> ActivationReading:
    """Read what is known of a monitor that is made from activations."""
    return TypeAdapter(ActivationReading).validate_python(
        json.loads((folder / READING_FILE).read_text(encoding="utf-8"))
    )


def read_plays(
    plan: StudyPlan, artifacts: Mapping[str, Artifact], setting: AgenticSetting
) -> tuple[AgenticFindings, Shown]:
    """Read the artifacts of all steps."""
    folders: dict[tuple[str, str], list[Path]] = {}
    wanted, errors, readings = 0, [], []
    for analysis in plan.analyses:
        config, folder = analysis.step.config, artifacts[analysis.step.key].path
        if analysis.playing and isinstance(config, PlayConfig):
            folders.setdefault((analysis.playing.subject.name, analysis.playing.part.name), []).append(folder)
            wanted += 0 if analysis.playing.part.is_made else len(config.numbers)
        elif isinstance(config, LabelledConfig):
            errors.append(read_panel_error(config, folder))
        else:
            readings.append(read_reading(folder))
    by_name = {subject.name: subject for subject in setting.subjects}
    played = [read_acts(by_name[name], pieces) for (name, _), pieces in folders.items()]
    table = pl.concat(played) if played else pl.DataFrame(schema=CONDUCT_SCHEMA)
    own_monitors = [part.monitor for part in setting.parts if part.is_made]
    rows = table.filter(~pl.col("monitor").is_in(own_monitors))
    # Samples that were never begun, or that failed and could not be tried again.
    spent = setting.budget is not None and int(table["tokens"].sum()) >= setting.budget
    exhausted = len(rows) < wanted or (spent and Conduct.ERRORED in set(rows["outcome"]))
    findings = AgenticFindings(table, setting.subjects, exhausted, tuple(errors), tuple(readings), plan.not_analysed)
    damaged = [log for pieces in folders.values() for folder in pieces for log in unreadable_logs(folder / LOGS)]
    return findings, shown(findings, setting, folders, damaged)


def shown(
    findings: AgenticFindings, setting: AgenticSetting, pieces: Mapping[tuple[str, str], list[Path]], damaged: list[str]
) -> Shown:
    """Return the content of the summary and of the results folder beside claims and exhibits."""
    return Shown(
        judges=tuple(_judge_rows(findings, setting)),
        notes=lambda _: notes(findings, setting, damaged),
        write=partial(_write, findings.table, pieces),
        sections=("records",),
        methods=_read_methods(),
        failed=_failed(findings.table),
    )


class _Methods(Strict):
    methods: tuple[MethodNote, ...]


@cache
def _read_methods() -> tuple[MethodNote, ...]:
    """Return the explanations of how to read the page."""
    return read_form(_Methods, Path(__file__).with_name("methods.yaml"), "methods: [{title: ..., text: ...}]").methods


def _write(table: pl.DataFrame, pieces: Mapping[tuple[str, str], list[Path]], folder: Path) -> None:
    """Write the table, the logs in a folder for `inspect view`, and the records that the page shows."""
    table.write_parquet(folder / ACTS_FILE)
    for (subject, part), folders in pieces.items():
        for log in (log for path in folders for log in (path / LOGS).glob("*.eval")):
            shown = folder / LOGS / subject / part / log.name
            shown.parent.mkdir(parents=True, exist_ok=True)
            if not shown.exists():
                try:
                    shown.hardlink_to(log)
                except OSError:  # another disk, or one without links
                    shutil.copyfile(log, shown)
    write_conversations(table, folder, folder / LOGS)


def _failed(table: pl.DataFrame) -> dict[str, int]:
    """Return how many samples have no verdict, by the judges' cause."""
    return count_causes(table.filter(outcome=Conduct.JUDGE_FAILED.value)["note"].fill_null(""))


def _judge_rows(findings: AgenticFindings, setting: AgenticSetting) -> Iterator[JudgeRow]:
    """Yield each panel, by identity, with its error on labelled records where there are any.

    The gate beside it is what it is held against in any case.
    """
    by_graders = {subject.name: " and ".join(subject.grader) for subject in findings.subjects}
    panel_errors = {error.identity: error.panel for error in findings.judge_errors}
    pairs = findings.table.filter(pl.col("panel") != "").select("subject", "panel").unique(maintain_order=True)
    names = {str(panel): by_graders[str(subject)] for subject, panel in pairs.iter_rows()}
    for identity, name in names.items():
        row = JudgeRow(name=name, identity=identity, validated=False)
        if setting.labels and identity in panel_errors and panel_errors[identity].verdicts:
            error = panel_errors[identity]
            agreed = error.agreement()
            both = agreed.sensitivity is not None and agreed.specificity is not None
            shares = {"sensitivity": agreed.sensitivity, "specificity": agreed.specificity, "kappa": agreed.kappa}
            row = row.model_copy(
                update={"validated": both, "labels": error.n, "labelled": f"records in {setting.labels.name}", **shares}
            )
        yield row


def _about_surfaces(setting: AgenticSetting) -> str:
    some = "each" if setting.surface == "drawn" else "each second"
    lacking = [name for name in setting.scenarios if load_scenario(name).name not in setting.drawn]
    return (
        f"Names and words of the scenarios are drawn anew for {some} sample of a cell, the same for all cells; a rate is "
        "about scenarios of this kind, and the sample is its unit."
        + (f" Fixed, for want of a surface.yaml: {', '.join(lacking)}." if lacking else "")
    )


def notes(findings: AgenticFindings, setting: AgenticSetting, damaged: list[str]) -> Iterator[str]:
    """Yield notes for the reader."""
    if any(subject.simulated for subject in findings.subjects):
        yield SIMULATED
    if setting.surface != "fixed":
        yield _about_surfaces(setting)
    if findings.not_analysed:
        yield f"Left out of this run: {', '.join(findings.not_analysed)}. The claims that need it say so."
    if findings.exhausted:
        yield (
            f"The budget of {(setting.budget or 0) / 1e6:g} million tokens ended before the work. What was done is "
            "counted; the same command with a larger budget goes on from there."
        )
    errored = findings.table.filter(pl.col("outcome") == Conduct.ERRORED)
    if len(errored):
        note = errored["note"].value_counts(sort=True)["note"][0][:200]
        yield (
            f"{len(errored):,} of {len(findings.table):,} samples ended in an error; running again tries them again. "
            f"Most frequent: {note}"
        )
    if failed := _failed(findings.table):
        yield (
            f"Of {sum(failed.values()):,} of {len(findings.table):,} samples no judge gave a usable verdict "
            f"({causes_text(failed)}); running again asks the judges again, not the subject."
        )
    if damaged:
        yield (
            f"{len(damaged):,} logs cannot be read, as of a run that was killed; their samples were asked again: "
            f"{', '.join(damaged[:3])}."
        )
    scripted = [subject.name for subject in findings.subjects if subject.judged_by_scripts]
    if scripted:
        yield (
            f"The judge of {', '.join(scripted)} is a script that knows the courses of scripted subjects alone. Of a "
            "real model its verdicts say nothing: only what the gate finds can be read here. Name a model with "
            "--grader."
        )
    retried, harmful = (int(findings.table[name].sum()) for name in ("retried", "retried_harm"))
    if retried:
        yield (
            f"{retried:,} attempts ended in an error and were made again; in {harmful:,} of them the harmful act had "
            "been executed by then. They are in no rate: where errors come with the act, rates are too low."
        )
    texts = findings.table.filter(pl.col("protocol") == "text")["subject"].unique(maintain_order=True).to_list()
    if texts:
        yield (
            f"These subjects take no tools and were given a text protocol, which is another prompt: {', '.join(texts)}."
        )
    titles = [load_scenario(name).manifest.title for name in setting.scenarios]
    yield (
        f"Rates are of these {len(titles)} scenarios and their wording ({'; '.join(titles)}), not of scenarios in "
        "general."
    )
