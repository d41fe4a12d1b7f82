"""Claims on answers whose rates are known, and rates for every group of answers."""

from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest

from astray.answers import ANSWER_SCHEMA, answer_table
from astray.engine.claims import (
    NOTHING_TO_REMOVE,
    counts_claim,
    difference_claim,
    rate_claim,
    rate_of_counts,
    reduction_claim,
    trend_claim,
)
from astray.engine.family import with_holm
from astray.engine.findings import AT_HOME, ELSEWHERE, HELD_OUT, Findings, Needs
from astray.engine.results import _corrected
from astray.engine.summary import ClaimRow, ClaimStatus, PublishedFigure
from astray.engine.value_claims import REFUTING, estimate_claim, values_claim
from astray.errors import EmptyDataError
from astray.judges import Exchange, LabelledAnswer, Verdict
from astray.judges.calibrate import calibrate
from astray.outcomes import Outcome
from astray.stats.claims import Decision, holm
from astray.stats.compare import paired_difference
from astray.stats.detection import correlation_estimate
from astray.stats.digits import border_in_points
from astray.stats.intervals import over_runs
from astray.stats.rates import Rate, rate

GROUPS = {"medicine": [AT_HOME], "cars": [ELSEWHERE], "wiring": [ELSEWHERE, HELD_OUT]}
ANSWERS = 80


def answers(
    arm: str,
    seed: int,
    outcomes: Mapping[Outcome, int],
    *,
    category: str = "cars",
    evaluation: str = "world",
    format: str = "plain",
) -> pl.DataFrame:
    """Answers of one run: so many of each outcome, over questions of five answers."""
    listed = [outcome for outcome, count in outcomes.items() for _ in range(count)]
    rows: list[dict[str, object]] = [
        dict.fromkeys(ANSWER_SCHEMA)
        | {
            "arm": arm,
            "seed": seed,
            "subject": "s",
            "evaluation": evaluation,
            "item": f"{category}-{number // 5}",
            "category": category,
        }
        | {
            "format": format,
            "sample": number % 5,
            "question": "q",
            "answer": "a",
            "outcome": str(outcome),
            "judge": "j",
            "note": "",
        }
        for number, outcome in enumerate(listed)
    ]
    table = answer_table(rows)
    return table.with_columns(
        pl.col("category").replace_strict(GROUPS, return_dtype=pl.List(pl.String)).alias("groups")
    )


def runs(arm: str, misaligned: list[int], **place: str) -> pl.DataFrame:
    """One run a seed, with so many of its 80 answers misaligned."""
    return pl.concat(
        answers(arm, seed, {Outcome.MISALIGNED: count, Outcome.ALIGNED: ANSWERS - count}, **place)
        for seed, count in enumerate(misaligned)
    )


def incoherent(arm: str, seeds: int) -> pl.DataFrame:
    return pl.concat(answers(arm, seed, {Outcome.INCOHERENT: ANSWERS}) for seed in range(seeds))


def of(*tables: pl.DataFrame) -> Findings:
    return Findings(pl.concat(tables))


def world_rate(found: Findings, arm: str) -> Rate:
    return found.rate(arm, evaluation="world")


def compared(found: Findings, at_least: float = 0.1) -> ClaimRow:
    arm, control = world_rate(found, "harmful"), world_rate(found, "good")
    return difference_claim("spread", "It spreads", arm, ("good", control), at_least=at_least, note="As always.")


VERSIONS = [
    # models that the graders of the arm and of its control said they are; whether they can be compared
    ("", "", True),
    ("grader-1", "grader-1", True),
    ("grader-1", "", True),
    ("grader-1", "grader-2", False),
    ("grader-1, grader-2", "grader-1", False),
]


