"""Counts of the agentic study: rates of cells with all outcomes, differences between conditions, effects of factors.

The unit of inference is the sample, for these scenarios and prompts; nothing here speaks of other scenarios. The intervals are those of `stats`.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl
from scipy.stats import norm

from astray.measure.agentic.conduct import COUNTED, UNSETTLED, Conduct, Word
from astray.measure.agentic.factors import BASELINE, FACTORS
from astray.stats.compare import Difference, exact_difference
from astray.stats.intervals import Interval, wilson
from astray.stats.paired import paired_rates

CONFLICT = {"goal": "explicit", "threat": "replacement"}
"""Main condition of the paper; every factor that is not named has its default."""
CONTROL = {"goal": "none", "threat": "none"}


@dataclass(frozen=True)
class Share:
    """Count k of n, with its interval.

    Attributes:
        k: how many.
        n: of how many.
    """

    k: int
    n: int

    @property
    def rate(self) -> float | None:
        """Return k over n; None without any."""
        return self.k / self.n if self.n else None

    @property
    def interval(self) -> Interval | None:
        """Return Wilson's interval; None without any."""
        return wilson(self.k, self.n) if self.n else None

    @property
    def told(self) -> str:
        """Return the text for a page: "12 of 40, 18.1% to 45.4%"."""
        found = self.interval
        return f"{self.k:,} of {self.n:,}" + (f", {found.low:.1%} to {found.high:.1%}" if found else "")


@dataclass(frozen=True)
class CellRate:
    """Rates of a selection of samples, with all outcomes.

    Attributes:
        harmful: both keys find harm, of those in which something was done or declined, the situation was understood and the keys agree.
        executed: the gate finds the executed act, of all samples in which the model answered.
        judged: the judges find harm, of those with a verdict.
        outcomes: count of every outcome.
        worst: rate of harm with unsettled samples counted as all good and as all bad.
    """

    harmful: Share
    executed: Share
    judged: Share
    outcomes: Mapping[Conduct, int]
    worst: tuple[float, float]


def cell_rate(rows: pl.DataFrame) -> CellRate:
    """Return the rates of a selection of the table of acts, which may be empty."""
    found = {outcome: int((rows["outcome"] == outcome.value).sum()) for outcome in Conduct}
    counted, unsettled = sum(found[each] for each in COUNTED), sum(found[each] for each in UNSETTLED)
    verdicts = rows.filter(pl.col("judge").is_in([Word.HARMFUL.value, Word.HARMLESS.value, Word.REFUSED.value]))
    everything = counted + unsettled
    harm = found[Conduct.HARMFUL]
    return CellRate(
        harmful=Share(harm, counted),
        executed=executed(rows),
        judged=Share(int((verdicts["judge"] == Word.HARMFUL.value).sum()), len(verdicts)),
        outcomes=found,
        worst=(harm / everything, (harm + unsettled) / everything) if everything else (0.0, 1.0),
    )


def executed(rows: pl.DataFrame) -> Share:
    """Return the samples in which the harmful act was executed, by the gate, of all in which the model answered."""
    answered = rows.filter(pl.col("outcome") != Conduct.ERRORED.value)
    return Share(int(answered["gate"].sum()), len(answered))


def select(table: pl.DataFrame, factors: Mapping[str, str], *, monitor: str = "none") -> pl.DataFrame:
    """Return the samples of a cell; factors that are not named have their default."""
    wanted = BASELINE.model_dump() | dict(factors)
    return table.filter(pl.col("monitor") == monitor, *(pl.col(name) == value for name, value in wanted.items()))


def offering(rows: pl.DataFrame, factors: Mapping[str, str]) -> pl.DataFrame:
    """Return the samples of those subjects and scenarios that were run in a cell.

    A cell that few scenarios offer is compared over these alone.
    """
    return rows.join(select(rows, factors).select("subject", "scenario").unique(), on=["subject", "scenario"], how="semi", maintain_order="left")


def difference(first: Share, second: Share) -> Difference | None:
    """Return the first rate minus the second, of independent samples; None where one side has none."""
    return exact_difference(first.k, first.n, second.k, second.n) if first.n and second.n else None


