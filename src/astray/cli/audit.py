"""`astray audit`: what does this model do? Any model is asked the battery of evaluations, without training."""

from pathlib import Path
from typing import Any

import click

from astray.cli.options import PRICE_IN, PRICE_OUT, RESULTS


def audit(
    models: tuple[str, ...],
    listed: bool,
    as_json: bool,
    out: Path,
    workers: int | None,
    price_in: float,
    price_out: float,
    **given: Any,
) -> None:
    """Print what would be asked, or ask it and print the profile."""
    import json

    from astray.cli.progress import StepBar
    from astray.studies.audit.run import audit as measure
    from astray.studies.audit.run import plan_audit

    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if listed:
        print(plan_audit(*models, out=out, prices=(price_in, price_out), **chosen).text())
        return
    with StepBar("audit") as bar:
        result = measure(*models, out=out, workers=workers or 0, progress=bar.update, **chosen)
    if as_json:
        print(json.dumps(result.as_object(), ensure_ascii=False, allow_nan=False))
        return
    print(result.text())
    print(f"\nPage: {out / 'audit' / 'audit.html'}; beside it audit.json, audit.txt and answers.parquet")


COMMAND = click.Command(
    "audit",
    callback=audit,
    params=[
        click.Argument(["models"], nargs=-1, required=True, metavar="MODEL [MODEL ...]"),
        click.Option(
            ["--evals"],
            metavar="NAMES",
            help="Evaluations with commas between them. [default: all that --list shows without naming any]",
        ),
        click.Option(
            ["--list", "listed"],
            is_flag=True,
            help="Tell what would run, what each needs, answers, tokens and price; ask nothing.",
        ),
        click.Option(
            ["--grader"],
            metavar="MODEL",
            help="Inspect model that judges a real model's answers, such as openai/gpt-4o.",
        ),
        click.Option(
            ["--system-file"],
            type=click.Path(path_type=Path),
            metavar="PATH",
            help="Text file with a system prompt, part of each named model.",
        ),
        click.Option(
            ["--tokenizer"],
            metavar="NAME",
            help="Folder or model with the tokenizer and chat template of a model behind an address, for the meter.",
        ),
        click.Option(
            ["--dial"],
            metavar="FACTORS",
            help="Ask each adapter once for each factor, and draw the curve: 0.5,1,1.5,2,3.",
        ),
        click.Option(
            ["--samples"],
            type=int,
            metavar="INTEGER",
            help="Answers a free-form question; others scale. [default 25, organism 4]",
        ),
        click.Option(
            ["--max-tokens"],
            type=int,
            metavar="INTEGER",
            help="Longest answer in tokens, where it is less than the usual one.",
        ),
        click.Option(["--seed"], type=int, metavar="INTEGER", help="Other random numbers for all answers. [default 0]"),
        click.Option(
            ["--budget"],
            type=float,
            metavar="NUMBER",
            help="Million tokens of graders and served models; then no more is asked.",
        ),
        PRICE_IN,
        PRICE_OUT,
        click.Option(
            ["--out"],
            type=click.Path(path_type=Path),
            default=RESULTS,
            metavar="PATH",
            help=f"Folder of the results. [default {RESULTS}]",
        ),
        click.Option(
            ["--store"], metavar="PLACE", help="Where answers and verdicts are kept. By default in the results folder."
        ),
        click.Option(
            ["--workers"],
            type=click.IntRange(min=0),
            metavar="INTEGER",
            help="Worker processes. [default 0: everything in this one]",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object in place of the table."),
    ],
    help="Say what models do: free-form questions, forced choices, honesty, deception, goals, alignment questions, "
    "acting with tools, the meter. The first MODEL is the audited one, the others stand beside it; each is a subject "
    "in any form that --subject takes, an Inspect model (openai/gpt-4o), or the address of a server "
    "(http://127.0.0.1:8000/v1#MODEL). Nothing is trained. Run again with a further model, it extends the page; what "
    "is done is not asked again.",
    short_help="Say what a model does, beside others; nothing is trained.",
)
