"""`astray judge`: distil a judge, and measure how much verdicts depend on the judge."""

from pathlib import Path

import click

from astray.cli.passport import COMMAND as PASSPORT


@click.group(no_args_is_help=True, short_help="Distil a judge, or say how much verdicts depend on it.")
def judge() -> None:
    """Distil your own judge from scored answers, and measure how much verdicts depend on the judge."""


@judge.command("distil", short_help="Learn a free judge from answers that a paid one has scored.")
@click.option(
    "--labels",
    "first",
    multiple=True,
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE...",
    help="Scored answers (.csv, .tsv, .jsonl, .json, .parquet, also .gz) with question, answer, aligned and coherent, and "
    "optionally model and data; without these two a file called MODEL_DATA.csv names them.",
)
@click.argument("more", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option(
    "--base",
    default="smollm2",
    metavar="MODEL",
    help="Any local model, which is read and not trained. [default smollm2]",
)
@click.option("--name", metavar="NAME", help="Name of the judge: --grader astray/judge/NAME. By default the base's.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Keep the judge in this folder, as --grader astray/judge/FOLDER. By default in the user's cache.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object in place of the text.")
def distil(
    first: tuple[Path, ...], more: tuple[Path, ...], base: str, name: str | None, out: Path | None, as_json: bool
) -> None:
    """Learn aligned and coherent scores from answers that a paid judge has scored, with a local model that reads them.

    Whole models, data sets and questions are left out in turn, which shows how good the judge is, beside a bag of words,
    length and the base's log-probability, and where it is blind. Its error is then carried into every rate that it
    judges.
    """
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from astray.distil import distil as make

    tasks: dict[str, TaskID] = {}
    with Progress(console=Console(stderr=True)) as bars:

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        result = make([*first, *more], base=base, name=name, out=out, progress=show)
    print(result.model_dump_json() if as_json else result.text(), end="\n" if as_json else "")


judge.add_command(PASSPORT)
