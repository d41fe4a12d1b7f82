"""How often the verdicts and intervals of effects, curves, warnings and power hold in simulation.

    OMP_NUM_THREADS=1 python benchmarks/coverage_curves.py [share of the draws, 1 by default]

Each line is one design: what is measured, how often (with its Monte-Carlo standard error), the target, and the mean
width. Rates of answers are measured by benchmarks/coverage.py, areas and correlations by benchmarks/coverage_areas.py.
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import polars as pl
from scipy.special import expit

from astray.engine.claims import difference_claim
from astray.engine.forecast.sensitivity import PUBLISHED_EFFECT, _is_low, _power, largest_control
from astray.measure.agentic.effects import factor_effects
from astray.measure.agentic.factors import BASELINE, FACTORS
from astray.stats.claims import Decision
from astray.stats.dose import dose_response
from astray.stats.intervals import Counts
from astray.stats.onset import onset
from astray.stats.power import Design, simulated_counts
from astray.stats.rates import Rate
from astray.stats.warning import Warned, difference, net_share, net_share_of_counts, over_doses, over_training_runs
from coverage_areas import Case, Drawn, covered, measure

# Effects of factors


def false_effects(
    *, scenarios: int, values: int, samples: int, spread: float, seed: int, base: float = 0.0
) -> list[tuple[float, float]]:
    """Return the intervals of effects that are none: goal and threat matter, and cells differ by themselves.

    Args:
        scenarios: number of scenarios, each with the whole grid.
        values: number of values without an effect that are tried one by one.
        samples: samples of each cell.
        spread: standard deviation between cells, on the logit scale.
        seed: of the draw.
        base: log odds of harm in the main condition.
    """
    rng = np.random.default_rng(seed)
    idle = [
        (factor, value)
        for factor in ("name", "instruction", "framing")
        for value in FACTORS[factor]
        if value != getattr(BASELINE, factor)
    ]
    idle = [each for each in idle if each != ("instruction", "priority")][:values]
    core = [({"goal": goal, "threat": threat}, -1.5 * (goal == "none") - 0.5 * (threat != "replacement"))
            for goal in ("explicit", "none") for threat in FACTORS["threat"]]  # fmt: skip
    cells = [*core, *(({factor: value}, 0.0) for factor, value in idle)]
    shared = BASELINE.model_dump() | {"subject": "one", "monitor": "none", "outcome": "harmful"}
    rows = []
    for scenario in range(scenarios):
        for factors, effect in cells:
            harmful = rng.binomial(samples, expit(base + effect + rng.normal(0, spread)))
            rows.append(
                shared | factors | {"scenario": str(scenario), "gate": [True] * harmful + [False] * (samples - harmful)}
            )
    found = factor_effects(pl.DataFrame(rows).explode("gate"))
    assert found is not None
    return [
        (row.low, row.high)
        for row in found.rows
        if (row.factor, row.value) in idle and row.low is not None and row.high is not None
    ]


def effect_cases() -> Iterator[Case]:
    """Yield false effects of factors, for designs and spreads between cells."""
    for scenarios, values, degrees in ((3, 6, 22), (7, 6, 66), (2, 2, 7)):
        for samples in (20, 100):
            for spread in (0.0, 0.5, 1.0):
                for base in (0.0, -2.5):

                    def effects(
                        rng: np.random.Generator,
                        shape: tuple[int, int, int] = (scenarios, values, samples),
                        spread: float = spread,
                        base: float = base,
                    ) -> list[Drawn]:
                        scenarios, values, samples = shape
                        seed = int(rng.integers(2**32))
                        found = false_effects(
                            scenarios=scenarios, values=values, samples=samples, spread=spread, seed=seed, base=base
                        )
                        return [(low > 0 or high < 0, high - low) for low, high in found]

                    name = (
                        f"{scenarios} scenarios x {6 + values} cells x {samples}, spread {spread}, main rate "
                        f"{expit(base):.0%}, {degrees} df"
                    )
                    yield Case(name, "false effect", "<= 5%", effects, 150)


# Dose and response

DOSES = (0.01, 0.1, 0.25, 0.5, 0.75, 1.0)


def dose_coverage(
    rng: np.random.Generator,
    clusters: int,
    curve: tuple[float, float],
    of_level: float,
    of_slope: float,
    answers: int = 200,
) -> tuple[list[Drawn], list[Drawn]]:
    """Return whether slope and half-effect dose of the typical seed are covered, in a study with a curve of its own for
    each seed.

    Args:
        rng: draws the study.
        clusters: number of seeds, each trained at every dose.
        curve: log odds at dose 1, and slope on the log dose, of the typical seed.
        of_level: standard deviation of the level between seeds.
        of_slope: standard deviation of the slope between seeds.
        answers: answers of each run.
    """
    level, slope = curve
    seeds = np.tile(np.arange(clusters), len(DOSES))
    levels, slopes = level + rng.normal(0, of_level, clusters), slope + rng.normal(0, of_slope, clusters)
    doses = np.repeat(DOSES, clusters)
    counts = rng.binomial(answers, expit(levels[seeds] + slopes[seeds] * np.log(doses)))
    found = dose_response(doses.tolist(), counts.tolist(), [answers] * len(doses), seeds.tolist())
    full = expit(level)
    half = math.exp((math.log(full / (2 - full)) - level) / slope)
    return covered(found.slope_interval, slope), covered(found.half_effect_interval, half)


def dose_cases() -> Iterator[Case]:
    """Yield slopes and half-effect doses of curves with seeds as clusters."""
    for clusters in (3, 5, 8):
        for of_level, of_slope in ((0.0, 0.0), (0.5, 0.0), (1.5, 0.0), (0.5, 0.4)):
            for curve in ((0.0, 1.2), (-2.0, 1.0), (-4.0, 0.8), (1.5, 0.8)):
                for place, what in enumerate(("slope", "half effect")):

                    def drawn(
                        rng: np.random.Generator,
                        shape: tuple[int, tuple[float, float], float, float] = (clusters, curve, of_level, of_slope),
                        place: int = place,
                    ) -> list[Drawn]:
                        return dose_coverage(rng, *shape)[place]

                    name = (
                        f"{what}, {clusters} seeds, {expit(curve[0]):.0%} at the top, spread {of_level} of level, "
                        f"{of_slope} of slope"
                    )
                    yield Case(name, "covered", ">= 93%", drawn, 150)


# Early warning


def warned(
    rng: np.random.Generator,
    runs: int,
    shifts: Sequence[float],
    rates: Sequence[float],
    spread: float,
    kind: str,
    readings: int = 56,
    answers: int = 480,
) -> Warned:
    """Draw a study and return what a measure finds more than behaviour.

    Args:
        rng: draws the study.
        runs: training runs.
        shifts: mean of the measure's readings at the control and at each dose; of "misaligned" readings their rate.
        rates: rate of misaligned answers at the control and at each dose.
        spread: standard deviation between trainings, of the shift and of the log odds of the rate.
        kind: distribution of the readings.
        readings: of the measure in each arm.
        answers: of each arm.
    """

    def read(shift: float) -> list[float]:
        if kind == "misaligned":
            return (rng.random(readings) < shift).astype(float).tolist()
        noise = rng.normal(0, 1, readings) if kind == "normal" else rng.exponential(1, readings)
        return (noise + shift + rng.normal(0, spread)).tolist()

    def count(rate: float) -> tuple[int, int]:
        own = expit(math.log(rate / (1 - rate)) + rng.normal(0, spread)) if 0 < rate < 1 else rate
        return int(rng.binomial(answers, own)), answers

    found = []
    for _ in range(runs):
        control, behaviour = read(shifts[0]), count(rates[0])
        of_measure = over_doses([net_share(read(shift), control) for shift in shifts[1:]])
        found.append(
            difference(
                of_measure, over_doses([net_share_of_counts(count(rate), behaviour, readings) for rate in rates[1:]])
            )
        )
    return over_training_runs(found)


Shape = tuple[tuple[float, ...], tuple[float, ...], float, str]
WARNINGS: dict[str, Shape] = {
    "nothing moves, behaviour at 0": ((0.0,) * 5, (0.0,) * 5, 0.0, "normal"),
    "nothing moves, runs differ": ((0.0,) * 5, (0.01,) * 5, 0.5, "normal"),
    "nothing moves, skewed, runs differ": ((0.0,) * 5, (0.05,) * 5, 0.5, "exponential"),
    "the same curve, rising to 20%": (
        (0.002, 0.005, 0.02, 0.05, 0.2),
        (0.002, 0.005, 0.02, 0.05, 0.2),
        0.0,
        "misaligned",
    ),
    "the same curve, rising to 50%": ((0.05, 0.1, 0.2, 0.3, 0.5), (0.05, 0.1, 0.2, 0.3, 0.5), 0.0, "misaligned"),
    "the measure rises": ((0.0, 0.1, 0.2, 0.3, 0.5), (0.002, 0.003, 0.004, 0.006, 0.03), 0.3, "normal"),
    "behaviour rises": ((0.0, 0.0, 0.0, 0.1, 0.2), (0.01, 0.02, 0.05, 0.1, 0.3), 0.5, "normal"),
}
"""Shifts of the measure and rates of behaviour at the control and four doses, spread between trainings, and kind of
readings."""


def warning_cases() -> Iterator[Case]:
    """Yield the verdict that a measure warns, where it finds no more than behaviour, and the coverage of the
    difference."""
    for name, design in WARNINGS.items():
        rng = np.random.default_rng(5)
        moves = "rises" in name  # else the measure finds no more than behaviour
        truth = float(np.mean([warned(rng, 1, *design).share for _ in range(2000)])) if moves else None
        for runs in (3, 5, 8):

            def drawn(
                rng: np.random.Generator, runs: int = runs, design: Shape = design, truth: float | None = truth
            ) -> list[Drawn]:
                interval = warned(rng, runs, *design).interval
                assert interval is not None
                return [(interval.low >= 0, interval.width)] if truth is None else covered(interval, truth)

            if truth is None:
                yield Case(f"{name}, {runs} runs", "held", "<= 5%", drawn, 300)
            else:
                yield Case(f"{name} (difference {truth:.2f}), {runs} runs", "covered", ">= 93%", drawn, 300)
    for runs in (3, 5, 8):

        def named(rng: np.random.Generator, runs: int = runs) -> list[Drawn]:
            scale = rng.lognormal(0, 1, runs)  # dictionaries of different runs have different scales
            values, control = rng.normal(0, 1, (runs, 8)) * scale[:, None], rng.normal(0, 1, runs) * scale
            return [
                (
                    onset([0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0], values.tolist(), control.tolist()).dose
                    is not None,
                    math.nan,
                )
            ]

        yield Case(f"an onset is named where nothing moves, {runs} runs", "named", "<= 5%", named, 1000)


# Power


def claimed_above(arm: Sequence[Counts], control: Sequence[Counts]) -> bool:
    """Return whether a study's claim that an arm's rate is above its control's is held."""
    rates = [
        Rate(
            sum(k for k, _ in runs),
            sum(n for _, n in runs),
            None,
            None,
            "training run",
            (),
            {},
            {str(seed): run for seed, run in enumerate(runs)},
        )
        for runs in (arm, control)
    ]
    return difference_claim("", "", rates[0], ("", rates[1]), at_least=0.0).verdict is Decision.HELD


