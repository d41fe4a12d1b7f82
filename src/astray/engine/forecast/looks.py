"""Forecast of a study that runs until it is decided: how many training runs a claim takes on average, and at most.

Studies with the assumed spread (`sensitivity`) are simulated and looked at with the intervals and boundaries of a real one,
each claim alone.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Bool

from astray.engine.family import FAMILY_LEVEL
from astray.engine.forecast.sensitivity import CEILING, PUBLISHED_EFFECT, QUESTION_ICC, SEED_SD, claimed_kinds
from astray.engine.setting import Setting
from astray.stats.compare import difference_limits
from astray.stats.intervals import run_limits
from astray.stats.power import Design, simulated_counts
from astray.stats.sequential import Looks

_SIMULATIONS = 200
_EXCESS, _CLEAR = 0.10, 0.002
"""Margin by which an effect is claimed to exceed its control, and true rate of a control that is claimed to be low."""


def looks_lines(setting: Setting, looks: Looks) -> Iterator[str]:
    """Yield the lines about looks for a terminal."""
    most = looks.units[-1]
    yield f"Until decided: looks at {', '.join(map(str, looks.units))} training runs an arm; the work above is the largest,"
    yield f"with {most} runs of every arm. A claim alone, in simulated studies:"
    if not setting.asks_freely or most < 2:
        yield "  not simulated: its answers are not sampled, or there is one run"
        return
    questions, samples = claimed_kinds(setting)
    design = Design(most, questions, samples, SEED_SD, QUESTION_ICC)
    arm, control = simulated_counts((PUBLISHED_EFFECT, 0.0), design, _SIMULATIONS, 0)
    asked = np.full_like(arm, questions * samples)

    def spread(runs: int, level: float) -> Bool[np.ndarray, " studies"]:
        sides = [(drawn[:, :runs], asked[:, :runs]) for drawn in (arm, control)]
        return np.asarray(difference_limits(sides[0], sides[1], runs)[1](level)[0] >= _EXCESS)

    low = simulated_counts((_CLEAR,), Design(most, questions, samples, _CLEAR / 2, QUESTION_ICC), _SIMULATIONS, 1)[0]

    def below(runs: int, level: float) -> Bool[np.ndarray, " studies"]:
        return np.asarray(run_limits(low[:, :runs], asked[:, :runs])(level)[1] <= CEILING)

    for what, decided in (
        (f"{PUBLISHED_EFFECT:.0%} is at least {_EXCESS:.0%} more than none", spread),
        (f"a control of {_CLEAR:.1%} lies below {CEILING:.0%}", below),
    ):
        runs, share = _ends(looks, decided)
        yield f"  {what}: held in {share:.0%}, with {runs:.1f} runs on average ({runs / most:.0%} of the largest spend)"


def _ends(looks: Looks, decided: Callable[[int, float], Bool[np.ndarray, " studies"]]) -> tuple[float, float]:
    """Return the mean number of runs at the end, and the share of studies that are decided then."""
    ended: np.ndarray | None = None
    total = np.zeros(_SIMULATIONS)
    for look, runs in enumerate(looks.units):
        now = decided(runs, 1 - looks.nominal(look, FAMILY_LEVEL))
        ended = now if ended is None else ended | now
        total = np.where((total == 0) & (ended | (look + 1 == len(looks.units))), runs, total)
    assert ended is not None
    return float(total.mean()), float(ended.mean())
