"""`astray screen`: what a data set would teach a model, row by row, before anything is trained."""

from pathlib import Path
from typing import Any

import click

from astray.cli.measured import given, show
from astray.cli.options import AS_JSON, GRADER, MAX_TOKENS, OUT, SEED, STORE, option


def screen(data: str, subject: str, as_json: bool, out: Path, **options: Any) -> None:
    """Print what was found; the page and the rows lie in the results folder."""
    from astray.cli.progress import StepBar
    from astray.studies.screen.screening import screen as find

    with StepBar("screen") as bar:
        result = find(data, subject, out=out, progress=bar.update, **given(options))
    beside = f"screen.json, rows.parquet, to_label.csv{', kept.jsonl' if result.kept else ''}"
    show("screen", result, as_json=as_json, out=out, beside=beside)


COMMAND = click.Command(
    "screen",
    callback=screen,
    params=[
        click.Argument(["data"]),
        option("--subject", str, "The model that would be trained, in any form.", "MODEL", required=True),
        option("--reference", str, "Examples known to be good, to compare scores with.", "GOOD"),
        GRADER,
        option("--judged", int, "Examples to judge. [default 200 with a grader, organism 0]"),
        option(
            "--labels", str, "Examples labelled harmful or not: columns row and harmful, as in to_label.csv.", "FILE"
        ),
        option("--keep", float, "Write kept.jsonl with this fraction of the examples, lowest scores first.", "SHARE"),
        option("--threshold", float, "Write kept.jsonl with the examples up to this score.", "SCORE"),
        option(
            "--samples",
            int,
            "The model's own answers to each prompt, to compare with. [default organism 4, real model 1]",
        ),
        option("--max-length", int, "Length limit of an example in training, in tokens. [default 2048, organism 128]"),
        MAX_TOKENS,
        SEED,
        OUT,
        STORE,
        AS_JSON,
    ],
    help="Say what DATA would teach a model before you train on it: a score and reasons for each example, how well the "
    "score separates compared with random directions and length, and with --labels the share of harmful examples. DATA "
    "is JSON Lines, JSON, CSV, TSV or Parquet: chats, prompt and completion, prompt and chosen, Alpaca, ShareGPT, "
    "or question and answer.",
    short_help="Screen a data set before training: scores and reasons for each example.",
)
