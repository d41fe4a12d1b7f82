"""`astray plan`: what a study would cost and what it could show, before it runs."""

from pathlib import Path
from typing import Annotated

import typer

from astray.cli.options import (
    Arms,
    Budget,
    Data,
    FirstSeed,
    Grader,
    KeptIn,
    Labels,
    MaxTokens,
    Out,
    Quick,
    Reader,
    Samples,
    Scenarios,
    Seeds,
    Size,
    Study,
    Subject,
    Subjects,
    Workers,
)


def plan(
    study: Study,
    subject: Subject = None,
    subjects: Subjects = None,
    scenarios: Scenarios = None,
    budget: Budget = None,
    seeds: Seeds = None,
    first_seed: FirstSeed = None,
    quick: Quick = None,
    data: Data = None,
    grader: Grader = None,
    reader: Reader = None,
    labels: Labels = None,
    size: Size = None,
    samples: Samples = None,
    max_tokens: MaxTokens = None,
    arms: Arms = None,
    out: Out = Path("astray-results"),
    store: KeptIn = None,
    workers: Workers = None,
    price_in: Annotated[float, typer.Option(min=0, help="The grader's price of a million input tokens.")] = 0.0,
    price_out: Annotated[float, typer.Option(min=0, help="The grader's price of a million output tokens.")] = 0.0,
) -> None:
    """Says power, time, tokens and cost of a study before it runs, and what is done already. Nothing is trained."""
    from astray.engine.forecast.forecast import forecast
    from astray.engine.options import checked
    from astray.studies import get_study

    chosen = get_study(study)
    options = checked(
        chosen.options,
        subject=subject,
        subjects=subjects,
        scenarios=scenarios,
        budget=budget,
        seeds=seeds,
        first_seed=first_seed,
        quick=quick,
        data=data,
        grader=grader,
        reader=reader,
        labels=labels,
        size=size,
        samples=samples,
        max_tokens=max_tokens,
        arms=arms,
    )
    print(forecast(chosen, options, out=out, store=store, workers=workers, prices=(price_in, price_out)).render())
