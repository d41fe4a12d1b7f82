"""`astray audit`: what does this model do? Any model is asked the battery of evaluations, without training."""

from pathlib import Path
from typing import Any

import click

from astray.cli.measured import given, show
from astray.cli.options import AS_JSON, ASKED, FEW_WORKERS, JUDGED, OUT, STORE, option


def audit(
    models: tuple[str, ...],
    listed: bool,
    as_json: bool,
    out: Path,
    workers: int | None,
    price_in: float,
    price_out: float,
    **options: Any,
) -> None:
    """Print what would be asked, or ask it and print the profile."""
    from astray.cli.progress import StepBar
    from astray.studies.audit.run import audit as measure
    from astray.studies.audit.run import plan_audit

    if listed:
        print(plan_audit(*models, out=out, prices=(price_in, price_out), **given(options)).text())
        return
    with StepBar("audit") as bar:
        result = measure(*models, out=out, workers=workers or 0, progress=bar.update, **given(options))
    show("audit", result, as_json=as_json, out=out, beside="audit.json, audit.txt, answers.parquet")


COMMAND = click.Command(
    "audit",
    callback=audit,
    params=[
        click.Argument(["models"], nargs=-1, required=True, metavar="MODEL [MODEL ...]"),
        option("--evals", str, "Evaluations, comma-separated. [default: all that --list shows]", "NAMES"),
        click.Option(
            ["--list", "listed"],
            is_flag=True,
            help="Show what would run, what it needs, answers, tokens and price; ask nothing.",
        ),
        *JUDGED,
        option("--system-file", click.Path(path_type=Path), "Text file with a system prompt for each model.", "PATH"),
        option(
            "--tokenizer",
            str,
            "Folder or model with the tokenizer and chat template of a model behind an address, for the meter.",
            "NAME",
        ),
        option("--dial", str, "Ask each adapter once for each factor, and draw the curve: 0.5,1,1.5,2,3.", "FACTORS"),
        option(
            "--samples", int, "Answers to each free-form question; other evaluations scale. [default 25, organism 4]"
        ),
        *ASKED,
        *(OUT, STORE, FEW_WORKERS, AS_JSON),
    ],
    help="Say what models do: free-form questions, forced choices, honesty, deception, goals, alignment questions, "
    "acting with tools, the meter. The first MODEL is audited, the others are for comparison; each is a subject "
    "in any form that --subject takes, an Inspect model (openai/gpt-4o), or the address of a server "
    "(http://127.0.0.1:8000/v1#MODEL). Nothing is trained. Run again with a further model, it extends the page; what "
    "is done is not asked again.",
    short_help="Say what a model does, next to others; nothing is trained.",
)
