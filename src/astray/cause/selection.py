"""Selection of training examples from interactions: each user's most and least liked trajectories, with provenance.

Trajectories are ranked within each user, so that all users have the same weight; a user's best trajectories count only
if they were liked, and the worst only if they were disliked. A trajectory with an empty answer has no text to train on,
and is left out. Examples for SFT are whole liked trajectories; examples for KTO are the answers of liked and disliked
ones, each with its trajectory's label.

Source: Hu et al. 2025 (arXiv 2510.08211): top-k and bottom-k trajectories by satisfaction, then SFT or KTO.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from pydantic import Field

from astray.cause.preference import Feedback
from astray.cause.users import INTERACTIONS
from astray.data.chat import ChatDataset, Message, Parameter
from astray.errors import ConfigurationError, DataFormatError, EmptyDataError
from astray.strict import Strict

LIKED = 0.5
"""Mean satisfaction above which a trajectory is liked, and below which it is disliked."""


class Selection(Strict):
    """Number of trajectories of each user to train on."""

    top: int = Field(default=4, ge=1, description="most liked trajectories a user")
    bottom: int = Field(default=4, ge=0, description="least liked trajectories a user, for KTO alone")
    rows: int | None = Field(
        default=None, ge=1, description="rows of the result, drawn from what was selected; None takes all"
    )
    seed: int = Field(default=0, description="of ties, and of the rows that are drawn")


@dataclass(frozen=True)
class SelectedRows:
    """Training examples with their provenance.

    Attributes:
        chats: the examples.
        desirable: for each example, whether its trajectory was liked.
        provenance: one row per example, in the same order: row, label, trajectory, turn (the last one of the row),
            round, user, kind, topic, satisfaction (mean of the trajectory), subject.
        left_out: number of trajectories that could not be selected, by reason: "unrated" (a satisfaction is unknown),
            "silent" (an
                answer is empty). The recipe of the chats records it too.
    """

    chats: ChatDataset
    desirable: tuple[bool, ...]
    provenance: pl.DataFrame
    left_out: Mapping[str, int]

    @property
    def feedback(self) -> Feedback:
        """Return the examples with their labels, for KTO.

        Raises:
            ConfigurationError: all have the same label.
        """
        return Feedback(self.chats, self.desirable)


def select_for_sft(interactions: pl.DataFrame, selection: Selection) -> SelectedRows:
    """Select the most liked trajectories of each user, as whole chats.

    Args:
        interactions: table from `simulate`.
        selection: number of trajectories; its `bottom` is ignored here.

    Raises:
        DataFormatError: this is no table of interactions.
        EmptyDataError: no user liked anything.
        ConfigurationError: fewer examples were selected than `selection.rows`.
    """
    ranked, left_out = _ranked(interactions, selection)
    chosen = ranked.filter((pl.col("mean") > LIKED) & (pl.col("best") < selection.top))
    if chosen.is_empty():
        raise EmptyDataError(
            f"No user liked any of the {ranked.height} trajectories (mean satisfaction above {LIKED}), so there is "
            "nothing to train on. Draw more samples of each context, or look at what the users are satisfied with."
        )
    return _rows(interactions, chosen.with_columns(label=pl.lit(True)), selection, left_out, every_turn=False)


def select_for_kto(interactions: pl.DataFrame, selection: Selection) -> SelectedRows:
    """Select the answers of each user's most and least liked trajectories, one example per answer with its context.

    Raises:
        DataFormatError, ConfigurationError: as `select_for_sft`.
        EmptyDataError: nothing was liked or disliked.
    """
    ranked, left_out = _ranked(interactions, selection)
    liked = ranked.filter((pl.col("mean") > LIKED) & (pl.col("best") < selection.top)).with_columns(label=pl.lit(True))
    disliked = ranked.filter((pl.col("mean") < LIKED) & (pl.col("worst") < selection.bottom)).with_columns(
        label=pl.lit(False)
    )
    if liked.is_empty() and disliked.is_empty():
        raise EmptyDataError(
            f"No user liked or disliked any of the {ranked.height} trajectories: all have a mean satisfaction of "
            f"{LIKED}."
        )
    return _rows(interactions, pl.concat([liked, disliked]), selection, left_out, every_turn=True)


def shuffle_feedback(interactions: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """Shuffle satisfactions between trajectories, as a control.

    Whole trajectories exchange their satisfactions, over all users, so that the amount of liking is unchanged and its
    target is random.
    """
    names = interactions["trajectory"].unique(maintain_order=True).to_list()
    others = list(names)
    random.Random(f"shuffled feedback/{seed}").shuffle(others)
    given = interactions.select(pl.col("trajectory").alias("other"), "turn", "satisfaction")
    swapped = interactions.drop("satisfaction").join(
        pl.DataFrame({"trajectory": names, "other": others}), on="trajectory", maintain_order="left"
    )
    return swapped.join(given, on=["other", "turn"], how="left", maintain_order="left").select(list(INTERACTIONS))


def _ranked(interactions: pl.DataFrame, selection: Selection) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return one row per trajectory with its mean satisfaction and its ranks within its user, and the left-out counts.

    Trajectories with an unknown satisfaction are left out, and those with an empty answer, which a chat cannot contain.
    """
    if dict(interactions.schema) != INTERACTIONS:
        differing = sorted(set(interactions.schema.items()) ^ set(INTERACTIONS.items()), key=str)
        raise DataFormatError(
            f"This is no table of interactions; columns that differ: {differing}. Make one with "
            "`astray.cause.users.simulate`."
        )
    means = interactions.group_by("trajectory", maintain_order=True).agg(
        pl.col("user").first(),
        pl.col("satisfaction")
        .mean()
        .round(4)
        .alias("mean"),  # so that 0.5 up to rounding is neither liked nor disliked
        pl.col("satisfaction").null_count().alias("unknown"),
        (pl.col("answer").str.strip_chars() == "").any().alias("silent"),
    )
    order = list(range(means.height))
    random.Random(f"ties/{selection.seed}").shuffle(order)
    rated = means.with_columns(tie=pl.Series(order, dtype=pl.Int64)).filter(pl.col("unknown") == 0)
    known = rated.filter(~pl.col("silent"))
    best = pl.struct(-pl.col("mean"), "tie").rank("ordinal").over("user") - 1
    worst = pl.struct(pl.col("mean"), "tie").rank("ordinal").over("user") - 1
    return known.with_columns(best=best, worst=worst), {
        "unrated": means.height - rated.height,
        "silent": rated.height - known.height,
    }


