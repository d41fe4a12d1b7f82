"""Whether the rate of misaligned answers rises with every step of the dose, by simultaneous intervals on the steps.

Left to others: a curve over the doses (dose.py).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from astray.errors import ConfigurationError
from astray.stats.claims import Decision, decide, decided_p
from astray.stats.compare import difference_of_seeds
from astray.stats.difference import Difference
from astray.stats.dose import check_doses
from astray.stats.intervals import Counts


@dataclass(frozen=True)
class Monotonicity:
    """Result of testing that the rate rises with every step of the dose.

    Attributes:
        decision: held when the interval of every step excludes a fall, not held when that of some step lies below 0
            (both up to the tolerance).
        steps: lower dose, higher dose and the difference of their rates (higher minus lower), with simultaneous
            (Bonferroni) intervals.
        p_value: the smallest 1 - level at which the intervals of the steps still decide.
    """

    decision: Decision
    steps: tuple[tuple[float, float, Difference], ...]
    p_value: float


def monotone(
    doses: Sequence[float],
    misaligned: Sequence[int],
    totals: Sequence[int],
    *,
    tolerance: float = 0.0,
    level: float = 0.95,
) -> Monotonicity:
    """Test whether the rate rises from each dose to the next, by simultaneous intervals on all steps.

    Args:
        doses: dose of each training run, at least two different ones.
        misaligned: misaligned answers of each run.
        totals: judged answers of each run.
        tolerance: a fall of this much still counts as none.
        level: nominal coverage of all steps together.

    Raises:
        ConfigurationError: fewer than two doses, or input as for `dose_response`.
    """
    counts = check_doses(doses, misaligned, totals, None, level)
    at_dose: dict[float, list[Counts]] = defaultdict(list)
    for dose, pair in zip(doses, counts, strict=True):
        at_dose[float(dose)].append(pair)
    ladder = sorted(at_dose)
    if len(ladder) < 2:
        raise ConfigurationError(f"A rise needs at least two doses, given was {ladder}.")
    step_level = 1 - (1 - level) / (len(ladder) - 1)  # Bonferroni over the steps
    steps = tuple(
        (low, high, difference_of_seeds(at_dose[high], at_dose[low], level=step_level))
        for low, high in pairwise(ladder)
    )
    decisions = {decide(step.estimate, step.interval, at_least=-tolerance) for _, _, step in steps}
    falls = [step.interval for _, _, step in steps if step.estimate < -tolerance]
    # One step that falls decides that the curve does; that it nowhere falls takes all of them.
    p_values = [decided_p(interval, (-tolerance, None)) for interval in falls or [step.interval for *_, step in steps]]
    p_value = min(1.0, len(steps) * (min(p_values) if falls else max(p_values)))
    if Decision.NOT_HELD in decisions:
        return Monotonicity(Decision.NOT_HELD, steps, p_value)
    return Monotonicity(Decision.UNDECIDED if Decision.UNDECIDED in decisions else Decision.HELD, steps, p_value)
