"""`astray count`: rates and differences of what other tools have logged."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astray.cli.measured import given
from astray.cli.options import AS_JSON, option

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


def _count(files: tuple[str, ...], as_json: bool, out: Path | None, **options: Any) -> None:
    import json

    from astray.report.origin import with_origin

    counted = count(*files, **given(options))
    print(
        json.dumps(with_origin(counted.as_object()), ensure_ascii=False, allow_nan=False)
        if as_json
        else counted.text(),
        end="\n" if as_json else "",
    )
    if out is not None:
        counted.save(out)


def _named(name: str, help: str, metavar: str = "COLUMN", *, multiple: bool = False) -> click.Option:
    several = "; may be given several times" if multiple else ""
    return option(f"--{name}", str, f"{help}{several}.", metavar, multiple=multiple)


COMMAND = click.Command(
    "count",
    callback=_count,
    params=[
        click.Argument(["files"], nargs=-1, required=True, metavar="FILES..."),
        _named("hit", "A score that is counted, such as I, or one comparison: '<0.5'", "SCORE", multiple=True),
        _named("among", "A score of the denominator, by default every one", "SCORE", multiple=True),
        _named("failed", "A score that says that there is none, such as n/a", "SCORE", multiple=True),
        _named("score", "Which score: of an Inspect log, a metric of lm-evaluation-harness, a column", "NAME"),
        _named("key", "Which entry of a score that is an object", "NAME"),
        _named("filter", "Which filter of lm-evaluation-harness", "NAME"),
        _named("against", "A file of another model to compare with", "FILE", multiple=True),
        _named("labels", "Labelled answers, or a judge's calibration.json: corrects for the judge's error", "FILE"),
        _named("unit", "Unit of inference: answer, question or run; question where one has several answers", "UNIT"),
        _named("run", "Column of a table that names the training run; runs are then the unit"),
        _named("question", "Column of a table that names the question"),
        _named("answer", "Column of a table with the answer, which labels are matched by"),
        _named("judge", "Column of a table that names the judge"),
        _named("model", "Column of a table that names the model"),
        _named("by", "Count apart by this column, or by task, model or run", multiple=True),
        _named("where", "Count only answers with this value", "COLUMN=VALUE", multiple=True),
        option("--level", float, "Coverage of the intervals. [default 0.95]"),
        option("--out", click.Path(path_type=Path), "Also write count.json, .csv, .txt and .html here.", "FOLDER"),
        AS_JSON,
    ],
    help="Count what other tools have judged: rates with intervals, and with --against the difference, paired by "
    "question.\n\n"
    "FILES are Inspect logs, judged tables (CSV, TSV, JSON Lines, JSON, Parquet), samples_*.jsonl of "
    "lm-evaluation-harness, or folders of logs. What cannot be told from them without guessing is asked for by "
    "name.",
    short_help="Count Inspect logs, judged tables, lm-evaluation-harness' samples.",
)
