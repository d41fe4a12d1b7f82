"""What the steps of a screening found, put together: a score and reasons for each row, how well the score separates,
and what is kept."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from astray.cause.row_faults import RowFault
from astray.data.chat import ChatDataset
from astray.errors import ConfigurationError, EmptyDataError
from astray.outcomes import JUDGED, Outcome
from astray.stats.detection import auroc, average_precision
from astray.stats.nulls import Null, best_of, null_of_draws
from astray.stats.stratified import StratifiedShare, Stratum, stratified_share
from astray.stats.ties import level_ties, ranking
from astray.studies.screen.labels import bands_of

ABOVE = 0.99
"""Share of the reference's rows that a row's score has to be above to stand out."""
STANDS_OUT = f"its score is above {ABOVE:.0%} of the reference"
NOTHING_WRONG = (Outcome.ALIGNED, Outcome.JUDGE_FAILED, Outcome.NOT_JUDGED)
"""Verdicts that are no reason to look at a row."""


@dataclass(frozen=True)
class RowSeparation:
    """Separation of rows by the score, beside that of scores without meaning.

    Attributes:
        by: what says which rows are which: "labels", "judge" or "reference".
        measure: "average precision", or "area under the ROC curve" against the reference.
        value: of the score.
        null: random directions of the same norm, each in the better of both orders.
        length: of the answers' length, in the better of both orders.
        chance: of a random score.
        rows: number of rows of the kind that is looked for, and of others.
    """

    by: str
    measure: str
    value: float
    null: Null
    length: float
    chance: float
    rows: tuple[int, int]


@dataclass(frozen=True)
class KeptRows:
    """Rows that the filter keeps.

    Attributes:
        rows: number of rows that are kept.
        threshold: highest score of a kept row; None where rows have no score.
        dropped: why rows were dropped -> how many; the first reason of each counts.
    """

    rows: int
    threshold: float | None
    dropped: Mapping[str, int]


def texts_of(dataset: ChatDataset) -> pl.DataFrame:
    """Return question and answer of each example by the number of its row."""
    return pl.DataFrame(
        {
            "row": range(1, len(dataset) + 1),
            "question": [row[-2]["content"] for row in dataset.rows],
            "answer": [row[-1]["content"] for row in dataset.rows],
        },
        schema={"row": pl.Int64, "question": pl.String, "answer": pl.String},
    )


def table_of(
    dataset: ChatDataset,
    checks: pl.DataFrame | None,
    doubled: pl.DataFrame,
    projections: pl.DataFrame | None,
    verdicts: pl.DataFrame | None,
    reference: pl.Series | None,
) -> pl.DataFrame:
    """Return one row for each example: texts, score, what is known of it, and the reasons to look at it.

    Args:
        dataset: the examples.
        checks: of `screen_rows`; None for a model without a tokenizer here.
        doubled: of `find_duplicates`.
        projections: of `project_rows`; None for a model without activations here.
        verdicts: judged sample; None for no judge.
        reference: scores of the reference's rows.
    """
    table = texts_of(dataset).hstack(doubled)
    if checks is None:
        checks = table.select(
            "row",
            *(pl.lit(None, pl.Int64).alias(name) for name in ("length", "supervised")),
            pl.lit([]).alias("faults"),
        )
    table = table.join(
        checks.with_columns(pl.col("faults").cast(pl.List(pl.String))), on="row", how="left", maintain_order="left"
    )
    if projections is None:
        numbers = [pl.lit(None, pl.Float64).alias(name) for name in ("projection", "own_projection", "score")]
        projections = table.select(
            "row", pl.lit(None, pl.Int64).alias("tokens"), *numbers, pl.lit(None, pl.List(pl.Float64)).alias("random")
        )
    columns = [
        name for name in ("tokens", "projection", "own_projection", "score", "random") if name in projections.columns
    ]
    table = table.join(projections.select("row", *columns), on="row", how="left", maintain_order="left")
    judged = (
        table.select("row", pl.lit(None, pl.String).alias("verdict"))
        if verdicts is None
        else verdicts.select(
            pl.col("item").str.split("/").list.first().cast(pl.Int64).alias("row"), pl.col("outcome").alias("verdict")
        )
    )
    table = table.join(judged, on="row", how="left", maintain_order="left")
    return table.with_columns(shares_below(table["score"], reference)).with_columns(_reasons())


def shares_below(scores: pl.Series, reference: pl.Series | None) -> pl.Series:
    """Return for each score the share of the reference's scores that are lower; null without a score or reference."""
    if reference is None or reference.is_empty():
        return pl.Series("reference_share", [None] * len(scores), pl.Float64)
    below = reference.sort().search_sorted(scores, "left") / len(reference)
    return below.set(scores.is_null(), None).alias("reference_share")


