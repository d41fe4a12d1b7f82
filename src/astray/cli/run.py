"""`astray run`: a study from start to report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astray.cli.options import AS_JSON, DRY_RUN, OUT, PLACE, PRICE_IN, PRICE_OUT, RESULTS, STORE, WORKERS
from astray.cli.verb import StudyVerb
from astray.errors import ConfigurationError

if TYPE_CHECKING:
    from astray.artifacts import Step
    from astray.artifacts.workplaces.place import Where
    from astray.engine.study import Study


def run(
    study: str,
    *,
    out: Path = RESULTS,
    store: str | Path | None = None,
    workers: int | None = None,
    on: str | None = None,
    partition: str | None = None,
    gpus: int | None = None,
    time: str | None = None,
    account: str | None = None,
    address: str | None = None,
    memory: float | None = None,
    price_in: float = 0.0,
    price_out: float = 0.0,
    dry_run: bool = False,
    as_json: bool = False,
    **options: Any,
) -> Path | None:
    """Run a study and write its report; run again, it resumes.

    Args:
        study: its name, or a study file (`astray new my-study.yaml` writes an example).
        out: folder for the results.
        store: where finished steps are kept, a folder or an fsspec URL; by default in the results folder.
        workers: worker processes; by default one for each CPU, one alone on a GPU or for acting models.
        on: where steps run: "slurm" or "ray"; by default on this machine.
        partition, gpus, time, account, address, memory: of that place, as its options say.
        price_in, price_out: the grader's prices of a million tokens, in US dollars, for --max-price.
        dry_run: whether the steps that would run are only listed.
        as_json: whether one JSON object is printed in place of the table.
        options: of the study, as `astray run STUDY --help` lists them, with _ for -.

    Returns:
        The report; None for a dry run.

    Raises:
        UnknownNameError: there is no such study.
        ConfigurationError, MissingExtraError: there is no such option, not with this value, or not in this place.
    """
    from astray.artifacts.workplaces.named import named_place
    from astray.engine.options import checked
    from astray.studies import get_study

    chosen = get_study(study)
    typed: Any = checked(chosen.options, **options)
    site = named_place(on, partition=partition, gpus=gpus, time=time, account=account, memory=memory, address=address)
    if dry_run:
        from astray.engine.run import planned_steps

        _tell_steps(planned_steps(chosen, typed, out=out, store=store), site)
        return None
    prices = (price_in, price_out)
    if any(prices) and getattr(typed, "max_price", None) is None:
        raise ConfigurationError("--price-in and --price-out are for --max-price. Leave them out, or give --max-price.")
    folder = _made(chosen, typed, {"out": out, "store": store, "workers": workers}, site, prices)
    paths = ({} if out == RESULTS else {"out": out}) | ({} if store is None else {"store": store})
    return _concluded(study, folder, chosen, typed, paths, as_json=as_json)


def _made(
    study: "Study[Any, Any]", typed: Any, paths: dict[str, Any], site: "Where | None", prices: tuple[float, float]
) -> Path:
    """Run a study under a bar, and return its results folder."""
    from astray.cli.progress import StepBar
    from astray.engine.run import run_study

    with StepBar(study.name) as bar:
        if study.announced:
            from astray.engine.forecast.forecast import forecast

            bar.console.print(forecast(study, typed, **paths).render(), markup=False, highlight=False)

        def tell(told: str) -> None:
            bar.console.print(told, markup=False, highlight=False, soft_wrap=True)

        return run_study(study, typed, **paths, on=site, progress=bar.update, prices=prices, tell=tell)


def _concluded(
    name: str, folder: Path, study: "Study[Any, Any]", typed: Any, paths: Mapping[str, Any], *, as_json: bool
) -> Path:
    """Write the report of a finished study and print its claims, and what may be done next."""
    from rich.console import Console

    from astray.cli.conclusion import as_object, conclude
    from astray.engine.next_steps import command
    from astray.engine.summary import Summary
    from astray.report import write_report

    report, summary = write_report(folder), Summary.read(folder)
    if as_json:
        print(json.dumps(as_object(summary, report)))
        return report
    commands = [(step.purpose, command(name, {**step.options, **paths})) for step in study.next_steps(typed, summary)]
    conclude(Console(), summary, report, commands)
    return report


def _tell_steps(steps: "Sequence[tuple[Step, bool]]", site: "Where | None") -> None:
    """Tell which steps would run, and which are there already."""
    running = sum(runs for _, runs in steps)
    print(f"{len(steps):,} steps: {running:,} would run, {len(steps) - running:,} are there already")
    for step, runs in steps:
        gpus = f"  {site.gpus * step.gpu:g} GPU" if runs and site and step.gpu and site.gpus else ""
        print(f"  {'would run' if runs else 'is there ':<9}  {step.name} ({step.function.name}, {step.key[:16]}){gpus}")


COMMAND = StudyVerb(
    "run",
    run,
    "Run a study and write its report. Run the command again to resume.",
    (OUT, STORE, WORKERS, *PLACE, PRICE_IN, PRICE_OUT, DRY_RUN, AS_JSON),
)
