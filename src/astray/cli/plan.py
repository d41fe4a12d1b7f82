"""`astray plan`: what a study would cost and what it could show, before it runs."""

from functools import partial
from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from astray.cli.gate import COMMAND as GATE
from astray.cli.gate import gate
from astray.cli.options import OUT, PRICE_IN, PRICE_OUT, RESULTS, STORE, WORKERS
from astray.cli.verb import StudyVerb


def plan(
    study: str,
    *,
    out: Path = RESULTS,
    store: str | Path | None = None,
    workers: int | None = None,
    price_in: float = 0.0,
    price_out: float = 0.0,
    **options: Any,
) -> None:
    """Tell power, time, tokens and cost of a study before it runs, and what is done already. Nothing is trained.

    Args:
        study: its name, or a study file.
        out: folder of the results.
        store: where finished steps are looked up; by default in the results folder.
        workers: worker processes that it would have.
        price_in: the grader's price of a million input tokens, in US dollars.
        price_out: the same of output tokens.
        options: of the study, as `astray plan STUDY --help` lists them, with _ for -.

    Raises:
        UnknownNameError: there is no such study.
        ConfigurationError: the study takes no such option, or not with this value.
    """
    from astray.engine.forecast.forecast import forecast
    from astray.engine.options import checked
    from astray.studies import get_study

    chosen = get_study(study)
    given = checked(chosen.options, **options)
    print(forecast(chosen, given, out=out, store=store, workers=workers, prices=(price_in, price_out)).render())


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
    "Tell power, time, tokens and cost of a study before it runs. Nothing is trained and nothing is asked.",
    (OUT, STORE, WORKERS, PRICE_IN, PRICE_OUT),
)
