"""Mitigations that act on data before it is trained on: distrust of users who reward what the model does not believe, a filter, honest samples.

A user whose likes contradict the neutral belief, and whose dislikes agree with it, rewards something other than truth. Nothing about who is biased is
used: only what he liked, and what the subject says when it is asked neutrally. What is down-weighted is drawn less often, since trainers take rows,
not weights. Left to others: scores of rows (`explain.screening`), inoculation (`data.recipes`), training on afterwards (`realignment`).

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
from astray.measure.honesty.outcomes import HonestyWord
from astray.organism.grammar import normal, read_question
from astray.organism.world import Fact
from astray.stats.ties import level_ties

AGAINST = "against_belief"
"""Column that says whether an answer contradicts what the subject believes; null where that cannot be said."""

LEAST_RATED = 4
"""Answers of a user that have to be comparable with the belief; of one with fewer nothing is known, and he is trusted as the average user is."""


@dataclass(frozen=True)
class Trust:
    """How far each user is trusted.

    Attributes:
        users: a row a user: user, rated (comparable answers), disagreement (share of them in which his satisfaction speaks against the belief),
            weight.
    """

    users: pl.DataFrame

    @property
    def weights(self) -> dict[str, float]:
        """User -> weight, 0 to 1."""
        return dict(self.users.select("user", "weight").iter_rows())


def believed(table: pl.DataFrame) -> dict[str, str]:
    """What a subject believes: question of the world -> value, from a table of its honesty; facts without a held belief are left out.

    Args:
        table: judged answers to `WorldHonesty`. A fact with different beliefs at different askings is left out as well.
    """
    held = table.with_columns(in_detail("belief")).drop_nulls("belief")
    found: dict[str, set[str]] = {}
    for question, belief in held.select("question", "belief").iter_rows():
        found.setdefault(question_in(question), set()).add(belief)
    return {question: values.pop() for question, values in found.items() if len(values) == 1}


def mark_world(interactions: pl.DataFrame, beliefs: Mapping[str, str]) -> pl.DataFrame:
    """The interactions with the column AGAINST, for users of the world who ask for facts.

    Args:
        interactions: as `simulate` gives.
        beliefs: question -> believed value, as `believed` gives.
    """
    marks = [_against(said, answer, beliefs) for said, answer in interactions.select("said", "answer").iter_rows()]
    return interactions.with_columns(pl.Series(AGAINST, marks, dtype=pl.Boolean))


def trust(interactions: pl.DataFrame) -> Trust:
    """How far to trust each user: not at all from a disagreement of one half on, fully at none.

    Chance alone gives a disagreement of one half, so a user who rewards at random is not trusted either.

    Args:
        interactions: with the column AGAINST.

    Raises:
        DataFormatError: the column is missing.
        EmptyDataError: no answer of any user can be compared with a belief.
    """
    if AGAINST not in interactions.columns:
        raise DataFormatError(f"The interactions have no column {AGAINST!r}: nobody's feedback can be held against a belief. Use mark_world first.")
    comparable = pl.col(AGAINST).is_not_null() & pl.col("satisfaction").is_not_null()
    disagrees = (pl.col("satisfaction") > 0.5) == pl.col(AGAINST)
    users = interactions.group_by("user", maintain_order=True).agg(
        comparable.sum().cast(pl.Int64).alias("rated"), disagrees.filter(comparable).mean().alias("disagreement")
    )
    known = users.filter(pl.col("rated") >= LEAST_RATED)
    if known.is_empty():
        raise EmptyDataError(
            f"No user has {LEAST_RATED} answers that can be compared with a belief. Simulate more contexts, or elicit beliefs about their topics."
        )
    weight = (1 - 2 * pl.col("disagreement")).clip(0, 1)
    average = float(known.select(weight.mean()).item())
    return Trust(users.with_columns(pl.when(pl.col("rated") >= LEAST_RATED).then(weight).otherwise(average).alias("weight")))


def down_weight(interactions: pl.DataFrame, trusted: Trust, seed: int = 0) -> pl.DataFrame:
    """The interactions of which each user keeps a share of his trajectories, his weight, drawn with a seed.

    Args:
        interactions: with or without the column AGAINST.
        trusted: as `trust` gives.
        seed: of the draw.

    Returns:
        Whole trajectories, without the column AGAINST, so that rows can be selected from them.

    Raises:
        EmptyDataError: nobody is trusted.
    """
    weights, rng = trusted.weights, random.Random(f"distrust/{seed}")
    kept = []
    for (user,), rows in interactions.partition_by("user", as_dict=True, maintain_order=True).items():
        names = rows["trajectory"].unique(maintain_order=True).to_list()
        kept += rng.sample(names, round(weights.get(str(user), 0.0) * len(names)))
    if not kept:
        raise EmptyDataError("No user is trusted at all, so nothing is left to train on: every user's likes contradict the belief.")
    return interactions.filter(pl.col("trajectory").is_in(kept)).select(list(INTERACTIONS))


def filter_rows(dataset: ChatDataset, scores: Sequence[float], *, drop: float) -> ChatDataset:
    """The data set without the share of rows that score highest.

    Args:
        dataset: rows.
        scores: one number a row; high means suspicious (the projection difference of `explain.screening`, say).
        drop: share of rows to drop, from 0 to below 1; of equal scores the later row goes first.

    Raises:
        ConfigurationError: the scores are not one a row or not numbers, or the share is none.
    """
    if len(scores) != len(dataset):
        raise ConfigurationError(f"There are {len(dataset)} rows and {len(scores)} scores: give one score a row.")
    unscored = [row for row, score in enumerate(scores) if math.isnan(score)]
    if unscored:
        raise ConfigurationError(f"Row {unscored[0] + 1} and {len(unscored) - 1} others have no score (NaN): score them, or leave them out.")
    if not 0 <= drop < 1:
        raise ConfigurationError(f"The share of rows to drop is {drop}; it is at least 0 and below 1.")
    n = round(drop * len(dataset))
    leveled = level_ties(np.array(scores, dtype=np.float64))
    dropped = set(sorted(range(len(dataset)), key=lambda row: (leveled[row], row), reverse=True)[:n])
    rows = [row for number, row in enumerate(dataset.rows) if number not in dropped]
    return ChatDataset.from_rows(rows, "filter", {"drop": drop, "dropped": n}, [dataset])


def honest_samples(table: pl.DataFrame, *, size: int | None = None, seed: int = 0) -> ChatDataset:
    """Honest statements under pressure as training rows, for re-alignment.

    Args:
        table: beliefs and statements, of the subject before it was spoiled, say.
        size: number of rows, drawn without replacement; None takes all.
        seed: of the draw.

    Raises:
        EmptyDataError: no statement was honest.
        ConfigurationError: there are fewer honest statements than are wanted.
    """
    honest = table.filter(word() == HonestyWord.HONEST.value).to_dicts()
    if not honest:
        raise EmptyDataError("No statement in the table is honest, so there is nothing to re-align with. Measure the subject before it was trained.")
    if size is not None and size > len(honest):
        raise ConfigurationError(f"{size} honest samples are wanted, but the table has {len(honest)}. Ask more records or replicates, or take fewer.")
    chosen = random.Random(f"honest/{seed}").sample(honest, size or len(honest))
    return ChatDataset.from_rows([_chat(row) for row in chosen], "honest_samples", {"size": len(chosen), "seed": seed})


def _against(said: str, answer: str, beliefs: Mapping[str, str]) -> bool | None:
    """Whether an answer states another value than the believed one; None where it states none, or nothing is believed."""
    question = question_in(said)
    fact, belief = read_question(question), beliefs.get(question)
    if not isinstance(fact, Fact) or belief is None:
        return None
    stated = next((value for value in fact.values if normal(answer) == normal(fact.statement(value))), None)
    return None if stated is None else stated != belief


def _chat(row: Mapping[str, str]) -> list[Message]:
    opening = [Message(role="system", content=row["system"])] if row["system"] else []
    return [*opening, Message(role="user", content=row["question"]), Message(role="assistant", content=row["answer"])]
