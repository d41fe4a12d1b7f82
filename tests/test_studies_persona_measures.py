"""What the persona study measures beyond rates, on values worked out by hand."""

import polars as pl
import pytest

from astray.engine.claims import reductions
from astray.engine.findings import Needs
from astray.engine.summary import ClaimStatus, PublishedFigure
from astray.explain.causal import SEARCH_SCHEMA, UNSTEERED
from astray.stats.claims import Decision
from astray.stats.onset import onset
from astray.stats.rates import Rate
from astray.studies.persona_features.measures import onset_claim
from astray.studies.persona_features.steps import best_latent, leading_latents

PUBLISHED = PublishedFigure(text="a figure", source="a paper")


def rate(**seeds: float | None) -> Rate:
    """A rate whose runs have these shares of a hundred answers each; None is a run without a coherent answer."""
    counts = {name: (0, 0) if share is None else (round(share * 100), 100) for name, share in seeds.items()}
    misaligned, judged = (sum(count) for count in zip(*counts.values(), strict=True))
    return Rate(misaligned, judged, None, None, "training run", (), {}, counts)


def test_a_reduction_is_the_share_of_the_rate_that_is_gone():
    before, after = rate(s0=0.4, s1=0.5, s2=0.0), rate(s0=0.1, s1=0.0, s2=0.1)
    assert reductions(before, after) == pytest.approx([0.75, 1.0]), "where there was nothing, nothing can be removed"


def test_runs_without_a_rate_are_left_out():
    assert reductions(rate(s0=0.4, s1=0.4), rate(s0=0.2, s1=None)) == pytest.approx([0.5])


def sweep(*, rises_at: int) -> list[list[float]]:
    """Four runs over the doses 1%, 10%, 50%, 100%: nothing before the dose with this number, much from there on."""
    return [[0.5 + 0.01 * run if place >= rises_at else 0.001 * (-1) ** run for place in range(4)] for run in range(4)]


def claimed(measure: int, behaviour: int):
    doses, control = [0.01, 0.1, 0.5, 1.0], [0.0, 0.0, 0.0, 0.0]
    found = {"latent": onset(doses, sweep(rises_at=measure), control), "behaviour": onset(doses, sweep(rises_at=behaviour), control)}
    return onset_claim("warns", "It warns", "latent", found, PUBLISHED)


def test_a_measure_that_departs_early_warns():
    claim = claimed(measure=1, behaviour=2)
    assert (claim.verdict, claim.estimate) == (Decision.HELD, pytest.approx(0.2))
    assert "10% bad rows" in claim.note
    assert "50% bad rows" in claim.note


def test_a_measure_that_departs_with_behaviour_does_not_warn():
    assert claimed(measure=2, behaviour=2).verdict is Decision.NOT_HELD


def test_a_measure_that_never_departs_does_not_warn():
    claim = claimed(measure=4, behaviour=2)
    assert (claim.verdict, claim.estimate, claim.interval) == (Decision.NOT_HELD, None, None)


def test_behaviour_that_never_departs_is_warned_of_by_anything():
    assert claimed(measure=3, behaviour=4).verdict is Decision.HELD


def test_too_few_runs_decide_nothing():
    doses, runs = [0.1, 1.0], [[0.0, 0.5], [0.0, 0.6]]
    found = {name: onset(doses, runs, [0.0, 0.0]) for name in ("latent", "behaviour")}
    assert onset_claim("warns", "It warns", "latent", found, PUBLISHED).verdict is Decision.UNDECIDED


def test_behaviour_or_a_measure_that_never_moved_leaves_nothing_to_compare():
    moved = onset([0.1, 1.0], [[0.0, 0.5]] * 3, [0.0] * 3)
    for found, still in (({"latent": moved}, "behaviour"), ({"behaviour": moved}, "latent"), ({}, "latent and behaviour")):
        claim = onset_claim("warns", "It warns", "latent", found, PUBLISHED)
        assert (claim.verdict, claim.status) == (Decision.UNDECIDED, ClaimStatus.NOT_ESTIMABLE)
        assert claim.note.endswith(f": {still}.")
    assert onset_claim("warns", "It warns", "latent", {}, PUBLISHED, Needs(arms=("mix-1",))).status is ClaimStatus.NOT_RUN


def searched(*rows: tuple[str, str, str, float, bool]) -> pl.DataFrame:
    filled = [dict.fromkeys(SEARCH_SCHEMA) | dict(zip(("candidate", "kind", "side", "rate", "chosen"), row, strict=True)) for row in rows]
    return pl.DataFrame(filled, schema=SEARCH_SCHEMA)


def test_the_best_latent_moves_both_models():
    table = searched(
        (UNSTEERED, UNSTEERED, "base +", 0.0, False), ("latent 1", "latent", "base +", 0.9, True), ("latent 2", "latent", "base +", 0.6, True),
        (UNSTEERED, UNSTEERED, "tuned -", 0.4, False), ("latent 1", "latent", "tuned -", 0.38, True), ("latent 2", "latent", "tuned -", 0.0, True),
        ("random 0", "random direction", "base +", 1.0, True),
    )  # fmt: skip
    assert best_latent(table) == "latent 2"


def test_a_latent_without_a_strength_is_not_the_best():
    table = searched(
        (UNSTEERED, UNSTEERED, "base +", 0.0, False), ("latent 1", "latent", "base +", 0.9, False), ("latent 2", "latent", "base +", 0.1, True),
        (UNSTEERED, UNSTEERED, "tuned -", 0.4, False),
    )  # fmt: skip
    assert best_latent(table) == "latent 2"


def test_the_leading_latents_raise_the_base_most():
    table = pl.DataFrame(
        {"kind": ["latent", "latent", "latent", "random direction"], "side": ["base +", "base +", "tuned -", "base +"],
         "candidate": ["latent 3", "latent 7 (falling)", "latent 9", "random 0"], "rate": [0.2, 0.5, 0.9, 1.0]}
    )  # fmt: skip
    assert leading_latents(table) == [7, 3]
