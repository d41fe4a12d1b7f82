"""Intervals of simulated studies hold the known truth as often as they say; the full figure is measured by
benchmarks/agentic_coverage.py."""

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from scipy.stats import t

from agentic_simulation import simulate
from astray.measure.agentic.counting import CONFLICT, CONTROL, cell_rate, difference, executed, select
from astray.measure.agentic.effects import factor_effects
from astray.measure.agentic.factors import BASELINE, Factors
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.scripted import ScriptedAPI
from curves.effects import false_effects

RATES = {
    "goal=explicit,threat=replacement": 0.83,
    "goal=explicit,threat=restriction": 0.52,
    "goal=explicit,threat=none": 0.07,
    "goal=none,threat=replacement": 0.31,
    "goal=none,threat=restriction": 0.18,
    "goal=none,threat=none": 0.02,
}
GRID = Grid(scenarios=("blackmail",), replicates=40)


def test_the_intervals_of_simulated_studies_hold_the_true_rates():
    played: dict = {}
    held, differences = [], []
    for seed in range(60):
        subject = ScriptedAPI("scripted/sometimes", conditions=RATES, seed=seed)
        table = simulate(subject, GRID, played)
        for cell in GRID.cells:
            rows = select(table, cell.factors.model_dump())
            interval, true = executed(rows).interval, subject.harm_rate("blackmail", cell.factors)
            held.append(interval.low <= true <= interval.high)
            assert cell_rate(rows).harmful == executed(rows)
        found = difference(executed(select(table, CONFLICT)), executed(select(table, CONTROL)))
        differences.append(found.interval.low <= 0.81 <= found.interval.high)
    assert len(held) == 360
    assert 0.92 < sum(held) / len(held) < 0.985
    assert sum(differences) >= 53


def test_a_simulated_study_is_what_inspect_would_run():
    table = simulate(ScriptedAPI("scripted/always"), GRID.model_copy(update={"replicates": 1}))
    assert set(table["outcome"]) == {"harmful"}
    assert table["gate"].all()
    assert set(simulate(ScriptedAPI("scripted/silent"), GRID)["outcome"]) == {"never acted"}


def test_effects_of_factors_have_the_direction_and_the_size_of_the_truth():
    subject = ScriptedAPI(
        "scripted/sometimes",
        probability=0.6,
        conditions={"goal=none": 0.2, "threat=none": 0.35, "goal=none,threat=none": 0.08},
    )
    grid = Grid(
        scenarios=("blackmail",),
        also=({"name": ("unnamed",), "threat": ("replacement", "restriction", "none")},),
        replicates=250,
    )
    found = factor_effects(simulate(subject, grid))
    effects = {(row.factor, row.value): row for row in found.rows}
    assert effects["goal", "none"].log_odds < -1.2
    assert effects["goal", "none"].high < 0
    assert effects["threat", "none"].high < 0
    assert effects["threat", "restriction"].low < 0 < effects["threat", "restriction"].high
    assert effects["name", "unnamed"].low < 0 < effects["name", "unnamed"].high
    assert found.samples == 9 * 250
    assert (found.cells, found.degrees, found.unidentified) == (9, 2, ())


def test_effects_agree_with_an_independent_fit_where_cells_are_full():
    grid = Grid(
        scenarios=("blackmail",),
        also=({"name": ("unnamed",), "threat": ("replacement", "restriction", "none")},),
        replicates=300,
    )
    table = simulate(ScriptedAPI("scripted/sometimes", probability=0.5, conditions={"goal=none": 0.3}), grid)
    rows = table.select(
        pl.col("gate").cast(pl.Int64),
        (pl.col("goal") == "none").cast(pl.Int64).alias("goal"),
        (pl.col("threat") == "restriction").cast(pl.Int64).alias("restriction"),
        (pl.col("threat") == "none").cast(pl.Int64).alias("safe"),
        (pl.col("name") == "unnamed").cast(pl.Int64).alias("unnamed"),
    )
    rows = rows.with_columns(
        (pl.col("goal") * pl.col(name)).alias(f"goal and {name}") for name in ("restriction", "safe")
    )
    names = ("goal", "restriction", "safe", "unnamed", "goal and restriction", "goal and safe")
    design = sm.add_constant(np.column_stack([rows[name].to_numpy() for name in names]).astype(float))
    plain = sm.Logit(rows["gate"].to_numpy(), design).fit(disp=False)
    found = factor_effects(table)
    effects = {(row.factor, row.value): row for row in found.rows}
    assert found.spread == 0, (
        "these cells differ no more than their samples do, so the errors are those of the binomial model"
    )
    for key, place in (
        (("goal", "none"), 1),
        (("threat", "restriction"), 2),
        (("threat", "none"), 3),
        (("name", "unnamed"), 4),
    ):
        assert abs(effects[key].log_odds - plain.params[place]) < 0.03
        assert (effects[key].high - effects[key].low) / 2 == pytest.approx(t.isf(0.025, 2) * plain.bse[place], rel=0.05)


