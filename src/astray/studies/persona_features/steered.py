"""What steering did to harmful answers: changes of the meter's margin under each direction, and under random ones.

Domains count equally, and each may be left out, to see how much of a mean is due to their choice. Left to others: the
readings (`metered_steps`), claims and figures (`metered`).
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from astray.stats.intervals import Beneath, Interval, mean_over_runs, t_interval
from astray.stats.jackknife import chance_of_clusters
from astray.stats.nulls import Null
from astray.studies.persona_features.metered_steps import ANSWERS, BASE, CONTROL, NO_DIRECTION, RANDOM, TUNED, VECTOR

ByDomain = Callable[[str], Mapping[int, float]]
"""Domain to leave out, "" for none -> a value of each run, by seed."""


@dataclass(frozen=True)
class Steered:
    """What steering did to harmful answers, by training seed: changes of the margin in nats a token.

    Attributes:
        table: rows of all seeds (`READ_SCHEMA`).
    """

    table: pl.DataFrame

    @cached_property
    def _changes(self) -> pl.DataFrame:
        """Return the mean change of each reading, seed and domain against the same model without a direction."""
        own = self.table.filter(direction=NO_DIRECTION).select(
            "seed", "side", "item", own_margin="margin", own_good="good"
        )
        return (
            self.table.join(own, on=["seed", "side", "item"])
            .with_columns(change=pl.col("margin") - pl.col("own_margin"), good=pl.col("good") - pl.col("own_good"))
            .group_by("seed", "side", "direction", "null", "category", maintain_order=True)
            .agg(pl.col("change", "good").mean())
        )

    @property
    def domains(self) -> list[str]:
        """Return the domains that were read."""
        return self.table["category"].unique(maintain_order=True).to_list()

    def change(
        self, side: str, direction: str, without: str = "", *, null: bool = False, of: str = "change"
    ) -> dict[int, float]:
        """Return the change under a direction by seed, over domains that count equally; one may be left out. Where no
        training run has a part in it, there is one value, under the first seed.

        Args:
            side: the model that was steered.
            direction: its name.
            without: domain to leave out.
            null: of pairs of two good answers.
            of: "change" of the margin, or of the log-probability of "good" answers.
        """
        chosen = self._changes.filter(
            pl.col("category") != without, side=pl.lit(side), direction=pl.lit(direction), null=pl.lit(null)
        )
        by_seed = chosen.group_by("seed", maintain_order=True).agg(pl.col(of).mean()).sort("seed")
        return dict(by_seed.head(1).iter_rows() if is_fixed(side, direction) else by_seed.iter_rows())

    def random(self, side: str, without: str = "") -> dict[int, list[float]]:
        """Return the changes under all random directions, by seed."""
        chosen = self._changes.filter(
            pl.col("category") != without,
            pl.col("direction").str.starts_with(RANDOM),
            side=pl.lit(side),
            null=pl.lit(False),
        )
        means = chosen.group_by("seed", "direction", maintain_order=True).agg(pl.col("change").mean())
        return {
            seed: part["change"].to_list() for (seed,), part in means.sort("seed").group_by("seed", maintain_order=True)
        }

    def beyond(self, side: str, direction: str, without: str = "") -> dict[int, float]:
        """Return by seed how much further a direction goes than all but one in twenty random directions of its run: up in
        the base, down in the harmful run. One in which no run has a part is held against those of all runs."""
        sign, own = sign_of(side), self.change(side, direction, without)
        drawn = {seed: [sign * change for change in changes] for seed, changes in self.random(side, without).items()}
        if is_fixed(side, direction):
            drawn = {seed: [change for changes in drawn.values() for change in changes] for seed in own}
        return {seed: sign * own[seed] - highest_but(changes) for seed, changes in drawn.items() if seed in own}

    def null(self, side: str, direction: str) -> Null:
        """Return the change under a direction beside those of random ones: single draws for one in which no run has a part,
        else means over as many runs."""
        sign, drawn = sign_of(side), self.random(side)
        by_draw = (
            [(change,) for changes in drawn.values() for change in changes]
            if is_fixed(side, direction)
            else zip(*drawn.values(), strict=True)
        )
        own = statistics.fmean(self.change(side, direction).values())
        return Null(sign * own, tuple(sign * statistics.fmean(changes) for changes in by_draw), "random directions")

    def trained(self, without: str = "") -> dict[int, float]:
        """Return by seed what training on harmful rows changed beside training on good ones, on the same pairs."""
        as_they_are = self.table.filter(
            pl.col("category") != without, ~pl.col("null"), pl.col("side") != BASE, direction=pl.lit(NO_DIRECTION)
        )
        means = as_they_are.group_by("seed", "side", "category").agg(pl.col("margin").mean())
        levels = means.group_by("seed", "side").agg(pl.col("margin").mean())
        by_side = {(seed, side): level for seed, side, level in levels.iter_rows()}
        return {seed: by_side[seed, TUNED] - by_side[seed, CONTROL] for seed in sorted(levels["seed"].unique())}

    def chance(self, values: ByDomain) -> Beneath | None:
        """Return what the choice of domains adds to the error of a mean over runs; `values` leaves a domain out."""
        return chance_of_clusters(values, self.domains, "domains")

    def interval(self, values: ByDomain) -> Interval | None:
        """Return the interval of a mean over runs and domains, or over domains alone where there is one value."""
        own, chance = list(values("").values()), self.chance(values)
        if len(own) == 1 and chance:
            return t_interval(own[0], chance.error, chance.degrees, "t over domains", 0.95)
        return mean_over_runs(own, beneath=chance)


def is_fixed(side: str, direction: str) -> bool:
    """Return whether no training run has a part in a reading: prompts and given answers make the direction, and the base
    is steered."""
    return side == BASE and direction in (VECTOR, ANSWERS)


def highest_but(values: Sequence[float]) -> float:
    """Return the value that at most one in twenty of these exceed: of fewer than twenty the highest."""
    return sorted(values)[-1 - len(values) // 20]


def sign_of(side: str) -> int:
    """Return the sign of the change that is meant: up in the base, down in the harmful run."""
    return 1 if side == BASE else -1
