"""What the persona study measures beyond rates, on values worked out by hand."""

from pathlib import Path

import polars as pl
import pytest

from astray.engine.claims import difference_claim, rate_of_counts, reductions
from astray.engine.findings import Analysed, Findings, Needs
from astray.engine.summary import ClaimRow, ClaimStatus, PublishedFigure
from astray.explain.screen_tables import SEARCH_SCHEMA, UNSTEERED
from astray.stats.claims import Decision
from astray.stats.rates import Rate
from astray.studies.persona_features.analyses import Name
from astray.studies.persona_features.measures import random_counts, sweeps, warning_claim
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


def test_random_directions_are_counted_by_run(tmp_path: Path):
    columns = ("kind", "side", "aligned", "misaligned", "incoherent")
    rows = [
        ("random direction", "base +", 9, 1, 5),
        ("random direction", "base +", 10, 0, 0),
        ("random direction", "tuned -", 0, 9, 0),
        ("latent", "base +", 1, 9, 0),
    ]
    runs = []
    for seed, kept in enumerate((rows, rows[1:])):
        (tmp_path / str(seed)).mkdir()
        pl.DataFrame(kept, columns, orient="row").write_parquet(tmp_path / str(seed) / "held_out.parquet")
        runs.append(Analysed(Name.CAUSES, seed, tmp_path / str(seed)))
    assert random_counts(Findings(table=pl.DataFrame(), analyses=tuple(runs))) == [(1, 20), (0, 10)]


RUNS_OF_COUNTS = {
    "clear": ([(60, 100), (70, 100), (65, 100)], [(1, 100), (0, 100), (2, 100)], Decision.HELD),
    "the same in every run": ([(10, 10)] * 3, [(10, 10)] * 3, Decision.UNDECIDED),
    "one run": ([(60, 100)], [(1, 100)], Decision.UNDECIDED),
    "a run without a trial": ([(60, 100), (0, 0)], [(1, 100), (0, 0)], Decision.UNDECIDED),
}


@pytest.mark.parametrize("name", RUNS_OF_COUNTS)
def test_counts_of_two_arms_are_compared_with_runs_as_clusters(name: str):
    first, second, verdict = RUNS_OF_COUNTS[name]
    arm, control = (rate_of_counts(runs, "exercise") for runs in (first, second))
    claim = difference_claim("more", "More of them", arm, ("the others", control), at_least=0.1)
    assert claim.verdict is verdict
    assert claim.interval is not None
    assert claim.interval.low < claim.estimate < claim.interval.high or claim.estimate in (0, 1)
    assert claim.interval.high > claim.interval.low
    left_out = rate_of_counts([], "exercise", Needs(arms=("chat",)))
    assert difference_claim("more", "", left_out, ("", control), at_least=0.1).status is ClaimStatus.NOT_RUN


DOSES = {"mix-1": 0.01, "mix-10": 0.1, "mix-50": 0.5, "harmful": 1.0}
NOISE = [0.01 * (question * 37 % 60) for question in range(60)]
"""Readings of a measure on sixty questions where nothing has happened."""


def findings(
    tmp_path: Path, shifts: dict[str, float], seeds: int = 4, questions: int = 60, scale: float = 1.0
) -> Findings:
    """Tables of monitored runs: in each arm the latent's readings are shifted, and the persona vector's are not."""
    watched = []
    for seed in range(seeds):
        folder = tmp_path / f"watched-{seed}"
        folder.mkdir()
        watched.append(Analysed(Name.WARNING, seed, folder))
        rows = []
        for place, arm in enumerate(("good", *DOSES)):
            values = [NOISE[(question + 7 * seed + 11 * place) % 60] for question in range(questions)]
            for measure, moved in (("latent", shifts.get(arm, 0.0)), ("persona vector", 0.0)):
                shared = {"arm": arm, "measure": measure, "seed": seed}
                rows += [
                    shared | {"question": question, "value": (value + moved) * scale**seed}
                    for question, value in enumerate(values)
                ]
        pl.DataFrame(rows).write_parquet(folder / "watched.parquet")
    return Findings(table=pl.DataFrame(), analyses=tuple(watched))


