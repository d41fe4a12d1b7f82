"""`astray count`: rates and differences of what other tools have logged."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from astray.counting import Counted
    from astray.counting.sources import Source


def count(
    *files: "Source",
    hit: str | Sequence[str] = (),
    among: str | Sequence[str] = (),
    failed: str | Sequence[str] = (),
    against: "Source | Sequence[Source]" = (),
    labels: str | Path | None = None,
    by: str | Sequence[str] = (),
    where: str | Sequence[str] = (),
    level: float = 0.95,
    **choices: Any,
) -> "Counted":
    """Count what other tools have judged: rates, and differences paired by question.

    Args:
        files: Inspect logs, judged tables (CSV, TSV, JSON Lines, JSON, Parquet), `samples_*.jsonl` of
            lm-evaluation-harness, or folders of logs.
        hit: scores that are counted, or one comparison such as "<0.5".
        among: scores that are the denominator; all by default.
        failed: scores that say that there is none.
        against: files of another model to compare with.
        labels: labelled answers, or a judge's calibration: rates and differences are corrected for its error.
        by: columns to count apart.
        where: filters such as "domain=medicine"; several of one column are alternatives.
        level: nominal coverage of the intervals.
        choices: score, key, filter, question, answer, judge, run, model, unit: as `astray count --help` lists them.

    Returns:
        What was counted, with `.table()`, `.text()` and `.save(folder)`.

    Raises:
        AstrayError: files that cannot be counted, or something that has to be said.
    """
    from astray.counting import Choices, Rule, count_files
    from astray.counting.scored import where_of

    def several(given: Any) -> tuple[Any, ...]:
        return tuple(given) if isinstance(given, list | tuple) else (given,)

    rule = Rule(several(hit), several(among), several(failed))
    chosen = Choices(by=several(by), where=where_of(several(where)), **choices)
    return count_files(
        files,
        rule,
        against=several(against),
        labels=Path(labels) if labels is not None else None,
        choices=chosen,
        level=level,
    )


def _count(files: tuple[str, ...], as_json: bool, out: Path | None, **given: Any) -> None:
    import json

    counted = count(*files, **{name: value for name, value in given.items() if value is not None})
    print(
        json.dumps(counted.as_object(), ensure_ascii=False, allow_nan=False) if as_json else counted.text(),
        end="\n" if as_json else "",
    )
    if out is not None:
        counted.save(out)


def _option(name: str, help: str, metavar: str = "COLUMN", **settings: Any) -> click.Option:
    return click.Option([f"--{name}"], help=help, metavar=metavar, **settings)


COMMAND = click.Command(
    "count",
    callback=_count,
    params=[
        click.Argument(["files"], nargs=-1, required=True, metavar="FILES..."),
        _option(
            "hit",
            "A score that is counted, such as I; may be given several times. Or one comparison: '<0.5'.",
            "SCORE",
            multiple=True,
        ),
        _option(
            "among",
            "A score of the denominator; may be given several times. By default all scores are.",
            "SCORE",
            multiple=True,
        ),
        _option(
            "failed",
            "A score that says that there is none, such as n/a; may be given several times.",
            "SCORE",
            multiple=True,
        ),
        _option(
            "score", "Which score: of an Inspect log, a metric of lm-evaluation-harness, a column of a table.", "NAME"
        ),
        _option("key", "Which entry of a score that is an object.", "NAME"),
        _option("filter", "Which filter of lm-evaluation-harness.", "NAME"),
        _option(
            "against", "A file of another model to compare with; may be given several times.", "FILE", multiple=True
        ),
        _option("labels", "Labelled answers, or a judge's calibration.json: corrects for the judge's error.", "FILE"),
        _option(
            "unit",
            "Unit of inference: answer, question or run. By default question where one has several answers.",
            "UNIT",
        ),
        _option("run", "Column of a table that names the training run; runs are then the unit."),
        _option("question", "Column of a table that names the question."),
        _option("answer", "Column of a table with the answer, which labels are matched by."),
        _option("judge", "Column of a table that names the judge."),
        _option("model", "Column of a table that names the model."),
        _option(
            "by", "Count apart by this column, or by task, model or run; may be given several times.", multiple=True
        ),
        _option(
            "where", "Count only answers with this value; may be given several times.", "COLUMN=VALUE", multiple=True
        ),
        _option("level", "Coverage of the intervals. [default 0.95]", "NUMBER", type=float, default=None),
        click.Option(
            ["--out"],
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            help="Also write count.json, .csv, .txt and .html to this folder.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object in place of the table."),
    ],
    help="Count what other tools have judged: rates with intervals, and with --against the difference, paired by "
    "question.\n\n"
    "FILES are Inspect logs, judged tables (CSV, TSV, JSON Lines, JSON, Parquet), samples_*.jsonl of "
    "lm-evaluation-harness, or folders of logs. What cannot be told from them without guessing is asked for by "
    "name.",
    short_help="Count Inspect logs, judged tables, lm-evaluation-harness' samples.",
)