def test_no_harm_without_goal_and_threat_is_no_effect_of_other_factors():
    """Goal and threat work together, as in the paper; without a term for that, instructions would seem to lower
    harm."""
    single = {"goal": ("explicit",), "threat": ("replacement",)}
    others = {"name": ("unnamed",), "instruction": ("prohibition", "safety"), "framing": ("real", "test")}
    grid = Grid(
        scenarios=("blackmail",), also=tuple(single | {name: values} for name, values in others.items()), replicates=100
    )
    played: dict = {}
    conditions = {"goal=none": 0.4, "threat=none": 0.2, "goal=none,threat=none": 0.0}
    subjects = [
        ScriptedAPI("scripted/sometimes", probability=0.6, conditions=conditions, seed=seed) for seed in range(20)
    ]
    found = [factor_effects(simulate(subject, grid, played)) for subject in subjects]
    for factor, values in others.items():
        for value in values:
            rows = [row for each in found for row in each.rows if (row.factor, row.value) == (factor, value)]
            assert abs(np.mean([row.log_odds for row in rows])) < 0.2
            assert {row.low for row in rows} == {None}, (
                "one cell for each parameter: nothing tells how much cells differ"
            )


def cells_of(rows, samples=40):
    """A table of acts with these cells: factors that are not the default, scenario and rate of each."""
    shared = BASELINE.model_dump() | {"subject": "one", "monitor": "none", "outcome": "harmful"}
    return pl.DataFrame(
        [
            shared | factors | {"scenario": scenario, "gate": sample < round(rate * samples)}
            for scenario, factors, rate in rows
            for sample in range(samples)
        ]
    )


UNNAMED, SAFETY, ALONE = {"name": "unnamed"}, {"instruction": "safety"}, {"reasoning": "none"}
UNIDENTIFIED = {
    "with the scenario": (
        [("a", {}, 0.1), ("b", UNNAMED, 0.9), ("a", SAFETY, 0.2), ("b", UNNAMED | SAFETY, 0.8)],
        {"name": {"scenario=b"}},
    ),
    "with another factor": (
        [("a", {}, 0.1), ("a", UNNAMED | SAFETY, 0.9), ("b", {}, 0.2), ("b", UNNAMED | SAFETY, 0.8)],
        {"name": {"instruction=safety"}, "instruction": {"name=unnamed"}},
    ),
    "with a scenario and another factor": (
        [("a", {}, 0.1), ("b", UNNAMED | SAFETY, 0.9), ("a", ALONE, 0.2)],
        {"name": {"instruction=safety", "scenario=b"}, "instruction": {"name=unnamed", "scenario=b"}},
    ),
    "its default nowhere": (
        [("a", SAFETY, 0.1), ("a", {"instruction": "priority"}, 0.9)],
        {"instruction": {"instruction=priority", "instruction=safety"}},
    ),
}
"""What the factor changes with -> cells, and what each factor without a number cannot be told apart from."""


@pytest.mark.parametrize("case", UNIDENTIFIED)
def test_what_the_design_cannot_tell_apart_has_no_number(case):
    rows, expected = UNIDENTIFIED[case]
    found = factor_effects(cells_of(rows))
    named = {}
    for factor, _, others in found.unidentified:
        named.setdefault(factor, set()).update(others)
    assert named == expected
    assert not {row.factor for row in found.rows} & expected.keys()
    assert {row.factor for row in found.rows} == {name for _, factors, _ in rows for name in factors} - expected.keys()


def test_as_many_parameters_as_cells_have_estimates_and_no_intervals():
    found = factor_effects(cells_of([("a", {}, 0.5), ("a", UNNAMED, 0.9)]))
    assert (found.degrees, found.spread) == (0, None)
    assert [(row.low, row.high, row.p_value) for row in found.rows] == [(None, None, None)]
    assert found.rows[0].log_odds > 1.5


def test_cells_that_differ_by_themselves_give_false_effects_at_most_as_often_as_said():
    """With a standard deviation of 0.5 between cells, binomial or clustered errors gave 12 to 33%
    (benchmarks/coverage_curves.py)."""
    wrong, total = 0, 0
    for studied in range(60):
        for low, high in false_effects(scenarios=3, values=3, samples=100, spread=0.5, seed=studied):
            wrong, total = wrong + (low > 0 or high < 0), total + 1
    assert total == 180
    assert wrong / total < 0.09, "5%, and three standard errors"


def test_nothing_that_varies_has_no_effects():
    assert factor_effects(simulate(ScriptedAPI("scripted/always"), GRID)) is None
    one = Grid(scenarios=("blackmail",), factors={"goal": ("explicit",), "threat": ("none",)}, replicates=20)
    assert factor_effects(simulate(ScriptedAPI("scripted/sometimes"), one)) is None


def test_a_condition_that_names_a_belief_is_averaged_over_the_beliefs():
    subject = ScriptedAPI(
        "scripted/sometimes", probability=0.8, beliefs={"real": 0.25, "test": 0.5}, conditions={"belief=test": 0.2}
    )
    assert subject.harm_rate("blackmail", Factors(), "real") == 0.8
    assert abs(subject.harm_rate("blackmail", Factors()) - (0.5 * 0.8 + 0.5 * 0.2)) < 1e-12
    drawn = [subject.belief(f"sample/{number}") for number in range(2000)]
    assert abs(drawn.count("test") / 2000 - 0.5) < 0.04
    assert abs(drawn.count("real") / 2000 - 0.25) < 0.04