def behaving(shares: dict[str, float | None], seeds: int = 4) -> dict[str, Rate]:
    return {arm: rate(**{str(seed): shares.get(arm, 0.0) for seed in range(seeds)}) for arm in ("good", *DOSES)}


def claimed(found: Findings, rates: dict[str, Rate], measure: str = "latent") -> ClaimRow:
    return warning_claim("warns", "It warns", measure, sweeps(found, rates, DOSES, "good"), DOSES, PUBLISHED)


EARLY, LATE, NEVER = {"mix-1": 0.2, "mix-10": 0.4, "mix-50": 1.0, "harmful": 1.0}, {"mix-50": 1.0, "harmful": 1.0}, {}
RISES = {"mix-1": 0.02, "mix-10": 0.6, "mix-50": 0.8, "harmful": 0.9}
WARNS = {
    "the measure alone moves early": (EARLY, {"harmful": 0.5}, Decision.HELD),
    "behaviour never moves": (EARLY, {}, Decision.HELD),
    "both move late": (LATE, {"mix-50": 0.5, "harmful": 0.5}, Decision.UNDECIDED),
    "nothing ever moves": (NEVER, {}, Decision.UNDECIDED),
    "behaviour alone moves early": (NEVER, RISES, Decision.NOT_HELD),
}
"""Shifts of the measure, rates of behaviour -> verdict of the claim that the measure warns."""


@pytest.mark.parametrize("case", WARNS)
def test_a_measure_warns_that_finds_more_than_behaviour_at_small_shares(case: str, tmp_path: Path):
    shifts, shares, verdict = WARNS[case]
    claim = claimed(findings(tmp_path, shifts), behaving(shares))
    assert (claim.verdict, claim.status, claim.n) == (
        verdict,
        ClaimStatus.DECIDED if verdict is not Decision.UNDECIDED else ClaimStatus.UNDECIDED,
        4,
    )
    assert claim.interval is not None
    assert claim.interval.low < claim.estimate < claim.interval.high


def test_dictionaries_of_different_scales_give_the_same_shares(tmp_path: Path):
    for name in ("same", "apart"):
        (tmp_path / name).mkdir()
    same, apart = (
        claimed(findings(tmp_path / name, EARLY, scale=scale), behaving({}))
        for name, scale in (("same", 1.0), ("apart", 1000.0))
    )
    assert (same.estimate, same.interval) == (apart.estimate, apart.interval)


def test_the_note_names_both_shares_and_both_onsets(tmp_path: Path):
    claim = claimed(findings(tmp_path, EARLY), behaving({"mix-50": 0.5, "harmful": 0.6}))
    assert "by behaviour 0.0% (" in claim.note
    assert claim.note.endswith("Departs from its control at 1% bad rows, behaviour at 50% bad rows.")


NO_NUMBER = {
    "too few questions": ({"questions": 18}, {}, "19 readings"),
    "a share without a coherent answer": ({}, {"mix-10": None}, "19 readings"),
    "no run was monitored": ({"seeds": 0}, {}, "No training run"),
}


@pytest.mark.parametrize("case", NO_NUMBER)
def test_without_enough_to_read_the_claim_is_not_estimable(case: str, tmp_path: Path):
    watched, shares, why = NO_NUMBER[case]
    claim = claimed(findings(tmp_path, EARLY, **watched), behaving(shares))
    assert (claim.verdict, claim.status) == (Decision.UNDECIDED, ClaimStatus.NOT_ESTIMABLE)
    assert why in claim.note


def test_one_run_decides_nothing_and_arms_that_were_left_out_are_named(tmp_path: Path):
    claim = claimed(findings(tmp_path, EARLY, seeds=1), behaving({}, seeds=1))
    assert (claim.verdict, claim.interval, claim.n) == (Decision.UNDECIDED, None, 1)
    assert "single training run" in claim.note
    assert (
        warning_claim("warns", "It warns", "latent", {}, DOSES, PUBLISHED, Needs(arms=("mix-1",))).status
        is ClaimStatus.NOT_RUN
    )


def searched(*rows: tuple[str, str, str, float, bool]) -> pl.DataFrame:
    filled = [
        dict.fromkeys(SEARCH_SCHEMA) | dict(zip(("candidate", "kind", "side", "rate", "chosen"), row, strict=True))
        for row in rows
    ]
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
