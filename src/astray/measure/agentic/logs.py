"""Logs of an agentic run on the disk: which of them can be read, and what they hold of a grid.

Left to others: running what is not there yet (play), the table of one log (measure/agentic/table).
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
from inspect_ai.log import EvalLog, EvalSampleSummary, list_eval_logs, read_eval_log, read_eval_log_sample_summaries

from astray.errors import EmptyDataError
from astray.measure.agentic.conduct import Conduct
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.scenario import load_scenario
from astray.measure.agentic.surface import texts_digest
from astray.measure.agentic.table import CONDUCT_SCHEMA, SCORER, conduct_table


def finished(logs: Path, grid: Grid, numbers: Sequence[int] | None = None) -> pl.DataFrame:
    """Return the samples of a grid, all or those of some indices, that the logs of a folder hold, each once.

    A settled one comes first, then one without a verdict, then one that ended in an error. Of further errors the sample
    keeps the number and the tokens.

    Logs of scenarios whose texts have changed since are left out for those scenarios.
    """
    tables = [_of_log(log, grid) for log in readable_logs(logs)]
    wanted = _ids(grid, numbers)
    rows = pl.concat([pl.DataFrame(schema=CONDUCT_SCHEMA), *tables])
    is_outcome = {
        name: pl.col("outcome") == outcome
        for name, outcome in (("errored", Conduct.ERRORED), ("unjudged", Conduct.JUDGE_FAILED))
    }
    keys = rows.select("sample", "replicate", "gate", "tokens", **is_outcome).with_row_index("row")
    by_error = keys.filter(pl.col("sample").is_in(wanted)).sort("errored", "unjudged", maintain_order=True)
    first = by_error.unique("sample", keep="first", maintain_order=True).sort("replicate", "sample")
    chosen = rows[first["row"]]  # whole rows are copied once
    others = by_error.join(first, on="row", how="anti")
    return _with_attempts(chosen, others) if len(others) else chosen


def _with_attempts(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Return the samples, with what their other attempts used and came to."""
    failed = pl.col("errored").sum().cast(pl.Int64)
    harmful = (pl.col("errored") & pl.col("gate")).sum().cast(pl.Int64)
    added = others.group_by("sample").agg(
        pl.col("tokens").filter("errored").sum(), retried=failed, retried_harm=harmful
    )
    names = ("tokens", "retried", "retried_harm")
    both = rows.join(added, on="sample", how="left", suffix="_added", maintain_order="left")
    return both.with_columns(pl.col(name) + pl.col(f"{name}_added").fill_null(0) for name in names).select(rows.columns)


def done_samples(logs: Path, grid: Grid, numbers: Sequence[int] | None = None) -> dict[str, int]:
    """Return the samples of a grid, all or those of some indices, that the logs of a folder hold with an outcome.

    They are not asked again. Reads summaries alone.

    Returns:
        Id -> tokens of all models in all attempts.
    """
    tokens: Counter[str] = Counter()
    done = set()
    for id, used, settled in _attempts(logs, grid):
        tokens[id] += used
        if settled:
            done.add(id)
    return {id: tokens[id] for id in tokens if id in done & _ids(grid, numbers)}


def spent_tokens(logs: Path, grid: Grid, numbers: Sequence[int] | None = None) -> int:
    """Return the tokens of all models in all attempts at samples of a grid, also in those that ended in an error.

    A sample that was judged again stands in two logs and was played once.
    """
    wanted, failed = _ids(grid, numbers), 0
    played: dict[str, int] = {}
    for id, used, settled in _attempts(logs, grid):
        if id in wanted and settled:
            played[id] = max(used, played.get(id, 0))
        elif id in wanted:
            failed += used
    return failed + sum(played.values())


def _attempts(logs: Path, grid: Grid) -> Iterator[tuple[str, int, bool]]:
    """Yield id, tokens and whether there is an outcome of each attempt at a sample with unchanged texts."""
    for log in readable_logs(logs):
        same = _unchanged(log, grid)
        for summary in _summaries(log) if same else []:
            if Path(summary.metadata["scenario"]).name in same:
                score = (summary.scores or {}).get(SCORER)
                used = sum(usage.total_tokens for usage in summary.model_usage.values())
                yield str(summary.id), used, score is not None and score.value != Conduct.ERRORED


def _ids(grid: Grid, numbers: Sequence[int] | None) -> set[str]:
    return {grid.sample_id(number) for number in (range(grid.size) if numbers is None else numbers)}


def readable_logs(logs: Path) -> list[str]:
    """Return the logs of a folder and those below it, without those that cannot be read.

    These were cut off when a run was killed while it wrote, or are damaged.
    """
    return [info.name for info in list_eval_logs(str(logs)) if _header(info.name) is not None] if logs.is_dir() else []


def unreadable_logs(logs: Path) -> list[str]:
    """Return the names of logs of a folder and those below it that cannot be read; their samples are asked again."""
    there = [info.name for info in list_eval_logs(str(logs))] if logs.is_dir() else []
    return [log.rpartition("/")[2] for log in there if _header(log) is None]


def _header(log: str) -> EvalLog | None:
    """Return the header of a log; None for a damaged one, at which Inspect raises whatever its libraries do."""
    try:
        return read_eval_log(log, header_only=True)
    except Exception:
        return None


def _summaries(log: str) -> list[EvalSampleSummary]:
    """Return the summaries of the samples of a log; none of a damaged one."""
    try:
        return read_eval_log_sample_summaries(log)
    except Exception:
        return []


def _unchanged(log: str, grid: Grid) -> list[str]:
    """Return the names of the scenarios of a grid whose texts are still those of a log."""
    header = _header(log)
    written = (header.eval.metadata or {}).get("scenarios", {}) if header else {}
    return [
        scenario.name
        for scenario in map(load_scenario, grid.scenarios)
        if written.get(scenario.name) == texts_digest(scenario, grid.surface)
    ]


def _of_log(log: str, grid: Grid) -> pl.DataFrame:
    same = _unchanged(log, grid)
    if not same:
        return pl.DataFrame(schema=CONDUCT_SCHEMA)
    try:
        return conduct_table(log).filter(pl.col("scenario").is_in(same))
    except EmptyDataError:
        return pl.DataFrame(schema=CONDUCT_SCHEMA)
    except Exception as error:
        warnings.warn(f"The log {log} is damaged ({type(error).__name__}): its samples are asked again.", stacklevel=2)
        return pl.DataFrame(schema=CONDUCT_SCHEMA)
