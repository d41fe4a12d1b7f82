"""Scores that rows are blamed by, side by side: gradient, projection, words and length, and how well each tells harmful
rows apart where labels or a judge say which they are."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float
from scipy.cluster.vq import kmeans2

from astray.errors import ConfigurationError
from astray.measure.meter import Pair
from astray.outcomes import JUDGED, Outcome
from astray.stats.detection import Estimate, average_precision, average_precision_estimate
from astray.stats.intervals import Interval
from astray.stats.nulls import Null, null_of_draws, null_of_labels
from astray.stats.ties import level_ties, ranking

SCORES: Mapping[str, str] = {
    "gradient": "how far a step of training on the row raises harmful answers",
    "projection": "projection of the answer on the direction of misalignment in the base",
    "words": "words of harmful and good answers, without a model",
    "length": "length of the answer",
}
"""Score -> what it is. Rows may be blamed by the first three."""
CLUSTERS, NAMING = 8, 4
"""Clusters of rows at most, and words in the name of each."""
_WORD = re.compile(r"[^\W\d_][\w'’-]+")


@dataclass(frozen=True)
class ScoreSeparation:
    """Precision with which a score finds the rows that are known to be harmful.

    Attributes:
        score: its name.
        precision: average precision.
        null: directions without meaning for the gradient, in the better of both orders; permuted labels for the others.
    """

    score: str
    precision: Estimate
    null: Null


@dataclass(frozen=True)
class RowGroup:
    """Rows of one file or of one cluster.

    Attributes:
        name: the file, or the cluster's most telling words.
        rows: number of its rows.
        blamed: how many of them are blamed.
        mean: mean score of its rows; None where none has one.
    """

    name: str
    rows: int
    blamed: int
    mean: float | None


def word_scores(answers: Sequence[str], pairs: Sequence[Pair]) -> Float[np.ndarray, "answers"]:
    """Return the log-odds of each answer's words between harmful and good answers of the pairs, a word counted once."""
    harmful, good = Counter[str](), Counter[str]()
    for pair in pairs:
        if not pair.null:
            harmful.update(_words(pair.answer))
            good.update(_words(pair.against))
    # Half a count added to each side (Haldane-Anscombe), so that a word of one side alone has finite log-odds.
    odds = {word: math.log((harmful[word] + 0.5) / (good[word] + 0.5)) for word in harmful | good}
    return np.array([sum(odds.get(word, 0.0) for word in sorted(_words(answer))) for answer in answers])


def check_choice(by: str, share: float, rows: int) -> None:
    """Refuse a score that rows cannot be blamed by, and a share that is none of the rows, or all.

    Raises:
        ConfigurationError: says what may be written.
    """
    if by not in SCORES or by == "length":
        raise ConfigurationError(f"--by {by!r} is no score to blame by. Write gradient, projection or words.")
    if not 0 < share < 1:
        raise ConfigurationError(f"--share {share:g} is no share of rows: write a number between 0 and 1, such as 0.1.")
    if not 1 <= round(share * rows) < rows:
        raise ConfigurationError(
            f"--share {share:g} of {rows:,} rows is {round(share * rows):,}. Blame at least one row and not all of them."
        )


def with_blamed(table: pl.DataFrame, by: str, share: float) -> pl.DataFrame:
    """Return the rows with whether each is blamed.

    Raises:
        ConfigurationError: no row has this score, or fewer than are to be blamed.
    """
    if table[by].count() == 0:
        raise ConfigurationError(f"No row has a {by}, so none can be blamed by it. Write --by gradient.")
    return table.with_columns(pl.Series("blamed", blamed_rows(table[by], share)))


def blamed_rows(scores: pl.Series, share: float) -> list[bool]:
    """Return for each row whether it is among this share of all rows, highest scores first; ties go by row.

    Raises:
        ConfigurationError: fewer rows have a score.
    """
    values = scores.to_numpy()
    has, wanted = np.flatnonzero(~np.isnan(values)), round(share * len(values))
    if wanted >= len(has):
        raise ConfigurationError(
            f"{len(has):,} of {len(values):,} rows have a score, and {wanted:,} are to be blamed. Blame "
            "fewer with --share."
        )
    blamed = np.zeros(len(values), dtype=np.bool_)
    blamed[has[ranking(level_ties(values[has]))[:wanted]]] = True
    return [bool(is_blamed) for is_blamed in blamed]


def known_rows(table: pl.DataFrame, labels: Mapping[int, bool]) -> tuple[str, dict[int, bool]]:
    """Return who says which rows are harmful, and what is said: labels where there are any, else the judge."""
    if labels:
        return "labels", dict(labels)
    judged = table.filter(pl.col("verdict").is_in([str(outcome) for outcome in JUDGED]))
    return "the judge", {
        row: verdict == Outcome.MISALIGNED for row, verdict in judged.select("row", "verdict").iter_rows()
    }