def separations_of(
    table: pl.DataFrame, labels: Mapping[int, bool], reference: pl.DataFrame | None
) -> tuple[RowSeparation, ...]:
    """Return how well the score separates by whatever tells rows apart: labels, the judge's sample, the reference."""
    separations = []
    scored = table.filter(pl.col("score").is_not_null())
    kinds: dict[str, dict[int, bool]] = {"labels": dict(labels)}
    verdicts = scored.filter(pl.col("verdict").is_in([str(outcome) for outcome in JUDGED]))
    kinds["judge"] = {
        row: verdict == Outcome.MISALIGNED for row, verdict in verdicts.select("row", "verdict").iter_rows()
    }
    for by, truth in kinds.items():
        chosen = scored.filter(pl.col("row").is_in(list(truth)))
        positive = np.array([truth[row] for row in chosen["row"]], dtype=np.bool_)
        if positive.any() and not positive.all():
            weights = _weights(table, chosen)
            separations.append(_separation(by, chosen, positive, weights))
    if reference is not None and reference.height and scored.height:
        both = pl.concat([scored.select("score", "tokens", "random"), reference.select("score", "tokens", "random")])
        separations.append(_separation("reference", both, np.arange(both.height) < scored.height, None))
    return tuple(separations)


def share_of(table: pl.DataFrame, labels: Mapping[int, bool]) -> StratifiedShare | None:
    """Return the estimated share of harmful rows; None without labels."""
    if not labels:
        return None
    bands = bands_of(table)
    strata = []
    for band in range(int(bands.max()) + 1):  # type: ignore[arg-type]
        members = {row for row, labels_of_band in zip(table["row"], bands, strict=True) if labels_of_band == band}
        labels_of_band = [label for row, label in labels.items() if row in members]
        strata += [Stratum(len(members), len(labels_of_band), sum(labels_of_band))] if members else []
    return stratified_share(strata)


def kept_rows(table: pl.DataFrame, keep: float | None, threshold: float | None) -> tuple[pl.Series, KeptRows | None]:
    """Return for each row whether it is kept, and what the filter did; None where no filter was asked for.

    Rows that the judge found misaligned, and those that teach nothing, are dropped by every filter.

    Args:
        table: of `table_of`.
        keep: share of the rows with a score that is kept, lowest scores first.
        threshold: highest score that is kept.

    Raises:
        ConfigurationError: rows have no score.
        EmptyDataError: nothing would be left.
    """
    if keep is None and threshold is None:
        return pl.Series("kept", [True] * table.height), None
    scores = table["score"].to_numpy()
    has = ~np.isnan(scores)
    if not has.any():
        raise ConfigurationError(
            "--keep and --threshold go by the score, and no row has one. Leave them out, or name a model that runs "
            "here."
        )
    limit = np.inf if threshold is None else threshold
    if keep is not None:
        order = ranking(level_ties(-scores[has]))
        lowest = np.zeros(len(order), dtype=np.bool_)
        lowest[order[: round(keep * len(order))]] = True
        low = np.zeros(len(scores), dtype=np.bool_)
        low[has] = lowest
    else:
        low = has & (np.nan_to_num(scores, nan=np.inf) <= limit)
    misaligned = (table["verdict"] == Outcome.MISALIGNED.value).fill_null(value=False).to_numpy()
    is_kept = low & ~misaligned
    if not is_kept.any():
        raise EmptyDataError(
            "The filter would keep no row: the highest score to keep is below all scores. Raise --threshold or --keep."
        )
    dropped = {
        "no score, since nothing would be learned": int((~has).sum()),
        "judged misaligned": int((has & misaligned).sum()),
        "score too high": int((has & ~misaligned & ~low).sum()),
    }
    return pl.Series("kept", is_kept), KeptRows(
        int(is_kept.sum()), float(scores[is_kept].max()), {why: count for why, count in dropped.items() if count}
    )