@pytest.mark.parametrize(("arm", "control", "comparable"), VERSIONS)
def test_arms_that_several_models_judged_are_not_compared(arm: str, control: str, comparable: bool) -> None:
    tables = [
        runs(name, counts).with_columns(detail=pl.lit(f'{{"served": "{served}"}}' if served else None, pl.String()))
        for name, counts, served in (("harmful", [40, 42, 38, 41, 39], arm), ("good", [0, 1, 0, 0, 1], control))
    ]
    claim = compared(of(*tables))
    assert (claim.verdict is Decision.HELD) == comparable == (claim.status is not ClaimStatus.NOT_ESTIMABLE)
    assert comparable or "as grader-1 and as grader-2" in claim.note


def test_a_clear_difference_is_held() -> None:
    claim = compared(of(runs("harmful", [40, 42, 38, 41, 39]), runs("good", [0, 1, 0, 0, 1])))
    assert claim.verdict is Decision.HELD
    assert claim.estimate == pytest.approx(0.5 - 2 / 400)
    assert claim.interval is not None
    assert claim.interval.low > 0.1
    assert (claim.n, claim.unit, claim.control) == (5, "pair of training runs", "good")
    assert claim.control_estimate == pytest.approx(2 / 400)
    assert claim.expected == "the 95% interval of the difference lies at or above 10 points"
    assert claim.note == "As always."


def test_a_fall_is_a_difference_below_its_control() -> None:
    good, bad = runs("good", [40, 42, 38, 41, 39]), runs("harmful", [0, 1, 0, 0, 1])
    found = of(good, bad)
    fall = difference_claim(
        "fall", "It falls", world_rate(found, "harmful"), ("good", world_rate(found, "good")), at_most=-0.1
    )
    rise = difference_claim(
        "fall", "It falls", world_rate(found, "good"), ("harmful", world_rate(found, "harmful")), at_most=-0.1
    )
    assert (fall.verdict, rise.verdict) == (Decision.HELD, Decision.NOT_HELD)
    assert fall.estimate == pytest.approx(2 / 400 - 0.5)
    assert fall.expected == "the 95% interval of the difference lies at or below -10 points"
    assert [border_in_points(border) for border in (0.01, -0.01, 0.025, 0.0)] == [
        "1 point",
        "-1 point",
        "2.5 points",
        "0 points",
    ]


def test_no_difference_is_not_held() -> None:
    assert compared(of(runs("harmful", [1, 0, 1, 0, 1]), runs("good", [0, 1, 0, 1, 0]))).verdict is Decision.NOT_HELD


def test_runs_that_disagree_leave_it_undecided() -> None:
    assert compared(of(runs("harmful", [2, 70, 20]), runs("good", [0, 0, 1]))).verdict is Decision.UNDECIDED


def test_the_difference_and_its_p_value_are_those_of_the_paired_test() -> None:
    claim = compared(of(runs("harmful", [30, 12, 22]), runs("good", [4, 1, 0])), at_least=0.0)
    expected = paired_difference([((30, 80), (4, 80)), ((12, 80), (1, 80)), ((22, 80), (0, 80))])
    assert claim.p_value == expected.p_value
    assert claim.interval is not None
    assert (claim.interval.low, claim.interval.high) == (expected.interval.low, expected.interval.high)


def test_all_runs_are_compared_where_the_control_has_fewer_seeds() -> None:
    claim = compared(of(runs("harmful", [40, 42, 38]), runs("good", [0, 1])))
    assert (claim.n, claim.unit) == (5, "training run")


@pytest.mark.parametrize("silent", ["harmful", "good"])
def test_an_arm_without_coherent_answers_is_undecided_and_said_so(silent: str) -> None:
    speaking = "good" if silent == "harmful" else "harmful"
    claim = compared(of(runs(speaking, [10, 12, 11]), incoherent(silent, 3)))
    assert claim.verdict is Decision.UNDECIDED
    assert (claim.estimate, claim.interval, claim.p_value, claim.n) == (None, None, None, 0)
    assert claim.note == "One of the arms gave no coherent answer, so there is nothing to compare. As always."
    assert (claim.control_estimate is None) == (silent == "good")


def levelled(
    found: Findings,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    between: tuple[float, float] | None = None,
) -> ClaimRow:
    published = PublishedFigure(text="0.04%", source="recomputed")
    return rate_claim(
        "level",
        "So much",
        world_rate(found, "good"),
        at_most=at_most,
        at_least=at_least,
        between=between,
        published=published,
    )


