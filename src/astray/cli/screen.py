"""`astray screen`: what a data set would teach a model, row by row, before anything is trained."""

from pathlib import Path
from typing import Any

import click

from astray.cli.options import RESULTS


def screen(data: str, subject: str, as_json: bool, out: Path, **given: Any) -> None:
    """Print what was found; the page and the rows lie in the results folder."""
    import json

    from astray.cli.progress import StepBar
    from astray.studies.screen.screening import screen as find

    with StepBar("screen") as bar:
        chosen = {name: value for name, value in given.items() if value is not None}
        result = find(data, subject, out=out, progress=bar.update, **chosen)
    if as_json:
        print(json.dumps(result.as_object(), ensure_ascii=False, allow_nan=False))
        return
    beside = ["screen.json", "rows.parquet", "to_label.csv", *(["kept.jsonl"] if result.kept else [])]
    print(result.text())
    print(f"\nPage: {out / 'screen' / 'screen.html'}\nBeside it: {', '.join(beside)}")


COMMAND = click.Command(
    "screen",
    callback=screen,
    params=[
        click.Argument(["data"]),
        click.Option(
            ["--subject"], required=True, metavar="MODEL", help="The model that would be trained, in any form."
        ),
        click.Option(
            ["--reference"], metavar="GOOD", help="Examples known to be good, which scores are compared with."
        ),
        click.Option(
            ["--grader"], metavar="MODEL", help="Inspect model that judges a sample of rows, such as openai/gpt-4o."
        ),
        click.Option(
            ["--judged"],
            type=int,
            metavar="INTEGER",
            help="Rows that are judged. [default 200 with a grader, 0 of the organism]",
        ),
        click.Option(
            ["--labels"],
            metavar="FILE",
            help="Rows labelled harmful or not: columns row and harmful, as in to_label.csv.",
        ),
        click.Option(
            ["--keep"],
            type=float,
            metavar="SHARE",
            help="Write kept.jsonl with this share of the rows, lowest scores first.",
        ),
        click.Option(
            ["--threshold"], type=float, metavar="SCORE", help="Write kept.jsonl with the rows up to this score."
        ),
        click.Option(
            ["--samples"],
            type=int,
            metavar="INTEGER",
            help="The model's own answers to each prompt, which the data's are compared with. [default 4 of the "
            "organism, 1 of a real model]",
        ),
        click.Option(
            ["--max-length"],
            type=int,
            metavar="INTEGER",
            help="Longest row in training, in tokens. [default 2048, of the organism 128]",
        ),
        click.Option(
            ["--max-tokens"], type=int, metavar="INTEGER", help="Longest own answer in tokens, if not the usual one."
        ),
        click.Option(
            ["--seed"], type=int, metavar="INTEGER", help="Other rows for the judge and for labelling. [default 0]"
        ),
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
    help="Say what DATA would teach a model, before it is trained: a score and reasons for each row, how well the "
    "score separates beside random directions and length, and with --labels the share of harmful rows. DATA is "
    "JSON Lines, JSON, CSV, TSV or Parquet: chats, prompt and completion, prompt and chosen, Alpaca, ShareGPT, "
    "or question and answer.",
    short_help="Screen a data set before training: scores and reasons for each row.",
)