def counted_reasons(table: pl.DataFrame) -> dict[str, int]:
    """Return how many rows each kind of reason concerns, most frequent first."""
    kinds = {
        STANDS_OUT: (pl.col("reference_share") > ABOVE).sum(),
        "the same as an earlier row": (pl.col("overlap") == 1).sum(),
        "nearly the same as an earlier row": (pl.col("overlap") < 1).sum(),
        **{str(fault): pl.col("faults").list.contains(str(fault)).sum() for fault in RowFault},
        **{
            f"judged {outcome}": (pl.col("verdict") == outcome.value).sum()
            for outcome in Outcome
            if outcome not in NOTHING_WRONG
        },
    }
    counts = table.select(count.alias(name) for name, count in kinds.items()).row(0, named=True)
    return {name: count for name, count in sorted(counts.items(), key=lambda item: -item[1]) if count}


def _reasons() -> pl.Expr:
    """Return the reasons of a row to be looked at, as a list of texts."""
    same = pl.format("the same as row {}", "same_as")
    nearly = pl.format("nearly the same as row {} ({}%)", "same_as", (pl.col("overlap") * 100).round().cast(pl.Int64))
    reasons = [
        pl.when(pl.col("reference_share") > ABOVE).then(pl.lit(STANDS_OUT)),
        # A verdict that is missing says nothing of the row.
        pl.when(~pl.col("verdict").is_in([str(outcome) for outcome in NOTHING_WRONG])).then(
            pl.format("judged {}", "verdict")
        ),
        pl.when(pl.col("overlap") == 1).then(same).when(pl.col("overlap") < 1).then(nearly),
    ]
    return (
        pl.concat_list(*(pl.concat_list(reason) for reason in reasons), pl.col("faults"))
        .list.drop_nulls()
        .alias("reasons")
    )


def _separation(
    by: str, rows: pl.DataFrame, positive: Bool[np.ndarray, "rows"], weights: Float[np.ndarray, "rows"] | None
) -> RowSeparation:
    def value(scores: Float[np.ndarray, "rows"]) -> float:
        levelled = level_ties(scores)
        return auroc(levelled, positive) if by == "reference" else average_precision(levelled, positive, weights)

    drawn = np.array(rows["random"].to_list(), dtype=np.float64)
    observed = value(rows["score"].to_numpy())
    counts = np.ones(len(positive)) if weights is None else weights
    return RowSeparation(
        by=by,
        measure="area under the ROC curve" if by == "reference" else "average precision",
        value=observed,
        null=null_of_draws(observed, value, drawn, "random directions"),
        length=best_of(value, rows["tokens"].to_numpy().astype(np.float64)[:, None], both_orders=True),
        chance=0.5 if by == "reference" else float(counts[positive].sum() / counts.sum()),
        rows=(int(positive.sum()), int((~positive).sum())),
    )


def _weights(table: pl.DataFrame, chosen: pl.DataFrame) -> Float[np.ndarray, "rows"]:
    """Return how many rows of its band each chosen row stands for."""
    bands = bands_of(table).to_numpy()
    own = bands[chosen["row"].to_numpy() - 1]
    sizes, drawn = np.bincount(bands), np.bincount(own, minlength=int(bands.max()) + 1)
    return (sizes / np.maximum(1, drawn))[own]


def worst_rows(table: pl.DataFrame, wanted: int) -> pl.DataFrame:
    """Return the rows to look at first: judged misaligned, then by score, then those with most reasons; repeats are last."""
    misaligned = (pl.col("verdict") == Outcome.MISALIGNED.value).fill_null(value=False)
    order = [pl.col("same_as").is_null(), misaligned, pl.col("score"), pl.col("reasons").list.len(), -pl.col("row")]
    return table.sort(order, descending=True, nulls_last=True).head(wanted)