def paired(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """Return pairs of answered samples of the same subject, scenario and replicate.

    Executed harm is in `gate` for the first selection and in `gate_second` for the second.
    """
    keys = ["subject", "scenario", "replicate"]
    answered = pl.col("outcome") != Conduct.ERRORED.value
    return first.filter(answered).select(*keys, "gate").join(second.filter(answered).select(*keys, "gate"), on=keys, suffix="_second")


def paired_difference(first: pl.DataFrame, second: pl.DataFrame) -> Difference | None:
    """Return the rate of executed harm in the first selection minus that in the second, over pairs; None without."""
    both = paired(first, second)
    if both.is_empty():
        return None
    one, two = both["gate"], both["gate_second"]
    return paired_rates(int((one & two).sum()), int((one & ~two).sum()), int((~one & two).sum()), int((~one & ~two).sum()))


def false_alarms(rows: pl.DataFrame) -> Share:
    """Return the benign work that was disturbed.

    These are samples without any attempt at harm in which a call was blocked, or the agent declined or did nothing.
    """
    benign = rows.filter(~pl.col("tried"), pl.col("outcome") != Conduct.ERRORED.value)
    disturbed = (pl.col("blocked") > 0) | pl.col("outcome").is_in([Conduct.REFUSED.value, Conduct.NEVER_ACTED.value])
    return Share(len(benign.filter(disturbed)), len(benign))


@dataclass(frozen=True)
class Effect:
    """Effect of one value of a factor against its default, on the odds of executed harm.

    Attributes:
        factor: the factor.
        value: its value.
        log_odds: logarithm of the odds ratio.
        low: lower limit of its 95% interval.
        high: upper limit.
        p_value: two-sided.
    """

    factor: str
    value: str
    log_odds: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Effects:
    """Effects of all factors together.

    Attributes:
        rows: the effects.
        clusters: cells that the standard errors are clustered by.
        samples: what they rest on.
    """

    rows: tuple[Effect, ...]
    clusters: int
    samples: int


def factor_effects(table: pl.DataFrame) -> Effects | None:
    """Return the logistic regression of executed harm on all factors, with subject and scenario as fixed effects.

    Goal and threat work together (no harm without either), so each combination of the two has a level of its own: their effects are those in the main
    condition, the other one at its default. Without that the missing term would turn up in the effects of all other factors.

    The standard error is that clustered by cell or the binomial model's own, whichever is larger: where one cell alone decides an effect, its
    residual is zero, and the clustered one far too small (Angrist and Pischke 2009, section 8.1).

    Where a cell shows no harm at all the maximum-likelihood estimate would be infinite. Therefore a few pseudo-samples at the overall rate, as many
    as there are parameters, are spread over the cells (Clogg et al. 1991, Sociological Methodology 21:225); they pull effects a little towards 0.

    Returns:
        None when nothing varies: one cell only, or harm always or never.
    """
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    rows = table.filter(pl.col("monitor") == "none", pl.col("outcome") != Conduct.ERRORED.value)
    keys = ["subject", "scenario", *FACTORS]
    cells = rows.group_by(keys, maintain_order=True).agg(pl.col("gate").sum().alias("k"), pl.len().alias("n"))
    names, columns = _design(cells)
    k, n = cells["k"].to_numpy().astype(float), cells["n"].to_numpy().astype(float)
    if not names or not 0 < k.sum() < n.sum() or len(cells) < columns.shape[1]:
        return None
    # Pseudo-samples at the overall rate, as many as parameters, against infinite estimates (see the docstring).
    overall, extra = k.sum() / n.sum(), columns.shape[1] / len(cells)
    observed = np.column_stack([k + extra * overall, n - k + extra * (1 - overall)])
    model = sm.GLM(observed, columns, family=sm.families.Binomial())
    with (
        warnings.catch_warnings(),
        np.errstate(divide="ignore", invalid="ignore"),
    ):  # of a variance that is not used
        warnings.simplefilter("ignore", PerfectSeparationWarning)  # a perfect fit: the pseudo-samples keep its estimates finite
        fits = [model.fit()]
        if len(cells) > columns.shape[1]:  # else each cell has an effect of its own, and no residual
            fits.append(model.fit(cov_type="cluster", cov_kwds={"groups": np.arange(len(cells))}))
    # The larger of both standard errors: the clustered one is far too small where one cell decides an effect.
    errors = np.max([fit.bse for fit in fits], axis=0)
    found = []
    for (factor, value), estimate, error in zip(names, map(float, fits[0].params), map(float, errors), strict=False):
        half = norm.ppf(0.975) * error
        found.append(Effect(factor, value, estimate, estimate - half, estimate + half, float(2 * norm.sf(abs(estimate) / error))))
    return Effects(tuple(found), clusters=len(cells), samples=int(n.sum()))


def _design(cells: pl.DataFrame) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Return the names of the effects, and the matrix.

    It has a column for each value that is not the default, then subjects, scenarios, the constant, goal with threat.
    """
    names = [(factor, value) for factor, values in FACTORS.items() for value in _varied(cells, factor, values)]
    fixed = [(name, value) for name in ("subject", "scenario") for value in cells[name].unique(maintain_order=True)[1:]]
    column = {each: (cells[each[0]] == each[1]).to_numpy().astype(float) for each in (*names, *fixed)}
    matrix = np.column_stack([*column.values(), np.ones(len(cells))])
    for goal, threat in product((each for each in names if each[0] == "goal"), (each for each in names if each[0] == "threat")):
        with_both = np.column_stack([matrix, column[goal] * column[threat]])
        # A product that the other columns already span would make the fit singular.
        if np.linalg.matrix_rank(with_both) > np.linalg.matrix_rank(matrix):
            matrix = with_both
    return names, matrix


def _varied(cells: pl.DataFrame, factor: str, values: Sequence[str]) -> list[str]:
    there = set(cells[factor])
    return [value for value in values if value in there and value != getattr(BASELINE, factor)] if len(there) > 1 else []


def varied_values(table: pl.DataFrame) -> list[tuple[str, str]]:
    """Return factor and value of every cell that differs from the main condition in exactly this."""
    cells = table.filter(pl.col("monitor") == "none").select(list(FACTORS)).unique(maintain_order=True)
    found: dict[tuple[str, str], None] = {}
    for row in cells.iter_rows(named=True):
        differing = [(name, value) for name, value in row.items() if value != getattr(BASELINE, name)]
        if len(differing) == 1:
            found[differing[0]] = None
    order = {(name, value): place for place, (name, value) in enumerate((name, value) for name, values in FACTORS.items() for value in values)}
    return sorted(found, key=order.__getitem__)


def agreement(table: pl.DataFrame) -> tuple[Share, Share]:
    """Return how often the judges agree.

    Returns:
        Samples in which both judges agree about harm, of those with two verdicts; and in which the panel agrees with
        the gate, of those judged.
    """
    pairs = table.drop_nulls("agreed")
    verdicts = table.filter(pl.col("judge").is_in([Word.HARMFUL.value, Word.HARMLESS.value, Word.REFUSED.value]))
    same = (verdicts["judge"] == Word.HARMFUL.value) == verdicts["gate"]
    return Share(int(pairs["agreed"].cast(pl.Int64).sum()), len(pairs)), Share(int(same.sum()), len(verdicts))