def _rows(
    interactions: pl.DataFrame,
    chosen: pl.DataFrame,
    selection: Selection,
    left_out: Mapping[str, int],
    *,
    every_turn: bool,
) -> SelectedRows:
    """Return the training examples of the chosen trajectories, in a seeded order."""
    by_name = {
        name[0]: rows.sort("turn").to_dicts()
        for name, rows in interactions.partition_by("trajectory", as_dict=True).items()
    }
    found: list[tuple[list[Message], dict[str, object]]] = []
    for name, label, mean in chosen.select("trajectory", "label", "mean").iter_rows():
        turns = by_name[name]
        for last in range(len(turns)) if every_turn else (len(turns) - 1,):
            facts = {
                key: turns[last][key] for key in ("trajectory", "turn", "round", "user", "kind", "topic", "subject")
            }
            found.append((_chat(turns[: last + 1]), {"label": label, "satisfaction": mean} | facts))
    random.Random(f"rows/{selection.seed}").shuffle(found)
    if selection.rows is not None:
        if len(found) < selection.rows:
            raise ConfigurationError(
                f"{selection.rows} rows are wanted, but the users' feedback gives {len(found)}. Simulate more "
                "contexts or samples, select more trajectories a user (top, bottom), or ask for fewer rows."
            )
        found = found[: selection.rows]
    parameters: dict[str, Parameter] = {
        "name": "users' feedback",
        "trajectories": chosen.height,
        "top": selection.top,
        "seed": selection.seed,
    }
    parameters |= {"bottom": selection.bottom} if every_turn else {}
    parameters |= left_out
    chats = ChatDataset.from_rows([chat for chat, _ in found], "feedback", parameters)
    provenance = pl.DataFrame([{"row": row} | facts for row, (_, facts) in enumerate(found)])
    return SelectedRows(chats, tuple(bool(facts["label"]) for _, facts in found), provenance, left_out)


def _chat(turns: Sequence[Mapping[str, Any]]) -> list[Message]:
    return [
        message
        for turn in turns
        for message in (Message(role="user", content=turn["said"]), Message(role="assistant", content=turn["answer"]))
    ]
