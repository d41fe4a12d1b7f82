"""`astray run`: a study from start to report."""

from pathlib import Path
from typing import Any

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

RESULTS = Path("astray-results")


def run(
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
    out: Out = RESULTS,
    store: KeptIn = None,
    workers: Workers = None,
) -> Path:
    """Runs a study and writes its report; run again, it goes on where it was."""
    from astray.cli.conclusion import conclude, typed
    from astray.cli.progress import StepBar
    from astray.engine.options import checked
    from astray.engine.run import run_study
    from astray.engine.summary import Summary
    from astray.report import write_report
    from astray.studies import get_study

    chosen = get_study(study)
    options: Any = checked(
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
    with StepBar(chosen.name) as bar:
        if chosen.announced:
            from astray.engine.forecast.forecast import forecast

            told = forecast(chosen, options, out=out, store=store, workers=workers).render()
            bar.console.print(told, markup=False, highlight=False)
        folder = run_study(chosen, options, out=out, store=store, workers=workers, progress=bar.update)
    report = write_report(folder)
    summary = Summary.read(folder)
    where = ({} if out == RESULTS else {"out": out}) | ({} if store is None else {"store": store})
    commands = [(step.purpose, typed(chosen.name, step, where)) for step in chosen.next_steps(options, summary)]
    conclude(bar.console, summary, report, commands)
    return report
