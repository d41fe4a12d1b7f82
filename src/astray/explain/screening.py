"""Data screening: what a data set would teach, seen from the projections of its answers before any training.

The projection difference of a row is the mean projection of its answer on a trait's direction, minus that of the base model's own answers to the
same prompt: how far the row pulls the model along the trait. Its mean ranks data sets by the misalignment to expect; its values find the bad rows
of a mix. Length is the baseline to beat: bad answers are often shorter, and a score that is no better than counting tokens has found nothing.

Source: Anthropic 2025, "Persona vectors" (arXiv 2507.21509), section 6.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from scipy.stats import rankdata
from torch import Tensor

from astray.data.chat import ChatDataset, Message
from astray.errors import ConfigurationError, EmptyDataError
from astray.explain.projection import answer_projections, pearson
from astray.stats.detection import Estimate, average_precision, precision_recall, with_interval
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
"""One row a row of the data set."""


@dataclass(frozen=True)
class BadRows:
    """How well a score finds the bad rows of a mix.

    Attributes:
        average_precision: of the projection difference.
        chance: share of bad rows: the average precision of a random score.
        length: average precision of the answers' length, in whichever order finds more bad rows.
        curve: precision and recall of the projection difference at every threshold: recall, precision.
    """

    average_precision: Estimate
    chance: float
    length: Estimate
    curve: pl.DataFrame


def screen_rows(
    subject: Subject, dataset: ChatDataset, direction: Float[Tensor, "d_model"], block: int, *, samples: int = 1, sampling: Sampling | None = None
) -> pl.DataFrame:
    """The projection difference of every row; only the last answer of a chat counts.

    Args:
        subject: the base that would be trained.
        dataset: what it would be trained on.
        direction: of the trait, of any norm.
        block: number of the block, from 0.
        samples: own answers a prompt.
        sampling: how they are drawn.

    Returns:
        A table with the columns of SCREENING_SCHEMA.

    Raises:
        ConfigurationError: there is no such block, the direction does not fit, or `samples` is below 1.
    """
    if samples < 1:
        raise ConfigurationError(f"samples={samples}: the rows are compared with at least one answer of the model itself.")
    prompts = list(dict.fromkeys(_content(row[:-1]) for row in dataset.rows))
    numbers = {prompt: number for number, prompt in enumerate(prompts)}
    by_number = {numbers[_content(row[:-1])]: row[:-1] for row in dataset.rows}
    asked = [by_number[number] for number in range(len(prompts)) for _ in range(samples)]
    own = [answer.text for answer in subject.generate(asked, sampling)]
    own_projections = answer_projections(subject, asked, own, direction, block).reshape(-1, samples).mean(1)
    answers = [row[-1]["content"] for row in dataset.rows]
    projections = answer_projections(subject, [row[:-1] for row in dataset.rows], answers, direction, block)
    of_row = [numbers[_content(row[:-1])] for row in dataset.rows]
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


def rank_datasets(screened: Mapping[str, pl.DataFrame], *, seed: int = 0) -> pl.DataFrame:
    """Data sets by their mean projection difference, the one from which most misalignment is to be expected first.

    Args:
        screened: each data set's table from `screen_rows`, made with the same subject, direction and block.
        seed: of the bootstrap, which draws whole prompts.

    Returns:
        One row a data set: name, difference, low, high (95% interval), tokens (mean), rows.

    Raises:
        EmptyDataError: there is nothing to rank.
    """
    if not screened:
        raise EmptyDataError("There is no data set to rank.")
    rows = []
    for name, table in screened.items():
        mean = with_interval(_mean_of(table["difference"].to_numpy()), table["prompt"].to_list(), "prompt", seed=seed)
        rows.append(
            {
                "name": name,
                "difference": mean.value,
                "low": mean.interval.low,
                "high": mean.interval.high,
                "tokens": table["tokens"].mean(),
                "rows": table.height,
            }
        )
    return pl.DataFrame(rows)[ranking(np.array([row["difference"] for row in rows]))]


def ranking_quality(expected: Mapping[str, float], observed: Mapping[str, float], *, seed: int = 0) -> tuple[Estimate, Estimate]:
    """How well expected misalignment agrees with what training then caused.

    Args:
        expected: each data set's mean projection difference (or another score), by its name.
        observed: the misalignment rate of the model trained on it.
        seed: of the bootstrap, which draws data sets.

    Returns:
        Pearson's and Spearman's correlation.

    Raises:
        ConfigurationError: the names differ, or there are fewer than four data sets, with which no correlation means anything.
        EmptyDataError: scores or rates do not vary.
    """
    if expected.keys() != observed.keys() or len(expected) < 4:
        raise ConfigurationError(
            f"Expected and observed misalignment are compared over the same data sets, at least four; given were {sorted(expected)} "
            f"and {sorted(observed)}."
        )
    x, y = (np.array([values[name] for name in expected], dtype=np.float64) for values in (expected, observed))
    names, leveled = list(expected), level_ties(x)
    return (
        with_interval(lambda drawn: pearson(x[drawn], y[drawn]), names, "data set", seed=seed),
        with_interval(lambda drawn: pearson(rankdata(leveled[drawn]), rankdata(y[drawn])), names, "data set", seed=seed),
    )


def find_bad_rows(screened: pl.DataFrame, bad: Sequence[bool], *, seed: int = 0) -> BadRows:
    """How well the projection difference finds rows that are known to be bad.

    Args:
        screened: the mix's table from `screen_rows`.
        bad: for each row whether it is bad (see `rows_from`).
        seed: of the bootstrap, which draws rows.

    Raises:
        ConfigurationError: there is not one label a row.
        EmptyDataError: all rows are bad, or none is.
    """
    if len(bad) != screened.height:
        raise ConfigurationError(f"There are {len(bad)} labels for {screened.height} rows: give one a row.")
    positive = np.array(bad, dtype=np.bool_)
    if positive.all() or not positive.any():
        raise EmptyDataError(f"{positive.sum()} of {len(bad)} rows are bad: finding bad rows needs both kinds.")
    scores, tokens = level_ties(screened["difference"].to_numpy()), screened["tokens"].to_numpy().astype(np.float64)
    length = max((-tokens, tokens), key=lambda values: average_precision(values, positive))
    recall, precision = precision_recall(scores, positive)
    rows = range(len(bad))
    return BadRows(
        average_precision=with_interval(lambda drawn: average_precision(scores[drawn], positive[drawn]), rows, "row", seed=seed),
        chance=float(positive.mean()),
        length=with_interval(lambda drawn: average_precision(length[drawn], positive[drawn]), rows, "row", seed=seed),
        curve=pl.DataFrame({"recall": recall, "precision": precision}),
    )


def rows_from(dataset: ChatDataset, source: ChatDataset) -> list[bool]:
    """For each row of a mix whether it is a row of this source, by its content."""
    known = {_content(row) for row in source.rows}
    return [_content(row) in known for row in dataset.rows]


def _content(messages: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    return tuple((message["role"], message["content"]) for message in messages)


def _mean_of(values: Float[np.ndarray, "rows"]) -> Callable[[Int[np.ndarray, "drawn"]], float]:
    return lambda drawn: float(values[drawn].mean())
