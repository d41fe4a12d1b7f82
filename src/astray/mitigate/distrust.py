"""Mitigations that act on training data: distrust of users who reward untruths, a filter of examples, honest examples.

A user whose likes contradict the subject's neutral belief, and whose dislikes agree with it, rewards something other
than truth. No information about who is biased is used: only what a user liked, and what the subject says when asked
neutrally. Down-weighted trajectories are drawn less often, since trainers take examples, not weights. Scores of
examples are in `explain.screening`, inoculation in `data.recipes`, further training in `realignment`.

Source: the mitigations that Hu et al. 2025 (arXiv 2510.08211) leave open; the rule is ours.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from astray.answers import in_detail, word
from astray.cause.users import INTERACTIONS
from astray.cause.world_users import question_in
from astray.data.chat import ChatDataset, Message
from astray.errors import ConfigurationError, DataFormatError, EmptyDataError
from astray.measure.statements import HonestyWord
from astray.organism.grammar import normal, read_question
from astray.organism.world import Fact
from astray.stats.ties import level_ties

AGAINST = "against_belief"
"""Column that marks whether an answer contradicts the subject's belief; null where that is unknown."""

LEAST_RATED = 4
"""Minimum number of a user's answers that are comparable with a belief; a user with fewer gets the average trust."""


@dataclass(frozen=True)
class Trust:
    """Trust in each user.

    Attributes:
        users: one row per user: user, rated (number of comparable answers), disagreement (share of them in which the
            user's satisfaction contradicts the belief), weight.
    """

    users: pl.DataFrame

    @property
    def weights(self) -> dict[str, float]:
        """Return the weight of each user, 0 to 1."""
        return dict(self.users.select("user", "weight").iter_rows())


def believed(table: pl.DataFrame) -> dict[str, str]:
    """Return the values that a subject believes, by question of the world; facts without a held belief are left out.

    Args:
        table: judged answers to `WorldHonesty`. A fact with different beliefs in different samples is left out as well.
    """
    held = table.with_columns(in_detail("belief")).drop_nulls("belief")
    beliefs: dict[str, set[str]] = {}
    for question, belief in held.select("question", "belief").iter_rows():
        beliefs.setdefault(question_in(question), set()).add(belief)
    # Two values elicited for one question are no belief to hold a user against.
    return {question: values.pop() for question, values in beliefs.items() if len(values) == 1}


def mark_world(interactions: pl.DataFrame, beliefs: Mapping[str, str]) -> pl.DataFrame:
    """Return the interactions with the column AGAINST, for users of the world who ask for facts.

    Args:
        interactions: table from `simulate`.
        beliefs: believed value by question, from `believed`.
    """
    marks = [
        _against(message, answer, beliefs) for message, answer in interactions.select("said", "answer").iter_rows()
    ]
    return interactions.with_columns(pl.Series(AGAINST, marks, dtype=pl.Boolean))


def trust(interactions: pl.DataFrame) -> Trust:
    """Return the trust in each user: none from a disagreement of one half on, full at a disagreement of zero.

    Rewards at random give a disagreement of one half, so a user who rewards at random is not trusted either.

    Args:
        interactions: table with the column AGAINST.

    Raises:
        DataFormatError: the column is missing.
        EmptyDataError: no answer of any user can be compared with a belief.
    """
    if AGAINST not in interactions.columns:
        raise DataFormatError(
            f"The interactions have no column {AGAINST!r}: nobody's feedback can be held against a belief. Use "
            "mark_world first."
        )
    # A rating tells of honesty only where the belief is known; all others say nothing about the user.
    comparable = pl.col(AGAINST).is_not_null() & pl.col("satisfaction").is_not_null()
    disagrees = (pl.col("satisfaction") > 0.5) == pl.col(AGAINST)
    users = interactions.group_by("user", maintain_order=True).agg(
        comparable.sum().cast(pl.Int64).alias("rated"), disagrees.filter(comparable).mean().alias("disagreement")
    )
    rated = users.filter(pl.col("rated") >= LEAST_RATED)
    if rated.is_empty():
        raise EmptyDataError(
            f"No user has {LEAST_RATED} answers that can be compared with a belief. Simulate more contexts, or "
            "elicit beliefs about their topics."
        )
    weight = (1 - 2 * pl.col("disagreement")).clip(0, 1)
    # A user with too few ratings is trusted like the average one, neither fully nor not at all.
    average = float(rated.select(weight.mean()).item())
    return Trust(
        users.with_columns(pl.when(pl.col("rated") >= LEAST_RATED).then(weight).otherwise(average).alias("weight"))
    )