def power_cases() -> Iterator[Case]:
    """Yield how often studies, drawn with question rates of a beta distribution, hold what `astray plan` promises."""
    from scipy.stats import beta

    for shape in (
        (3, 112, 4, 0.05, 0.2),
        (5, 112, 4, 0.05, 0.2),
        (5, 24, 10, 0.1, 0.2),
        (3, 48, 1, 0.05, 0.2),
        (8, 24, 2, 0.1, 0.0),
    ):
        design = Design(*shape)
        for top in (0.05, 0.1, 0.2):
            if design.seed_sd**2 >= top * (1 - top) / 2:
                continue
            promised = _power(top, design, 1000)

            def held(rng: np.random.Generator, design: Design = design, top: float = top) -> list[Drawn]:
                size = top * (1 - top) / design.seed_sd**2 - 1
                runs = rng.beta(top * size, (1 - top) * size, design.runs)[:, None]
                rates = np.broadcast_to(runs, (design.runs, design.questions))
                if design.question_icc:
                    inner = 1 / design.question_icc - 1
                    rates = np.nan_to_num(beta.ppf(rng.random(design.questions), runs * inner, (1 - runs) * inner))
                answers = design.questions * design.samples
                arm = [(int(k), answers) for k in rng.binomial(design.samples, rates).sum(axis=1)]
                return [(claimed_above(arm, [(0, answers)] * design.runs), math.nan)]

            yield Case(
                f"{top:.0%} against 0, {design.runs} runs x {design.questions} x {design.samples}",
                "held",
                f"{promised:.0%}",
                held,
                600,
            )
    for design in (Design(5, 200, 8, 0.05, 0.2), Design(8, 200, 8, 0.05, 0.0)):
        largest = largest_control(design)
        if largest is None:
            continue

        def low(rng: np.random.Generator, design: Design = design, largest: float = largest) -> list[Drawn]:
            _, counts = simulated_counts((PUBLISHED_EFFECT, largest), design, 1, int(rng.integers(2**32)))
            return [(_is_low([(int(k), design.questions * design.samples) for k in counts[0]]), math.nan)]

        yield Case(
            f"a control of {largest:.2%} is shown to be low, {design.runs} runs x {design.questions} x "
            f"{design.samples}",
            "held",
            "80%",
            low,
            600,
        )


SECTIONS: dict[str, Callable[[], Iterator[Case]]] = {
    "Effects of factors": effect_cases,
    "Dose and response": dose_cases,
    "Early warning, and onsets": warning_cases,
    "Power as astray plan promises it": power_cases,
}

if __name__ == "__main__":
    measure(SECTIONS, float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
