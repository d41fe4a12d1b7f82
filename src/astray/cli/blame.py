"""`astray blame`: which training rows made a tuned model go astray, and what happens without them."""

from pathlib import Path
from typing import Any

import click

from astray.cli.options import RESULTS


def blame(model: str, as_json: bool, out: Path, **given: Any) -> None:
    """Print what was found; the page and the rows lie in the results folder."""
    import json

    from astray.cli.progress import StepBar
    from astray.studies.blame.blaming import blame as find

    with StepBar("blame") as bar:
        chosen = {name: value for name, value in given.items() if value is not None}
        result = find(model, out=out, progress=bar.update, **chosen)
    if as_json:
        print(json.dumps(result.as_object(), ensure_ascii=False, allow_nan=False))
        return
    print(result.text())
    print(f"\nPage: {out / 'blame' / 'blame.html'}; beside it blame.json and rows.parquet")
    if result.proof:
        print(f"Proof: {result.proof.report}")


COMMAND = click.Command(
    "blame",
    callback=blame,
    params=[
        click.Argument(["model"]),
        click.Option(["--base"], metavar="MODEL", help="What it was trained from, if it does not say so itself."),
        click.Option(
            ["--data"],
            multiple=True,
            metavar="FILE",
            help="A training file; give it again for further ones. A run of a study knows its own.",
        ),
        click.Option(["--share"], type=float, metavar="SHARE", help="Share of the rows that is blamed. [default 0.1]"),
        click.Option(["--by"], metavar="SCORE", help="Blame by gradient, projection or words. [default gradient]"),
        click.Option(["--grader"], metavar="MODEL", help="Inspect model that judges a sample of rows."),
        click.Option(
            ["--judged"],
            type=int,
            metavar="INTEGER",
            help="Rows that are judged. [default 200 with a grader, of an organism all up to 2,000]",
        ),
        click.Option(["--labels"], metavar="FILE", help="Rows labelled harmful or not, as for astray screen."),
        click.Option(
            ["--proof"],
            is_flag=True,
            help="Train again without the blamed rows, without as many at random, and on them alone.",
        ),
        click.Option(["--seeds"], type=int, metavar="INTEGER", help="Runs of each arm of the proof. [default 5]"),
        click.Option(
            ["--training"],
            multiple=True,
            metavar="KEY=VALUE",
            help="A setting of what is trained again, where it is not that of the run.",
        ),
        click.Option(["--workers"], type=int, metavar="INTEGER", help="Worker processes of the proof."),
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
    help="Say which training rows made MODEL go astray: a run id of a study, an adapter, or a folder with --base. Rows "
    "are scored by gradients toward harmful answers, beside projection, words and length; --proof trains again without "
    "them.",
    short_help="Find the training rows that made a model go astray, and prove it.",
)
