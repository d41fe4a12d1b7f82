"""`astray plan`: what a study would cost and what it could show, before it runs."""

from pathlib import Path
from typing import Annotated

import typer


def plan(
    study: Annotated[str, typer.Argument(help="Name of the study, such as emergent-misalignment.")],
    subject: Annotated[str, typer.Option(help="organism, a local folder or a hub name.")] = "organism",
    seeds: Annotated[int, typer.Option(help="Training runs an arm.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Two seeds, a quarter of the answers.")] = False,
    data: Annotated[Path | None, typer.Option(help="Folder with insecure.jsonl, secure.jsonl ... for a real model.")] = None,
    grader: Annotated[str | None, typer.Option(help="Inspect model that judges a real model's answers.")] = None,
    size: Annotated[int | None, typer.Option(help="Training rows an arm, if not the study's own.")] = None,
    samples: Annotated[int | None, typer.Option(help="Answers a question, if not the study's own.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer in tokens, if not the study's own.")] = None,
    arms: Annotated[str, typer.Option(help="Only these arms, with commas between; the untrained base and the good data are run as well.")] = "",
    price_in: Annotated[float, typer.Option(help="The grader's price of a million input tokens.")] = 0.0,
    price_out: Annotated[float, typer.Option(help="The grader's price of a million output tokens.")] = 0.0,
    workers: Annotated[int | None, typer.Option(help="Worker processes; by default one for each CPU.")] = None,
) -> None:
    """Says power, time, tokens and cost of a study before it runs. Nothing is trained."""
    from astray.studies import get_study
    from astray.studies.forecast import forecast
    from astray.studies.study import StudyOptions, checked

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
    print(forecast(get_study(study), options, workers=workers, price_in=price_in, price_out=price_out).render())
