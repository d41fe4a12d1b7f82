"""Power as `astray plan` foretells it: how often is the claim held in studies that are drawn otherwise, alone and among
other claims?

Runs vary as the plan assumes. Questions follow a beta distribution, where the plan's are normal on the logit scale: the
correlation within questions is assumed, and not their distribution. Each draw is a batch of studies, decided by the
limits that claims have; in the first study the claim itself is asked as well.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from scipy.special import betaincinv

from astray.engine.claims import counts_claim, difference_claim, rate_of_counts
from astray.engine.family import with_holm
from astray.engine.forecast.sensitivity import CEILING, PUBLISHED_EFFECT, SIMULATIONS, _power, largest_control
from astray.engine.summary import ClaimRow
from astray.stats.claims import Decision
from astray.stats.compare import difference_limits
from astray.stats.intervals import Counts, run_limits
from astray.stats.power import Design
from curves import Case, Drawn

BATCH, BATCHES = 200, 20
"""4,000 studies a design: a standard error of at most 0.8 points."""
DESIGNS = (
    Design(3, 112, 4, 0.05, 0.2),
    Design(5, 112, 4, 0.05, 0.2),
    Design(5, 24, 10, 0.1, 0.2),
    Design(3, 48, 1, 0.05, 0.2),
    Design(8, 24, 2, 0.1, 0.0),
)
FAMILIES = ((Design(5, 112, 4, 0.05, 0.2), 18, 0.2), (Design(8, 112, 4, 0.05, 0.2), 30, 0.15))
"""Designs, claims of the study, and the effect of one of them; the others' arms do as their control."""
LOW = (Design(5, 200, 8, 0.05, 0.2), Design(8, 200, 8, 0.05, 0.0))


def runs_of(rng: np.random.Generator, mean: float, design: Design, scale: float, studies: int = BATCH) -> np.ndarray:
    """Draw misaligned answers of the runs of a batch of studies: rates of runs with this mean and the deviation that
    was asked for at the rate `scale`, questions as hard for every run."""
    size = scale * (1 - scale) / design.seed_sd**2 - 1
    rates = np.clip(rng.beta(mean * size, (1 - mean) * size, (studies, design.runs, 1)), 1e-9, 1 - 1e-9)
    if design.question_icc:
        inner = 1 / design.question_icc - 1
        hardness = rng.random((studies, 1, design.questions))
        rates = np.nan_to_num(betaincinv(rates * inner, (1 - rates) * inner, hardness))
        return rng.binomial(design.samples, rates).sum(axis=2)
    return rng.binomial(design.samples * design.questions, rates[..., 0])


def claimed_above(arm: Sequence[Counts], control: Sequence[Counts]) -> bool:
    """Return whether a study's claim that an arm's rate is above its control's is held."""
    first, second = (rate_of_counts(side, "answer") for side in (arm, control))
    return difference_claim("", "", first, ("", second), at_least=0.0).verdict is Decision.HELD


def in_family(rng: np.random.Generator, *, design: Design, claims: int, top: float) -> list[Drawn]:
    """Return whether the one true claim of a study is held after Holm's correction; the others compare arms at 5%."""
    answers = design.questions * design.samples

    def claim(name: str, mean: float, control: float) -> ClaimRow:
        sides = [
            rate_of_counts([(int(k), answers) for k in runs_of(rng, rate, design, top, 1)[0]], "answer")
            if rate
            else rate_of_counts([(0, answers)] * design.runs, "answer")
            for rate in (mean, control)
        ]
        return difference_claim(name, "", sides[0], ("", sides[1]), at_least=0.0)

    family = [claim("true", top, 0.0), *(claim(f"idle {number}", 0.05, 0.05) for number in range(claims - 1))]
    return [(with_holm(family)[0].verdict is Decision.HELD, float("nan"))]


def power_cases() -> Iterator[Case]:
    """Yield how often studies hold what `astray plan` promises."""
    for design in DESIGNS:
        answers = design.questions * design.samples
        for top in (0.05, 0.1, 0.2):
            if design.seed_sd**2 >= top * (1 - top) / 2:
                continue

            def held(
                rng: np.random.Generator, design: Design = design, top: float = top, answers: int = answers
            ) -> list[Drawn]:
                k = runs_of(rng, top, design, top)
                n = np.full_like(k, answers)
                low = difference_limits((k, n), (np.zeros_like(k), n), design.runs)[1](0.95)[0]
                arm = [(int(one), answers) for one in k[0]]
                assert claimed_above(arm, [(0, answers)] * design.runs) == (low[0] >= 0)
                return [(bool(one >= 0), float("nan")) for one in low]

            name = f"{top:.0%} against 0, {design.runs} runs x {design.questions} x {design.samples}"
            yield Case(name, "held", f"{_power(top, design, SIMULATIONS):.0%}", held, BATCHES, BATCH)
    for design, claims, top in FAMILIES:
        promised = _power(top, design, SIMULATIONS, 1 - 0.05 / claims)
        name = f"{top:.0%} against 0 among {claims} claims, {design.runs} runs x {design.questions} x {design.samples}"
        yield Case(name, "held", f"{promised:.0%}", partial(in_family, design=design, claims=claims, top=top), 200)
    for design in LOW:
        largest = largest_control(design)
        assert largest
        answers = design.questions * design.samples

        def low(
            rng: np.random.Generator, design: Design = design, largest: float = largest, answers: int = answers
        ) -> list[Drawn]:
            k = runs_of(rng, largest, design, PUBLISHED_EFFECT)
            high = run_limits(k, np.full_like(k, answers))(0.95)[1]
            claim = counts_claim("", "", [(int(one), answers) for one in k[0]], "", at_most=CEILING)
            assert (claim.verdict is Decision.HELD) == (high[0] <= CEILING)
            return [(bool(one <= CEILING), float("nan")) for one in high]

        name = f"a control of {largest:.2%} is low, {design.runs} runs x {design.questions} x {design.samples}"
        yield Case(name, "held", "80%", low, BATCHES, BATCH)
