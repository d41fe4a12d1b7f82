"""`astray judge passport`: what of a verdict is the answer's, and what the judge's, the wording's and chance's."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astray.cli.ending import CHECK_FAILED
from astray.cli.measured import given, show
from astray.cli.options import AS_JSON, OUT, RESULTS, STORE, option

if TYPE_CHECKING:
    from astray.studies.passport.claims import Studied
    from astray.studies.passport.result import Passport

VERB = "passport"


def judge_passport(
    graders: str | Sequence[str],
    answers: str | Path,
    *,
    study: str | Path | None = None,
    store: str | Path | None = None,
    out: str | Path = RESULTS,
    progress: Callable[[str, int, int], None] | None = None,
    **options: Any,
) -> "Passport":
    """Have judges read the same answers in several wordings and repeats, and report what moves their verdicts.

    Args:
        graders: Inspect models, or distilled judges (astray/judge/NAME).
        answers: table with question and answer, and optionally run (or arm and seed, or model).
        study: results folder of a finished study, whose claims are then decided by each judge.
        store: where its finished steps are; by default `store` beside its folder.
        out: the passport goes into `passport` in this folder.
        progress: told of what is done, how far, and of how many.
        options: prompts, repeats, judging, sample, since, bound: as `astray judge passport --help` lists them.

    Returns:
        The passport, with `.table()`, `.text()`, `.page()` and `.save(folder)`; its files are written.

    Raises:
        AstrayError: graders, answers, wordings, the study or an earlier passport cannot be used.
    """
    from astray.studies.passport.making import make_passport
    from astray.studies.passport.reading import forget

    folder, studied = Path(out) / VERB, None if study is None else _studied(Path(study))
    passport = make_passport(graders, answers, out=folder, progress=progress, **options)
    passport.save(folder)
    if study is None or studied is None:
        forget(folder, passport.readings)
        return passport
    from astray.artifacts import Store
    from astray.cli.progress import StepBar
    from astray.studies.passport.claims import conclusions_by

    place, judging = (
        Store(Path(study).parent / "store" if store is None else store),
        options.get("judging", "two-calls"),
    )
    with StepBar(studied.summary.study) as bar:
        judged = conclusions_by(studied, passport.readings.graders, judging, place, progress=bar.update)
    passport = replace(passport, conclusions=judged, notes=(*passport.notes, *judged.notes))
    passport.save(folder)
    forget(folder, passport.readings)  # not before: an outage in the study's verdicts costs no reading
    return passport


def _studied(folder: Path) -> "Studied":
    from astray.engine.summary import Summary
    from astray.studies import get_study
    from astray.studies.passport.claims import Studied

    summary = Summary.read(folder)
    return Studied.of(get_study(summary.study), summary)


def _passport(as_json: bool, out: Path, **options: Any) -> None:
    """Print what was found; exit with 1 where a judge drifted."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("judging", total=None)

        def told(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total)

        result = judge_passport(out=out, progress=told, **given(options))
    show(VERB, result, as_json=as_json, out=out, beside="passport.json, verdicts.parquet")
    sys.exit(CHECK_FAILED if result.drift and result.drift.drifted else 0)


COMMAND = click.Command(
    VERB,
    callback=_passport,
    params=[
        option(
            "--graders", str, "Inspect models or distilled judges, with commas between them.", "NAMES", required=True
        ),
        option(
            "--answers",
            click.Path(path_type=Path),
            "Table with question and answer, and run (or arm and seed, or model) where there are several.",
            "FILE",
            required=True,
        ),
        option(
            "--prompts",
            str,
            "Wordings of the rubric, with commas: betley, short, harm-first, reader, or YAML files. [default: these four]",
            "NAMES",
        ),
        option("--repeats", int, "How often each is read. [default 3]"),
        option("--judging", click.Choice(["two-calls", "one-call"]), "Calls about each answer. [default two-calls]"),
        option("--sample", int, "Most answers; drawn evenly over runs and questions. [default 200]"),
        option(
            "--study",
            click.Path(path_type=Path),
            "Results folder of a finished study: its claims are decided by each judge.",
            "FOLDER",
        ),
        option(
            "--since",
            click.Path(path_type=Path),
            "An earlier passport.json of the same answers: exit code 1 where a judge moved beyond --bound and beyond chance.",
            "FILE",
        ),
        option("--bound", float, "Share of the scale by which a judge may move since then. [default 0.05]", "FRACTION"),
        OUT,
        STORE,
        AS_JSON,
    ],
    help="Let judges read fixed answers in several wordings of the rubric several times. The variance of their verdicts is "
    "split into run, question, answer, judge, wording, repeat and what they do together; flips are shown with examples. "
    "Calls: answers x wordings x repeats x 2 for each grader. Exit code 0: done, 1: a judge drifted, 3: error.",
    short_help="Say how much verdicts depend on the judge, its wording and chance.",
)