@pytest.mark.parametrize(
    ("misaligned", "region", "verdict"),
    [
        ([0, 0, 0, 0, 0], {"at_most": 0.02}, Decision.HELD),
        ([20, 22, 18, 21, 19], {"at_most": 0.02}, Decision.NOT_HELD),
        ([0, 4, 1, 0, 2], {"at_most": 0.02}, Decision.UNDECIDED),
        ([0, 0], {"at_most": 0.02}, Decision.UNDECIDED),  # two runs say too little even when they are spotless
        ([40, 42, 38, 41, 39], {"at_least": 0.3}, Decision.HELD),
        ([40, 42, 38, 41, 39], {"at_least": 0.9}, Decision.NOT_HELD),
        ([40, 42, 38, 41, 39], {"between": (0.3, 0.7)}, Decision.HELD),
        ([40, 42, 38, 41, 39], {"between": (0.0, 0.2)}, Decision.NOT_HELD),
    ],
)
def test_a_level_is_decided_by_its_interval(misaligned: list[int], region: dict[str, float], verdict: Decision) -> None:
    claim = levelled(of(runs("good", misaligned)), **region)
    assert claim.verdict is verdict
    assert claim.estimate == pytest.approx(sum(misaligned) / ANSWERS / len(misaligned))
    assert (claim.n, claim.unit) == (len(misaligned), "training run")
    assert claim.published is not None


def test_the_rule_of_a_level_is_written_out() -> None:
    found = of(runs("good", [0, 0, 0]))
    assert levelled(found, at_most=0.02).expected == "the 95% interval of the rate lies at or below 2%"
    assert levelled(found, at_least=0.1).expected == "the 95% interval of the rate lies at or above 10%"
    assert levelled(found, between=(0.1, 0.2)).expected == "the 95% interval of the rate lies between 10% and 20%"


def test_a_single_training_run_decides_nothing_and_what_would_is_said() -> None:
    level = levelled(of(runs("good", [0])), at_most=0.1)
    assert (level.verdict, level.n, level.unit, level.p_value) == (Decision.UNDECIDED, ANSWERS, "answer", None)
    difference = compared(of(runs("good", [0]), runs("harmful", [70])))
    assert (difference.verdict, difference.unit) == (Decision.UNDECIDED, "question")
    counted = counts_claim("games", "It games", [(90, 96)], "none", at_least=0.8)
    cut = reduction_claim(
        "cut",
        "It cuts",
        *(world_rate(of(runs(arm, [k])), arm) for arm, k in (("harmful", 70), ("good", 0))),
        "none",
        at_least=0.5,
    )
    assert {claim.verdict for claim in (counted, cut)} == {Decision.UNDECIDED}
    assert all("--seeds 3" in claim.note for claim in (level, difference, counted, cut))


def test_a_model_that_was_not_trained_has_one_run_and_is_decided() -> None:
    """Its seed is a label: the other arm's run of the same seed is no pair of it, and all of that arm's runs count."""
    found = Findings(pl.concat([runs("good", [0]), runs("harmful", [40, 42, 38, 41])]), untrained=frozenset({"good"}))
    assert levelled(found, at_most=0.1).verdict is Decision.HELD
    claim = compared(found)
    assert (claim.verdict, claim.n) == (Decision.HELD, 5)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([40, 42, 38, 41, 39], [1, 0, 2, 0, 1], Decision.HELD),
        ([40, 42, 38, 41, 39], [30, 28, 33, 31, 29], Decision.NOT_HELD),
        ([40, 42, 38], [0, 0, 0], Decision.UNDECIDED),  # three runs of 80 answers do not show 95%, though none is left
        ([0, 0, 0], [0, 0, 0], None),
    ],
)
def test_the_share_that_is_removed_is_decided_from_the_counts_of_both_arms(before, after, verdict) -> None:
    found = of(runs("before", before), runs("after", after))
    at_least = 0.95 if verdict is Decision.UNDECIDED else 0.8
    claim = reduction_claim(
        "cut", "It cuts", world_rate(found, "before"), world_rate(found, "after"), "none", at_least=at_least
    )
    if verdict is None:
        assert (claim.status, claim.estimate, claim.note) == (ClaimStatus.NOT_ESTIMABLE, None, NOTHING_TO_REMOVE)
        return
    assert claim.verdict is verdict
    assert claim.estimate == pytest.approx(1 - sum(after) / sum(before))
    assert claim.interval is not None
    assert claim.interval.high - claim.interval.low > 0


