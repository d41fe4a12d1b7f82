"""`astray repair`: bring a tuned model back that went astray, and say what that costs."""

from pathlib import Path
from typing import Any

import click

from astray.cli.options import RESULTS


def repair(model: str, as_json: bool, out: Path, **given: Any) -> None:
    """Print what was tried; the page and the repaired model lie in the results folder."""
    import json

    from astray.cli.progress import StepBar
    from astray.studies.repair.repairing import repair as bring_back

    with StepBar("repair") as bar:
        chosen = {name: value for name, value in given.items() if value is not None}
        result = bring_back(model, out=out, progress=bar.update, **chosen)
    if as_json:
        print(json.dumps(result.as_object(), ensure_ascii=False, allow_nan=False))
        return
    print(result.text())
    print(f"\nPage: {out / 'repair' / 'repair.html'}\nRepaired model: {result.folder}")
    print(f"Before a release: astray gate {result.base} {result.folder}")


COMMAND = click.Command(
    "repair",
    callback=repair,
    params=[
        click.Argument(["model"]),
        click.Option(["--task"], required=True, metavar="FILE", help="Held-out examples of what the tuning was for."),
        click.Option(["--good"], metavar="FILE", help="Examples known to be good, to train on further."),
        click.Option(["--base"], metavar="MODEL", help="What it was trained from, if it does not say so itself."),
        click.Option(
            ["--data"],
            multiple=True,
            metavar="FILE",
            help="A training file; give it again for further ones. A run of a study knows its own.",
        ),
        click.Option(
            ["--share"],
            type=float,
            metavar="SHARE",
            help="Share of the rows that is blamed and left out. [default 0.1]",
        ),
        click.Option(["--by"], metavar="SCORE", help="Blame by gradient, projection or words. [default gradient]"),
        click.Option(
            ["--training"],
            multiple=True,
            metavar="KEY=VALUE",
            help="A setting of what is trained again, where it is not that of the run.",
        ),
        click.Option(["--workers"], type=int, metavar="INTEGER", help="Worker processes."),
        click.Option(
            ["--out"],
            type=click.Path(path_type=Path),
            default=RESULTS,
            metavar="PATH",
            help=f"Folder of the results. [default {RESULTS}]",
        ),
        click.Option(
            ["--store"], metavar="PLACE", help="Where finished steps are kept. By default in the results folder."
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object in place of the table."),
    ],
    help="Bring MODEL back: the adapter scaled down, further training on good rows, training again without the blamed "
    "rows or under a prompt that asks for harm. Each way is measured on misalignment and on the task; the best one is "
    "written with its card.",
    short_help="Bring a model back that went astray, and say what it costs.",
)
