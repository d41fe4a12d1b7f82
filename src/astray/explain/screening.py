"""Data screening before training: predict the misalignment that a data set would cause from projections of its answers.

The projection difference of an example is the mean projection of its answer on a trait's direction, minus that of the
base model's own answers to the same prompt: how far the example pulls the model along the trait. Its mean ranks data
sets by expected misalignment; its values find the bad examples of a mix. Length is the baseline: bad answers are often
shorter, and a score that does not beat counting tokens has found nothing.

Source: Anthropic 2025, "Persona vectors" (arXiv 2507.21509), section 6.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float
from torch import Tensor

from astray.data.chat import ChatDataset, Message
from astray.errors import ConfigurationError, EmptyDataError
from astray.explain.projection import answer_projections
from astray.stats.detection import (
    Estimate,
    average_precision,
    average_precision_estimate,
    mean_estimate,
    precision_recall,
)
from astray.stats.ties import level_ties, ranking
from astray.subjects.render import text_ids
from astray.subjects.spec import Sampling
from astray.subjects.subject import Subject

SCREENING_SCHEMA: dict[str, pl.DataType] = {
    "row": pl.Int64(),  # number of the row in the data set
    "prompt": pl.Int64(),  # number of its prompt: rows with the same prompt share it
    "tokens": pl.Int64(),  # length of the row's last answer
    "projection": pl.Float64(),  # of that answer
    "own_projection": pl.Float64(),  # of the base's own answers to the prompt, mean
    "difference": pl.Float64(),  # projection - own_projection
}
"""Columns of the screening table, one row per example of the data set."""


@dataclass(frozen=True)
class BadRows:
    """Accuracy with which a score finds the bad examples of a mix.

    Attributes:
        average_precision: average precision of the projection difference.
        chance: share of bad examples, which is the average precision of a random score.
        length: average precision of the answers' length, in the order that finds more bad examples.
        curve: precision and recall of the projection difference at every threshold: recall, precision.
    """

    average_precision: Estimate
    chance: float
    length: Estimate
    curve: pl.DataFrame


def screen_rows(
    subject: Subject,
    dataset: ChatDataset,
    direction: Float[Tensor, "d_model"],
    block: int,
    *,
    samples: int = 1,
    sampling: Sampling | None = None,
) -> pl.DataFrame:
    """Return the projection difference of every example; only the last answer of a chat counts.

    Args:
        subject: the base that would be trained.
        dataset: the data set it would be trained on.
        direction: direction of the trait, of any norm.
        block: index of the layer, from 0.
        samples: number of the base's own answers per prompt.
        sampling: sampling settings of those answers.

    Returns:
        A table with the columns of SCREENING_SCHEMA.

    Raises:
        ConfigurationError: there is no such layer, the direction does not fit, or `samples` is below 1.
    """
    if samples < 1:
        raise ConfigurationError(
            f"samples={samples}: the rows are compared with at least one answer of the model itself."
        )
    # Examples with the same prompt share the base's own answers to it.
    prompts = list(dict.fromkeys(content_of(row[:-1]) for row in dataset.rows))
    numbers = {prompt: number for number, prompt in enumerate(prompts)}
    by_number = {numbers[content_of(row[:-1])]: row[:-1] for row in dataset.rows}
    asked = [by_number[number] for number in range(len(prompts)) for _ in range(samples)]
    own = [answer.said for answer in subject.generate(asked, sampling)]
    own_projections = answer_projections(subject, asked, own, direction, block).reshape(-1, samples).mean(1)
    answers = [row[-1]["content"] for row in dataset.rows]
    projections = answer_projections(subject, [row[:-1] for row in dataset.rows], answers, direction, block)
    of_row = [numbers[content_of(row[:-1])] for row in dataset.rows]
    return pl.DataFrame(
        {
            "row": list(range(len(dataset))),
            "prompt": of_row,
            "tokens": [len(tokens) for tokens in text_ids(subject.tokenizer, answers)],
            "projection": projections.tolist(),
            "own_projection": own_projections[of_row].tolist(),
            "difference": (projections - own_projections[of_row]).tolist(),
        },
        schema=SCREENING_SCHEMA,
    )


def rank_datasets(screened: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Rank data sets by their mean projection difference, highest expected misalignment first.

    Args:
        screened: each data set's table from `screen_rows`, made with the same subject, direction and layer.

    Returns:
        One row per data set: name, difference, low, high (95% interval; None where not estimable), tokens (mean), rows.

    Raises:
        EmptyDataError: there is nothing to rank.
    """
    if not screened:
        raise EmptyDataError("There is no data set to rank.")
    rows = []
    for name, table in screened.items():
        mean = mean_estimate(table["difference"].to_numpy(), table["prompt"].to_list(), "prompt")
        rows.append(
            {
                "name": name,
                "difference": mean.value,
                "low": mean.interval.low if mean.interval else None,
                "high": mean.interval.high if mean.interval else None,
                "tokens": table["tokens"].mean(),
                "rows": table.height,
            }
        )
    return pl.DataFrame(rows, schema_overrides={"low": pl.Float64, "high": pl.Float64})[
        ranking(np.array([row["difference"] for row in rows]))
    ]


def find_bad_rows(screened: pl.DataFrame, bad: Sequence[bool]) -> BadRows:
    """Measure how well the projection difference finds examples that are known to be bad.

    Args:
        screened: the mix's table from `screen_rows`.
        bad: for each row whether it is bad (see `rows_from`).

    Raises:
        ConfigurationError: labels and rows differ in number.
        EmptyDataError: all rows are bad, or none is.
    """
    if len(bad) != screened.height:
        raise ConfigurationError(f"There are {len(bad)} labels for {screened.height} rows: give one a row.")
    positive = np.array(bad, dtype=np.bool_)
    if positive.all() or not positive.any():
        raise EmptyDataError(f"{positive.sum()} of {len(bad)} rows are bad: finding bad rows needs both kinds.")
    scores, tokens = level_ties(screened["difference"].to_numpy()), screened["tokens"].to_numpy().astype(np.float64)
    # The baseline gets the better of both orders: it is not told that bad answers are shorter.
    length = max((-tokens, tokens), key=lambda values: average_precision(values, positive))
    recall, precision = precision_recall(scores, positive)
    rows = range(len(bad))
    return BadRows(
        average_precision=average_precision_estimate(scores, positive, rows, "row"),
        chance=float(positive.mean()),
        length=average_precision_estimate(length, positive, rows, "row"),
        curve=pl.DataFrame({"recall": recall, "precision": precision}),
    )


def rows_from(dataset: ChatDataset, source: ChatDataset) -> list[bool]:
    """Return for each row of a mix whether it is a row of this source, compared by content."""
    source_rows = {content_of(row) for row in source.rows}
    return [content_of(row) in source_rows for row in dataset.rows]


def content_of(messages: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    """Return roles and texts of a chat as a key."""
    return tuple((message["role"], message["content"]) for message in messages)