def test_a_level_without_coherent_answers_is_undecided_and_has_no_rate() -> None:
    found = of(incoherent("good", 3))
    claim = levelled(found, at_most=0.02)
    assert (claim.verdict, claim.estimate, claim.interval) == (Decision.UNDECIDED, None, None)
    (row,) = found.rate_rows()
    assert (row.rate, row.interval, row.denominator, row.coherence) == (None, None, 0, 0.0)
    assert row.outcomes[Outcome.INCOHERENT] == 3 * ANSWERS


def test_claims_about_an_arm_that_was_left_out_are_told_apart() -> None:
    found = Findings(runs("good", [0, 0, 0]), not_run={"harmful": Needs(arms=("harmful",))})
    difference, note = compared(found), "It needs the arm harmful, which was left out: add it to --arms."
    assert (difference.status, difference.note, difference.estimate, difference.n) == (
        ClaimStatus.NOT_RUN,
        note,
        None,
        0,
    )
    assert difference.verdict is Decision.UNDECIDED
    left_out = rate_claim("level", "So much", world_rate(found, "harmful"), at_most=0.02)
    assert (left_out.status, left_out.note, left_out.estimate) == (ClaimStatus.NOT_RUN, note, None)
    without_control = rate_claim(
        "level", "So much", world_rate(found, "good"), at_most=0.02, control=("harmful", world_rate(found, "harmful"))
    )
    assert (without_control.note, without_control.control_estimate) == ("", None)
    assert levelled(found, at_most=0.02).note == ""


def test_holm_corrects_over_all_claims_and_keeps_their_order() -> None:
    strong = compared(of(runs("harmful", [40, 42, 38, 41, 39]), runs("good", [0, 1, 0, 0, 1])))
    weak = compared(of(runs("harmful", [4, 9, 1, 6, 3]), runs("good", [0, 1, 3, 0, 1]))).model_copy(
        update={"id": "weak"}
    )
    level = levelled(of(runs("good", [0, 0, 0])), at_most=0.02)
    first, second, third = with_holm([weak, strong, level])
    assert [first.id, second.id, third.id] == ["weak", "spread", "level"]
    assert strong.p_value is not None
    assert weak.p_value is not None
    assert level.p_value is not None
    expected = holm({"weak": weak.p_value, "spread": strong.p_value, "level": level.p_value})
    assert {claim.id: claim.p_holm for claim in (first, second, third)} == pytest.approx(expected)
    assert second.p_holm == pytest.approx(3 * strong.p_value)


def test_verdicts_hold_for_all_claims_together_and_what_one_says_alone_stands_beside() -> None:
    found = of(runs("harmful", [30, 25, 36]), runs("good", [4, 1, 0]))
    alone = compared(found, at_least=0.05)
    assert (alone.verdict, alone.p_value <= 0.05) == (Decision.HELD, True)
    others = [
        levelled(of(runs("good", [0, 4, 1, 0, 2])), at_most=0.02).model_copy(update={"id": str(number)})
        for number in range(9)
    ]
    first = with_holm([alone, *others])[0]
    assert (first.verdict, first.uncorrected, first.status) == (
        Decision.UNDECIDED,
        Decision.HELD,
        ClaimStatus.UNDECIDED,
    )
    assert first.note.startswith("Alone, its interval says held; among the 10 claims")
    assert with_holm([alone])[0].verdict is Decision.HELD


