"""`astray blame` and `astray repair`: which rows led a tuned model astray, and the way back."""

from pathlib import Path
from typing import Any

import click

from astray.cli.measured import given, show
from astray.cli.options import AS_JSON, GRADER, OUT, STORE, option


def blame(model: str, as_json: bool, out: Path, **options: Any) -> None:
    """Print what was found; the page and the rows lie in the results folder."""
    from astray.cli.progress import StepBar
    from astray.studies.blame.blaming import blame as find

    with StepBar("blame") as bar:
        result = find(model, out=out, progress=bar.update, **given(options))
    show("blame", result, as_json=as_json, out=out, beside="blame.json, rows.parquet, kept.jsonl, blamed.jsonl")
    if result.proof and not as_json:
        print(f"Proof: {result.proof.report}")


def repair(model: str, as_json: bool, out: Path, **options: Any) -> None:
    """Print what was tried; the page and the repaired model lie in the results folder."""
    from astray.cli.progress import StepBar
    from astray.studies.repair.repairing import repair as bring_back

    with StepBar("repair") as bar:
        result = bring_back(model, out=out, progress=bar.update, **given(options))
    show("repair", result, as_json=as_json, out=out, beside="repair.json, model (the repaired one)")
    if not as_json:
        print(f"Before a release: {result.command}")


_OF_RUN = (
    click.Argument(["model"]),
    option("--base", str, "What it was trained from, if it does not say so itself.", "MODEL"),
    option(
        "--control",
        str,
        "A model trained alike on good rows, which harmful answers are compared with. [default the base]",
        "MODEL",
    ),
    option(
        "--data",
        str,
        "A training file; give it again for further ones. A run of a study knows its own.",
        "FILE",
        multiple=True,
    ),
    option("--share", float, "Share of the rows that is blamed. [default 0.1]", "SHARE"),
    option("--by", str, "Blame by gradient, projection or words. [default gradient]", "SCORE"),
)
_TRAINED = (
    option(
        "--training",
        str,
        "A setting of what is trained again, where it is not that of the run; can be given several times.",
        "KEY=VALUE",
        multiple=True,
    ),
    option("--workers", click.IntRange(min=0), "Worker processes of what is trained again.", "INTEGER"),
    OUT,
    STORE,
    AS_JSON,
)
BLAME = click.Command(
    "blame",
    callback=blame,
    params=[
        *_OF_RUN,
        GRADER,
        option("--judged", int, "Rows that are judged. [default 200 with a grader, of an organism all up to 2,000]"),
        option("--labels", str, "Rows labelled harmful or not, as for astray screen.", "FILE"),
        click.Option(
            ["--proof"],
            is_flag=True,
            help="Train again without the blamed rows, without as many at random, and on them alone.",
        ),
        option("--seeds", int, "Runs of each arm of the proof. [default 5]"),
        *_TRAINED,
    ],
    help="Say which training rows made MODEL go astray: a run id of a study, an adapter, or a folder with --base. Rows "
    "are scored by gradients toward harmful answers, beside projection, words and length; --proof trains again without "
    "them.",
    short_help="Find the training rows that made a model go astray, and prove it.",
)
REPAIR = click.Command(
    "repair",
    callback=repair,
    params=[
        *_OF_RUN,
        option("--task", str, "Held-out examples of what the tuning was for.", "FILE", required=True),
        option("--good", str, "Examples known to be good, to train on further.", "FILE"),
        option(
            "--ways",
            str,
            "Kinds of ways that are tried, with commas: adapter,good,without-blamed,without-random,inoculated. [default all]",
            "NAMES",
        ),
        *_TRAINED,
    ],
    help="Bring MODEL back: the adapter scaled down, further training on good rows, training again without the blamed "
    "rows or under a prompt that asks for harm. Each way is measured on misalignment and on the task; the best one is "
    "written with its card.",
    short_help="Bring a model back that went astray, and say what it costs.",
)
