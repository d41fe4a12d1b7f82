"""A difference of two rates with its interval, whatever was compared (compare.py, paired.py)."""

from dataclasses import dataclass

from astray.stats.claims import decided_p
from astray.stats.intervals import Interval
from astray.stats.notebook import estimate_html


@dataclass(frozen=True)
class Difference:
    """Rate of the first arm minus rate of the second.

    Attributes:
        estimate: mean difference, a fraction.
        interval: confidence interval on it.
        n: number of units: pairs, runs of both arms, or answers of both arms.
        unit: unit of inference.
        exact_p: p-value of an exact test, where there is one.
    """

    estimate: float
    interval: Interval
    n: int
    unit: str
    exact_p: float | None = None

    @property
    def p_value(self) -> float:
        """Two-sided p-value for no difference: of the exact test, or else of the interval."""
        return decided_p(self.interval, (0.0, None)) if self.exact_p is None else self.exact_p

    def _repr_html_(self) -> str:
        return estimate_html(
            self.estimate, self.interval, f"n = {self.n:,}", f"unit: {self.unit}", f"p = {self.p_value:.2g}"
        )