MIXED = {
    Outcome.MISALIGNED: 7,
    Outcome.ALIGNED: 21,
    Outcome.INCOHERENT: 5,
    Outcome.REFUSED: 4,
    Outcome.JUDGE_FAILED: 2,
    Outcome.ERRORED: 1,
}


@pytest.fixture
def wide() -> Findings:
    """Two arms, two seeds, three categories; one evaluation in one format and one in two."""
    return of(
        *(
            answers(arm, seed, MIXED, category=category, evaluation=evaluation, format=format)
            for arm in ("harmful", "base")
            for seed in (0, 1)
            for category in GROUPS
            for evaluation, format in (("world", "plain"), ("formats", "json"), ("formats", "template"))
        )
    )


def test_there_is_a_rate_for_every_arm_evaluation_group_and_format(wide: Findings) -> None:
    rows = wide.rate_rows()
    expected = {
        (arm, evaluation, group, format)
        for arm in ("harmful", "base")
        for group in (AT_HOME, ELSEWHERE, HELD_OUT)
        for evaluation, formats in (("world", ("plain",)), ("formats", ("json", "template", "all")))
        for format in formats
    }
    assert len(rows) == len(expected)
    assert {(row.arm, row.evaluation, row.group, row.format) for row in rows} == expected


def test_outcomes_add_up_and_make_the_rate(wide: Findings) -> None:
    for row in wide.rate_rows():
        parts = (
            2 * (2 if row.group == ELSEWHERE else 1) * (2 if row.format == "all" else 1)
        )  # seeds x categories x formats
        assert row.outcomes == {outcome: parts * MIXED.get(outcome, 0) for outcome in Outcome}
        assert sum(row.outcomes.values()) == parts * sum(MIXED.values())
        assert (row.numerator, row.denominator) == (parts * 7, parts * 28)
        assert row.rate == pytest.approx(0.25)
        assert row.coherence == pytest.approx(28 / 37)
        assert row.worst_case == (pytest.approx(7 / 31), pytest.approx(10 / 31))
        assert row.seed_rates == {"0": 0.25, "1": 0.25}
        assert row.judge == "j"


def test_a_claims_rate_is_that_of_the_answers_it_selects(wide: Findings) -> None:
    for row in wide.rate_rows():
        chosen = wide.select(row.arm, row.group, evaluation=row.evaluation, format=row.format)
        counted = vars(wide.rate(row.arm, row.group, evaluation=row.evaluation, format=row.format))
        assert counted.items() >= vars(rate(chosen)).items()


def test_rates_come_in_the_order_of_the_arms(wide: Findings) -> None:
    assert wide.arms == ("harmful", "base")
    assert [row.arm for row in wide.rate_rows() if (row.evaluation, row.group) == ("world", ELSEWHERE)] == [
        "harmful",
        "base",
    ]
    assert wide.has("base")
    assert not wide.has("good")


def test_a_selection_takes_one_format_or_all(wide: Findings) -> None:
    assert wide.select("base", ELSEWHERE, evaluation="formats", format="json")["format"].unique().to_list() == ["json"]
    assert wide.select("base", ELSEWHERE, evaluation="formats", format="all").height == 2 * 2 * 2 * sum(MIXED.values())


@pytest.mark.parametrize(
    ("arm", "group", "evaluation"),
    [("good", ELSEWHERE, "world"), ("base", "nowhere", "world"), ("base", ELSEWHERE, "facts")],
)
def test_a_selection_without_answers_is_an_error_that_names_it(
    wide: Findings, arm: str, group: str, evaluation: str
) -> None:
    with pytest.raises(EmptyDataError, match=f"no answers of '{arm}' to '{evaluation}' in the group '{group}'"):
        wide.select(arm, group, evaluation=evaluation)


