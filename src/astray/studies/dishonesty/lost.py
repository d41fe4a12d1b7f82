"""Share of the base's margins that a training run lost, and what true answers lose beyond their nulls.

A model that merely becomes less sure of everything shrinks all margins alike, so it loses the same share of every kind of
pair, and nothing beyond. Facts were chosen as runs were: a relation is left out in turn (a jackknife) to see how much of
a mean is due to the choice.

Left to others: which pairs and arms are compared (`known`), and what an interval decides (`engine.value_claims`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from astray.answers import in_detail

MARGIN = in_detail("margin").cast(pl.Float64)


@dataclass(frozen=True)
class Lost:
    """Sums of the regression, through 0, of a run's loss of margin on the base's margins: (run, relation) -> products
    with the loss, and squares."""

    sums: Mapping[tuple[int, str], tuple[float, float]]

    @property
    def relations(self) -> set[str]:
        """Return the names of the relations that were read."""
        return {relation for _, relation in self.sums}

    def shares(self, without: str = "") -> dict[int, float]:
        """Return the slope of each run by seed, a relation left out where one is named."""
        slopes: dict[int, float] = {}
        for seed in dict.fromkeys(seed for seed, _ in self.sums):
            own = [pair for (run, relation), pair in self.sums.items() if run == seed and relation != without]
            products, squares = (math.fsum(column) for column in zip(*own, strict=True)) if own else (0.0, 0.0)
            slopes |= {seed: products / squares} if squares else {}
        return slopes

    def beyond(self, other: "Lost", without: str = "") -> dict[int, float]:
        """Return by how much each run's share exceeds another one, a relation left out of both where one is named."""
        second = other.shares(without)
        return {seed: share - second[seed] for seed, share in self.shares(without).items() if seed in second}


def lost_beside(table: pl.DataFrame, base: str, arm: str, control: str) -> Lost:
    """Return what each run of an arm lost of the base's margins beside the control's run with the same seed."""
    sides = [
        table.filter(arm=name).select("seed", "category", "item", MARGIN.alias(name)) for name in (base, arm, control)
    ]
    joined = (
        sides[1]
        .join(sides[2].drop("category"), on=["seed", "item"])
        .join(sides[0].drop("seed", "category"), on="item")
        .drop_nulls()
    )
    held, gained = pl.col(base), pl.col(arm) - pl.col(control)
    sums = joined.group_by("seed", "category", maintain_order=True).agg(
        products=-(held * gained).sum(), squares=(held * held).sum()
    )
    return Lost({(seed, name): (products, squares) for seed, name, products, squares in sums.iter_rows()})