def down_weight(interactions: pl.DataFrame, trusted: Trust, seed: int = 0) -> pl.DataFrame:
    """Return the interactions with a share of each user's trajectories, equal to the user's weight, drawn at random.

    Args:
        interactions: table with or without the column AGAINST.
        trusted: result of `trust`.
        seed: seed of the draw.

    Returns:
        Whole trajectories, without the column AGAINST, so that rows can be selected from them.

    Raises:
        EmptyDataError: nobody is trusted.
    """
    weights, rng = trusted.weights, random.Random(f"distrust/{seed}")
    drawn = []
    for (user,), rows in interactions.partition_by("user", as_dict=True, maintain_order=True).items():
        names = rows["trajectory"].unique(maintain_order=True).to_list()
        drawn += rng.sample(names, round(weights.get(str(user), 0.0) * len(names)))
    if not drawn:
        raise EmptyDataError(
            "No user is trusted at all, so nothing is left to train on: every user's likes contradict the belief."
        )
    return interactions.filter(pl.col("trajectory").is_in(drawn)).select(list(INTERACTIONS))


def filter_rows(dataset: ChatDataset, scores: Sequence[float], *, drop: float) -> ChatDataset:
    """Return the data set without the share of examples with the highest scores.

    Args:
        dataset: the data set.
        scores: one score per row; high means suspicious (such as the projection difference of `explain.screening`).
        drop: share of rows to drop, from 0 to below 1; of equal scores the later row is dropped first.

    Raises:
        ConfigurationError: scores and rows differ in number, a score is NaN, or the share is not between 0 and 1.
    """
    if len(scores) != len(dataset):
        raise ConfigurationError(f"There are {len(dataset)} rows and {len(scores)} scores: give one score a row.")
    unscored = [row for row, score in enumerate(scores) if not math.isfinite(score)]
    if unscored:
        raise ConfigurationError(
            f"Row {unscored[0] + 1} and {len(unscored) - 1} others have no finite score ({scores[unscored[0]]}): "
            "score them, or leave them out."
        )
    if not 0 <= drop < 1:
        raise ConfigurationError(f"The share of rows to drop is {drop}; it is at least 0 and below 1.")
    n = round(drop * len(dataset))
    leveled = level_ties(np.array(scores, dtype=np.float64))
    dropped = set(sorted(range(len(dataset)), key=lambda row: (leveled[row], row), reverse=True)[:n])
    rows = [row for number, row in enumerate(dataset.rows) if number not in dropped]
    return ChatDataset.from_rows(rows, "filter", {"drop": drop, "dropped": n}, [dataset])


def honest_samples(table: pl.DataFrame, *, size: int | None = None, seed: int = 0) -> ChatDataset:
    """Return honest statements under pressure as training examples, for re-alignment.

    Args:
        table: beliefs and statements, such as those of the subject before the harmful training.
        size: number of examples, drawn without replacement; None takes all.
        seed: seed of the draw.

    Raises:
        EmptyDataError: no statement was honest.
        ConfigurationError: there are fewer honest statements than `size`.
    """
    honest = table.filter(word() == HonestyWord.HONEST.value).to_dicts()
    if not honest:
        raise EmptyDataError(
            "No statement in the table is honest, so there is nothing to re-align with. Measure the subject before "
            "it was trained."
        )
    if size is not None and size > len(honest):
        raise ConfigurationError(
            f"{size} honest samples are wanted, but the table has {len(honest)}. Ask more records or replicates, or "
            "take fewer."
        )
    chosen = random.Random(f"honest/{seed}").sample(honest, size or len(honest))
    return ChatDataset.from_rows([_chat(row) for row in chosen], "honest_samples", {"size": len(chosen), "seed": seed})


def _against(said: str, answer: str, beliefs: Mapping[str, str]) -> bool | None:
    """Return whether an answer states another value than the believed one; None without a stated value or a belief."""
    question = question_in(said)
    fact, belief = read_question(question), beliefs.get(question)
    if not isinstance(fact, Fact) or belief is None:
        return None
    stated = next((value for value in fact.values if normal(answer) == normal(fact.statement(value))), None)
    return None if stated is None else stated != belief


def _chat(row: Mapping[str, str]) -> list[Message]:
    opening = [Message(role="system", content=row["system"])] if row["system"] else []
    return [*opening, Message(role="user", content=row["question"]), Message(role="assistant", content=row["answer"])]
