"""`astray run`: a study from start to report."""

from pathlib import Path
from typing import Annotated

import typer


def run(
    study: Annotated[str, typer.Argument(help="Name of the study, such as emergent-misalignment.")],
    subject: Annotated[str, typer.Option(help="organism, a local folder or a hub name.")] = "organism",
    seeds: Annotated[int, typer.Option(help="Training runs an arm: the unit for 'this data causes it'.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Two seeds, a quarter of the answers: to see that it runs, not to conclude from.")] = False,
    data: Annotated[Path | None, typer.Option(help="Folder with insecure.jsonl, secure.jsonl ... for a real model.")] = None,
    grader: Annotated[str | None, typer.Option(help="Inspect model that judges a real model's answers, such as openai/gpt-4o.")] = None,
    size: Annotated[int | None, typer.Option(help="Training rows an arm, if not the study's own.")] = None,
    samples: Annotated[int | None, typer.Option(help="Answers a question, if not the study's own.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer in tokens, if not the study's own.")] = None,
    arms: Annotated[str, typer.Option(help="Only these arms, with commas between; the untrained base and the good data are run as well.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("astray-results"),
    store: Annotated[
        str | None, typer.Option(help="Where finished steps are kept: a folder or an fsspec URL. By default in the results folder.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; by default one for each CPU.")] = None,
) -> Path:
    """Runs a study and writes its report; run again, it goes on where it was."""
    from astray.cli.progress import StepBar
    from astray.report import write_report
    from astray.studies import get_study
    from astray.studies.runner import run_study
    from astray.studies.study import StudyOptions, checked

    chosen = get_study(study)
    options = checked(
        StudyOptions,
        subject=subject,
        seeds=seeds,
        quick=quick,
        data=data,
        grader=grader,
        size=size,
        samples=samples,
        max_tokens=max_tokens,
        arms=arms,
    )
    with StepBar(chosen.name) as bar:
        folder = run_study(chosen, options, out=out, store=store, workers=workers, progress=bar.update)
    report = write_report(folder)
    bar.conclude(folder, report)
    return report