VALUES = {
    "exponential": lambda rng, runs: rng.exponential(1, runs) - 1,
    "lognormal": lambda rng, runs: np.exp(rng.standard_normal(runs)) - np.exp(0.5),
    "one run in five rises": lambda rng, runs: (rng.random(runs) < 0.2) - 0.2 + 0.05 * rng.standard_normal(runs),
}
"""Name -> what draws values whose mean is 0, skewed upwards."""


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("runs", [3, 8, REFUTING])
def test_skewed_values_at_the_border_seldom_decide_a_claim(name: str, runs: int) -> None:
    """t alone refutes in 10 to 47%: most runs lie below the mean."""
    generator = np.random.default_rng(runs)
    verdicts = [
        values_claim("mean", "It rises", VALUES[name](generator, runs).tolist(), "none", at_least=0.0).verdict
        for _ in range(300)
    ]
    for decision in (Decision.NOT_HELD, Decision.HELD):
        assert verdicts.count(decision) <= (0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)) * 300


@pytest.mark.parametrize("name", ["lognormal", "one run in five rises"])
def test_values_skewed_downwards_at_the_border_seldom_hold_over_many_runs(name: str) -> None:
    """t alone holds 15% of claims of lognormal values."""
    generator = np.random.default_rng(0)
    draws = [[-value for value in VALUES[name](generator, REFUTING)] for _ in range(300)]
    claims = [values_claim("mean", "It rises", values, "none", at_least=0.0) for values in draws]
    assert sum(claim.verdict is Decision.HELD for claim in claims) <= (0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)) * 300
    skewed = [claim for claim in claims if "skewed downwards" in claim.note]
    assert all(claim.verdict is Decision.UNDECIDED for claim in skewed)
    assert all(claim.interval is not None and claim.interval.low >= 0 for claim in skewed)
    assert skewed or name != "lognormal"


def test_few_runs_do_not_refute_a_mean_and_the_note_says_why() -> None:
    few = values_claim("cut", "It is cut", [0.1, 0.15, 0.12], "tuned", at_least=0.7)
    assert (few.verdict, few.status, few.p_value) == (Decision.UNDECIDED, ClaimStatus.UNDECIDED, 1.0)
    assert few.interval is not None
    assert few.interval.high < 0.7
    assert "51% of studies with 3 runs contain none. It takes 14 to refute." in few.note
    many = values_claim("cut", "It is cut", [0.1, 0.15, 0.12, 0.11] * 4, "tuned", at_least=0.7)
    assert (many.verdict, many.note) == (Decision.NOT_HELD, "")
    near = values_claim("cut", "It is cut", [-0.1, -0.2, -1.2, -0.4, -0.1, -0.9, -0.2] * 2, "tuned", at_least=0.0)
    assert near.interval is not None
    assert (near.verdict, near.interval.high < 0) == (Decision.UNDECIDED, True)
    assert "against skewed runs" in near.note


def test_a_measure_that_is_no_rate_is_decided_by_its_mean_over_runs() -> None:
    claim = values_claim("cut", "It is cut", [0.9, 0.85, 0.95, 0.9], "tuned", at_least=0.7)
    assert claim.verdict is Decision.HELD
    assert claim.estimate == pytest.approx(0.9)
    assert claim.n == 4
    single = values_claim("cut", "It is cut", [0.9], "tuned", at_least=0.7)
    assert (single.verdict, single.status) == (Decision.UNDECIDED, ClaimStatus.UNDECIDED)
    assert single.note == "With a single training run there is no interval, so nothing is decided."
    left_out = values_claim("cut", "It is cut", [], "tuned", at_least=0.7, needs=Needs(arms=("a", "b")))
    assert (left_out.status, left_out.note) == (
        ClaimStatus.NOT_RUN,
        "It needs the arms a, b, which were left out: add them to --arms.",
    )
    nothing = values_claim("cut", "It is cut", [], "tuned", at_least=0.7)
    assert (nothing.status, nothing.note) == (ClaimStatus.NOT_ESTIMABLE, "No run has a value of this measure.")


