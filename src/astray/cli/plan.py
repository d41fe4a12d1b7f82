"""`astray plan`: what a study would cost and what it could show, before it runs."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from astray.cli.ending import fitted
from astray.cli.gate import COMMAND as GATE
from astray.cli.gate import gate
from astray.cli.options import OUT, PLACE, PRICE_GPU, PRICE_IN, PRICE_OUT, RESULTS, STORE, WORKERS
from astray.cli.verb import StudyVerb
from astray.errors import ConfigurationError


def plan(
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
    price_gpu: float | None = None,
    price_in: float = 0.0,
    price_out: float = 0.0,
    **options: Any,
) -> None:
    """Forecast power, time, tokens and cost of a study, and report what is done already. Nothing is trained.

    Args:
        study: its name, or a study file.
        out: folder of the results.
        store: where finished steps are looked up; by default in the results folder.
        workers: worker processes that it would have.
        on: a cluster that it would run on, whose GPU-hours, wall time, memory and disk are told: "slurm" or "ray".
        partition: of the Slurm cluster.
        gpus: GPUs of each step that runs a model.
        time: limit of a job, such as "4h".
        account: that Slurm charges.
        address: of the Ray cluster.
        memory: GB of a step.
        price_gpu: price of an hour of one GPU, in US dollars.
        price_in: the grader's price of a million input tokens, in US dollars.
        price_out: the same of output tokens.
        options: of the study, as `astray plan STUDY --help` lists them, with _ for -.

    Raises:
        UnknownNameError: there is no such study.
        ConfigurationError: the study takes no such option, or not with this value.
    """
    from astray.artifacts.workplaces.named import named_place
    from astray.engine.forecast.forecast import forecast
    from astray.engine.options import checked
    from astray.studies import get_study

    chosen = get_study(study)
    typed = checked(chosen.options, **options)
    site = named_place(on, partition=partition, gpus=gpus, time=time, account=account, memory=memory, address=address)
    if site is None and price_gpu is not None:
        raise ConfigurationError(
            "--price-gpu is a price of a cluster's GPUs. Add --on slurm or --on ray, or leave it out."
        )
    text = forecast(chosen, typed, out=out, store=store, workers=workers, prices=(price_in, price_out)).render()
    print(fitted(text, sys.stdout))
    if site is not None:
        from astray.engine.forecast.places import forecast_on

        print(fitted(forecast_on(chosen, typed, site, out=out, store=store, price=price_gpu).render(), sys.stdout))


class _Plan(StudyVerb):
    """Plans a study, and a gate, whose command it takes over with `--list` set."""

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name != GATE.name:
            return super().get_command(ctx, cmd_name)
        params = [param for param in GATE.params if param.name not in ("listed", "as_json")]
        planned = partial(gate, listed=True, as_json=False)
        return click.Command(GATE.name, params=params, callback=planned, help="The same as `astray gate --list`.")


COMMAND = _Plan(
    "plan",
    plan,
    "Forecast power, time, tokens and cost of a study. Nothing is trained and nothing is asked.",
    (OUT, STORE, WORKERS, *PLACE, PRICE_GPU, PRICE_IN, PRICE_OUT),
)