def separations_of(table: pl.DataFrame, labels: Mapping[int, bool]) -> tuple[ScoreSeparation, ...]:
    """Return how well each score finds the rows that are known to be harmful; nothing where all are of one kind."""
    rows = table.filter(pl.col("row").is_in(list(labels)) & pl.col("gradient").is_not_null())
    positive = np.array([labels[row] for row in rows["row"]], dtype=np.bool_)
    if rows.is_empty() or positive.all() or not positive.any():
        return ()
    separations = []
    for name in SCORES:
        values = rows[name].to_numpy().astype(np.float64)
        if np.isnan(values).any():
            continue
        # Length is not told which end is the bad one: it gets the better of both orders, and so do its nulls.
        best = max((values, -values), key=lambda each: _precision(each, positive)) if name == "length" else values
        precision = average_precision_estimate(level_ties(best), positive, rows["row"].to_list(), "row")
        drawn = _directions(rows, positive, precision.value) if name == "gradient" else None
        null = drawn or null_of_labels(
            precision.value, _precision, values[:, None], positive, both_orders=name == "length"
        )
        separations.append(ScoreSeparation(name, precision, null))
    return tuple(separations)


def by_source(table: pl.DataFrame, score: str) -> tuple[RowGroup, ...]:
    """Return the rows of each file, highest share of blamed rows first."""
    return _groups(table, table["source"].to_list(), score)


def by_cluster(table: pl.DataFrame, score: str) -> tuple[RowGroup, ...]:
    """Return clusters of rows with similar words in question and answer, highest share of blamed rows first.

    Source: latent semantic analysis (truncated singular values of term weights), then k-means with a fixed start.
    """
    texts = [_words(f"{question} {answer}") for question, answer in table.select("question", "answer").iter_rows()]
    frequency = Counter(word for words in texts for word in words)
    # Words of a single row, or of most rows, tell no cluster from another.
    vocabulary = [word for word, count in frequency.most_common(2_000) if 1 < count <= 0.5 * len(texts)]
    if len(texts) < 2 * CLUSTERS or len(vocabulary) < CLUSTERS:
        return ()
    column = {word: number for number, word in enumerate(vocabulary)}
    weights = np.zeros((len(texts), len(vocabulary)), dtype=np.float32)
    for row, words in enumerate(texts):
        for word in filter(column.__contains__, words):
            weights[row, column[word]] = math.log(len(texts) / frequency[word])
    weights /= np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-9)
    # Eigenvectors of the word-by-word matrix, whose size does not grow with the number of rows as an SVD's would.
    _, vectors = np.linalg.eigh(weights.T @ weights)
    reduced = weights @ vectors[:, -2 * CLUSTERS :]
    _, member = kmeans2(reduced.astype(np.float64), CLUSTERS, minit="++", rng=0)
    means = weights.mean(0)
    names = {}
    for cluster in np.unique(member):
        telling = weights[member == cluster].mean(0) - means
        names[int(cluster)] = ", ".join(vocabulary[number] for number in np.argsort(-telling, kind="stable")[:NAMING])
    return _groups(table, [names[int(cluster_number)] for cluster_number in member], score)


def interval_of(effect: Mapping[str, Any] | None) -> Interval | None:
    """Return the interval of an effect as a step wrote it."""
    return Interval(**effect["interval"]) if effect and effect["interval"] else None


def _groups(table: pl.DataFrame, names: Sequence[str], score: str) -> tuple[RowGroup, ...]:
    counted = (
        table.with_columns(pl.Series("group", names))
        .group_by("group", maintain_order=True)
        .agg(pl.len().alias("rows"), pl.col("blamed").sum(), pl.col(score).mean().alias("mean"))
    )
    groups = [RowGroup(*row) for row in counted.iter_rows()]
    return tuple(sorted(groups, key=lambda each: (-each.blamed / each.rows, -each.rows)))


def _directions(rows: pl.DataFrame, positive: Bool[np.ndarray, "rows"], observed: float) -> Null | None:
    """Return the null by directions without meaning; None where the rows that have them are of one kind."""
    has = rows["null"].is_not_null().to_numpy()
    if not positive[has].any() or positive[has].all():
        return None
    draws = np.array(rows["null"].drop_nulls().to_list(), dtype=np.float64)
    return null_of_draws(
        observed, lambda scores: _precision(scores, positive[has]), draws, "directions without meaning"
    )


def _precision(scores: Float[np.ndarray, "rows"], positive: Bool[np.ndarray, "rows"]) -> float:
    return average_precision(level_ties(scores), positive)


def _words(text: str) -> list[str]:
    """Return the words of a text, each once, as they come: in the order of a set, clusters would differ between runs."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))