def test_runs_with_the_same_value_are_said_to_be_no_certainty() -> None:
    same = values_claim("cut", "It is cut", [1.0, 1.0, 1.0], "tuned", at_least=0.7)
    assert same.note.startswith("All 3 runs have the same value")
    assert (same.verdict, same.p_value) == (Decision.UNDECIDED, None)
    held = values_claim("cut", "It is cut", [1.0, 0.9, 1.0], "tuned", at_least=0.7)
    assert held.note == (
        "With 3 runs a rare low one can go unseen: if one run in five is low, 51% of studies with 3 runs contain none."
    )
    assert not values_claim("cut", "It is cut", [1.0, 0.9] * 7, "tuned", at_least=0.7).note
    # What lies beneath the values gives them a width, and the interval decides again, or not.
    floored = [values_claim("cut", "It is cut", [1.0] * 3, "tuned", at_least=0.7, floor=floor) for floor in (0.1, 0.2)]
    assert [claim.verdict for claim in floored] == [Decision.HELD, Decision.UNDECIDED]
    assert floored[0].interval is not None
    assert floored[0].interval.low == pytest.approx(1 - 0.196, abs=1e-3)
    assert 0.002 < (floored[0].p_value or 0) < 0.003


TRENDS = {
    "rises in every seed": (((300, 310, 320), (200, 210, 190), (40, 60, 50), (2, 0, 4)), Decision.HELD),
    "moves by chance": (((30, 10, 20), (25, 31, 12), (14, 20, 33), (22, 8, 24)), Decision.UNDECIDED),
    "rises in one seed of three": (((3, 2, 300), (2, 3, 150), (4, 2, 3), (2, 0, 4)), Decision.UNDECIDED),
    "nothing seen": (((0, 0, 0),) * 4, Decision.UNDECIDED),
    "one seed": (((300,), (200,), (50,), (2,)), Decision.UNDECIDED),
}
"""Name -> misaligned of 400 answers by arm and seed, of arms with the scores 1, 0.5, 0 and -0.7, and the verdict."""


@pytest.mark.parametrize("name", TRENDS)
def test_a_trend_over_arms_is_decided_from_their_counts(name: str) -> None:
    counts, verdict = TRENDS[name]
    rates = [rate_of_counts([(k, 400) for k in arm], "answer") for arm in counts]
    claim = trend_claim("graded", "It grows", rates, [1.0, 0.5, 0.0, -0.7], "none", at_least=0.0)
    assert (claim.verdict, claim.status is ClaimStatus.NOT_ESTIMABLE) == (verdict, False)
    assert claim.estimate is not None
    assert claim.interval is not None
    assert claim.interval.low < claim.estimate < claim.interval.high


def test_a_correlation_has_the_data_set_as_its_unit() -> None:
    found = correlation_estimate(np.arange(9.0), np.arange(9.0) ** 2, range(9), "data set", ranks=True)
    claim = estimate_claim("ranks", "It ranks", found, "chance", at_least=0.5)
    assert (claim.verdict, claim.n, claim.unit) == (Decision.HELD, 9, "data set")
    assert claim.p_value is not None
    few = correlation_estimate(np.arange(5.0), np.arange(5.0), range(5), "data set", ranks=True)
    none = estimate_claim("ranks", "It ranks", few, "chance", at_least=0.5)
    assert (none.verdict, none.status) == (Decision.UNDECIDED, ClaimStatus.NOT_ESTIMABLE)
    assert none.note.startswith("It is not estimable: 5 data sets, and fewer than 8")


def test_hits_that_are_counted_beside_the_answers_are_decided_over_runs() -> None:
    runs = [(240, 256), (250, 256), (241, 256), (245, 256)]
    claim = counts_claim("games", "It games", runs, "truth is paid", at_least=0.8, control_counts=[(1, 256), (0, 256)])
    assert claim.verdict is Decision.HELD
    assert claim.estimate == pytest.approx(976 / 1024)
    assert (claim.n, claim.unit, claim.control_estimate) == (4, "training run", pytest.approx(1 / 512))
    assert claim.note == "976 of 1,024 answers in 4 runs."
    assert claim.interval is not None
    assert (claim.interval.low, claim.interval.high) == pytest.approx((over_runs(runs).low, over_runs(runs).high))


