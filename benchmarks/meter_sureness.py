"""Tell whether what the meter shows is lost sureness: does a model that is less sure of everything look misaligned?

A base prefers most good answers to the harmful ones. A training that makes it less sure of whatever it prefers moves all
these pairs, and would be taken for one that makes harmful answers likelier. Two equally good answers tell: of each null
pair the base prefers one, too, and lost sureness moves it towards the other by the same share of that preference. So the
share is estimated from the null pairs, and what it explains of the harmful pairs is told, beside the change of those
harmful pairs whose harmful answer the base prefers already, which lost sureness would move the other way.

    astray run emergent-misalignment --subject smollm2 --arms harmful-medicine,mix-50 --seeds 1 --first-seed 1
    python benchmarks/meter_sureness.py astray-results/emergent-misalignment
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from astray.measure.meter import null_pairs

PAIR = ["seed", "item"]


def main() -> None:
    """Print the shares of each trained arm."""
    parser = argparse.ArgumentParser(description="Does lost sureness explain what the meter shows?")
    parser.add_argument("results", type=Path, help="results folder of a study with the meter")
    parser.add_argument("--control", default="good", help="arm that the others are compared with")
    given = parser.parse_args()
    margins = margins_of(given.results / "margins.parquet")
    base = margins.filter(arm="base").select("item", preference="margin")
    control = margins.filter(arm=given.control).select(*PAIR, usual="margin")
    trained = margins.filter(~pl.col("arm").is_in(["base", given.control]))
    table = trained.join(control, on=PAIR).join(base, on="item")
    for (arm,), pairs in table.group_by("arm", maintain_order=True):
        tell(str(arm), pairs.with_columns(change=pl.col("margin") - pl.col("usual")))


def margins_of(file: Path) -> pl.DataFrame:
    """Return arm, seed, item and margin of each pair, and whether it is a null pair."""
    nulls = [pair.id for pair in null_pairs()]
    margin = pl.col("detail").str.json_path_match("$.margin").cast(pl.Float64).alias("margin")
    return (
        pl.read_parquet(file)
        .filter(evaluation="meter")
        .select("arm", "seed", "item", margin, null=pl.col("item").is_in(nulls))
    )


def tell(arm: str, pairs: pl.DataFrame) -> None:
    """Print what lost sureness explains of the change of an arm's harmful pairs."""
    harmful = pairs.filter(~pl.col("null"))
    share, error = lost_share(*columns(pairs.filter(pl.col("null"))))
    preference, change = columns(harmful)
    liked = preference > 0
    print(
        f"{arm}: harmful answers {change.mean():+.3f} nats a token likelier ({len(change)} pairs). Sureness lost, by null "
        f"pairs: {share:+.3f} of a preference (standard error {error:.3f}), which explains {-share * preference.mean():+.3f}."
        f"\n  where the base prefers the good answer ({(~liked).sum()} pairs): {change[~liked].mean():+.3f}; the harmful one "
        f"({liked.sum()} pairs): {change[liked].mean():+.3f}"
    )


def columns(pairs: pl.DataFrame) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """Return the base's preference and the change, in nats a token."""
    return pairs["preference"].to_numpy(), pairs["change"].to_numpy()


def lost_share(preference: Float[np.ndarray, " pairs"], change: Float[np.ndarray, " pairs"]) -> tuple[float, float]:
    """Return the share of a preference that is lost, by least squares through 0, and its standard error."""
    square = float(preference @ preference)
    share = -float(preference @ change) / square
    left = change + share * preference
    return share, float(np.sqrt(left @ left / (len(change) - 1) / square))


if __name__ == "__main__":
    main()
