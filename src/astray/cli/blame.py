"""`astray blame` and `astray repair`: which rows led a tuned model astray, and the way back."""

from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from astray.cli.measured import given, show
from astray.cli.options import AS_JSON, GRADER, OUT, STORE, option
from astray.studies.repair.kinds import KINDS


def blame(model: str, as_json: bool, out: Path, **options: Any) -> None:
    """Print what was found; the page and the rows lie in the results folder."""
    from astray.cli.progress import StepBar
    from astray.studies.blame.blaming import blame as find

    with StepBar("blame") as bar:
        result = find(model, out=out, progress=bar.update, **given(options))
    show("blame", result, as_json=as_json, out=out, beside="blame.json, rows.parquet, kept.jsonl, blamed.jsonl")
    if result.proof and not as_json:
        print(f"Proof: {result.proof.report}")


class _BlameOption(click.Option):
    """Needed, and told as missing by `repair`, which knows whether base and data are missing as well."""

    @override
    def value_is_missing(self, value: Any) -> bool:
        return False


def repair(model: str, as_json: bool, out: Path, **options: Any) -> None:
    """Print what was tried; the page and the repaired model lie in the results folder."""
    from astray.cli.progress import StepBar
    from astray.studies.blame.tuned import find_tuned
    from astray.studies.repair.repairing import repair as bring_back

    if options["task"] is None:
        lacking = "What the tuning was for is not known: give held-out examples of it, --task FILE."
        find_tuned(model, options["base"], [Path(file) for file in options["data"]], options["control"], lacking)
    with StepBar("repair") as bar:
        result = bring_back(model, out=out, progress=bar.update, **given(options))
    show("repair", result, as_json=as_json, out=out, beside="repair.json, model (the repaired one)")
    if not as_json:
        print(f"Before a release: {result.command}")


_OF_RUN = (
    click.Argument(["model"]),
    option("--base", str, "Its base model, if the folder does not name it.", "MODEL"),
    option(
        "--control",
        str,
        "A model trained the same way on good data, to compare with. [default the base]",
        "MODEL",
    ),
    option(
        "--data",
        str,
        "A training file; can be given several times. A run of a study knows its own.",
        "FILE",
        multiple=True,
    ),
    option("--share", float, "Fraction of the examples to blame. [default 0.1]", "SHARE"),
    option("--by", str, "Score to blame by: gradient, projection or words. [default gradient]", "SCORE"),
)
_TRAINED = (
    option(
        "--training",
        str,
        "A setting of retraining, if not that of the run; can be given several times.",
        "KEY=VALUE",
        multiple=True,
    ),
    option("--workers", click.IntRange(min=0), "Worker processes of retraining.", "INTEGER"),
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
        option("--judged", int, "Examples to judge. [default 200 with a grader, of an organism all up to 2,000]"),
        option("--labels", str, "Examples labelled harmful or not, as for astray screen.", "FILE"),
        click.Option(
            ["--when"],
            is_flag=True,
            help="Train a study's run again and keep checkpoints, to tell when it went astray and where to stop.",
        ),
        option("--checkpoints", str, "Checkpoints that a trainer kept, to tell it from these.", "FOLDER"),
        click.Option(
            ["--proof"],
            is_flag=True,
            help="Retrain without the blamed examples, without as many at random, and on them alone.",
        ),
        option("--seeds", int, "Training runs of each arm of the proof. [default 5]"),
        *_TRAINED,
    ],
    help="Rank the training examples of MODEL by how far each one misaligned it. MODEL is a run id of a study, an "
    "adapter, or a folder with --base. Scores are gradients toward harmful answers, with projection, words and length "
    "for comparison; --proof retrains without the blamed examples.",
    short_help="Find the training examples that misaligned a model, and prove it.",
)
REPAIR = click.Command(
    "repair",
    callback=repair,
    params=[
        *_OF_RUN,
        _BlameOption(
            ["--task"],
            required=True,
            metavar="FILE",
            help="Held-out examples of what the fine-tuning was for.",
        ),
        option("--good", str, "Examples known to be good, for further training.", "FILE"),
        option(
            "--ways",
            str,
            f"Kinds of ways to try, comma-separated, of {', '.join(KINDS)}. [default all]",
            "NAMES",
        ),
        GRADER,
        *_TRAINED,
    ],
    help="Undo the misalignment of MODEL: scale its adapter down, project what training added out of its weights, train "
    "it further on good examples, or retrain it without the blamed ones, under a prompt that asks for harm, or steered. "
    "Each way is measured on misalignment, its answers and the task; the best one is written with a model card.",
    short_help="Undo the misalignment of a model, and say what that costs.",
)