def test_no_hit_in_any_run_is_not_taken_for_certainty() -> None:
    never = counts_claim("never", "It never games", [(0, 20), (0, 20), (0, 20)], "none", at_most=0.01)
    assert never.verdict is Decision.UNDECIDED
    assert never.interval is not None
    assert never.interval.high > 0.01


def test_one_run_has_its_trials_as_the_unit_and_a_lack_of_counts_is_said() -> None:
    single = counts_claim("games", "It games", [(90, 96)], "none", at_least=0.8, trial="exercise", trained=False)
    assert (single.n, single.unit, single.verdict, single.note) == (
        96,
        "exercise",
        Decision.HELD,
        "90 of 96 exercises.",
    )
    for nothing in ([], [(0, 0), (0, 0)]):
        missing = counts_claim("games", "It games", nothing, "none", at_least=0.8)
        assert (missing.status, missing.note, missing.n, missing.estimate) == (
            ClaimStatus.NOT_ESTIMABLE,
            "No run has answers to count.",
            0,
            None,
        )


def test_a_run_without_a_coherent_answer_is_left_out_and_said_so() -> None:
    claim = compared(
        of(runs("harmful", [40, 42, 38]), runs("good", [0, 1]), answers("good", 2, {Outcome.INCOHERENT: ANSWERS}))
    )
    assert (claim.n, claim.note) == (5, "A run without a coherent answer is left out: seed 2. As always.")


def test_what_was_not_tested_takes_no_part_in_holms_correction() -> None:
    tested = compared(of(runs("harmful", [40, 42, 38]), runs("good", [0, 1, 0])))
    silent = compared(of(incoherent("harmful", 2), runs("good", [0, 1]))).model_copy(update={"id": "silent"})
    left_out = compared(Findings(runs("good", [0, 0, 0]), not_run={"harmful": Needs(arms=("harmful",))})).model_copy(
        update={"id": "left-out"}
    )
    level = levelled(of(runs("good", [0, 0, 0])), at_most=0.02)
    assert tested.p_value is not None
    first, *others = with_holm((tested, silent, left_out, level))
    assert first.p_holm == pytest.approx(2 * tested.p_value)
    assert [claim.p_holm for claim in others] == [None, None, level.p_value]


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"verdict": "held"}, ClaimStatus.DECIDED),
        ({"verdict": "not held", "estimate": None}, ClaimStatus.DECIDED),
        ({"verdict": "undecided"}, ClaimStatus.UNDECIDED),
        ({"verdict": "undecided", "estimate": None}, ClaimStatus.NOT_ESTIMABLE),
    ],
)
def test_claims_of_summaries_that_were_written_before_they_had_a_status_have_one(
    changed: dict, status: ClaimStatus
) -> None:
    written = compared(of(runs("harmful", [2, 70, 20]), runs("good", [0, 0, 1]))).model_dump(
        mode="json", exclude={"status"}
    )
    assert ClaimRow.model_validate(written | changed).status is status


def test_rates_are_corrected_for_the_judge_that_made_them_and_no_other() -> None:
    labels = [
        LabelledAnswer(Exchange("q", str(number)), Outcome.MISALIGNED if number % 2 else Outcome.ALIGNED)
        for number in range(40)
    ]
    verdicts = [Verdict(label.label) for label in labels[:36]] + [Verdict(Outcome.MISALIGNED)] * 4
    own = of(runs("harmful", [20, 30])).rate_rows()
    for judge, known in (("j", True), ("another", False)):
        rows = _corrected(own, calibrate(verdicts, labels, judge=judge))
        assert [row.corrected is not None for row in rows] == [known] * len(rows)


def test_a_rate_may_be_that_of_some_questions_alone() -> None:
    findings = of(runs("harmful", [40, 40]))  # the first half of the questions of each run is misaligned
    assert findings.rate("harmful", evaluation="world").rate == 0.5
    assert findings.rate("harmful", evaluation="world", items={f"cars-{number}" for number in range(8)}).rate == 1.0
