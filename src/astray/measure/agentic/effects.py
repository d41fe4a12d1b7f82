"""Effects of factors on executed harm: one logistic regression over all cells, with the cell as the unit.

A cell (subject, scenario and a value of every factor) has its own rate besides its samples' chance: another wording of
the same values would have another one. That spread between cells is estimated as one variance on the logit scale
(Williams 1982, Applied Statistics 31:144) and is part of every error; the limits are t on cells minus parameters, or on
the cells that an effect rests on. An effect that the design does not identify, because its value changes only together
with a scenario, a subject or another factor, has no number: what cannot be told apart is named instead.

Left to others: rates of cells and differences between two of them (`counting`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from astray.measure.agentic.conduct import Conduct
from astray.measure.agentic.factors import BASELINE, FACTORS

LARGEST_VARIANCE = 25.0
"""Upper end of the search for the variance between cells, on the logit scale."""
LARGEST_LEVERAGE = 0.95
"""Leverage of a cell up to which its residual is scaled up: one that decides an effect alone has none."""
_EXACT = 1e-8


@dataclass(frozen=True)
class Effect:
    """Effect of one value of a factor against its default, on the odds of executed harm.

    Attributes:
        factor: the factor.
        value: its value.
        log_odds: logarithm of the odds ratio.
        low: lower limit of its 95% interval over cells; None where there are no more cells than parameters.
        high: upper limit.
        p_value: two-sided.
    """

    factor: str
    value: str
    log_odds: float
    low: float | None
    high: float | None
    p_value: float | None


@dataclass(frozen=True)
class Effects:
    """Effects of all factors together.

    Attributes:
        rows: the effects that the design identifies.
        unidentified: for each other one, its factor and value, and what it cannot be told apart from.
        cells: number of cells, which are the unit.
        degrees: cells minus parameters; with 0 the spread between cells is not estimable, and nothing has an interval.
        spread: standard deviation between cells on the logit scale, beyond what the factors explain; None with 0
            degrees.
        samples: what they rest on.
    """

    rows: tuple[Effect, ...]
    unidentified: tuple[tuple[str, str, tuple[str, ...]], ...]
    cells: int
    degrees: int
    spread: float | None
    samples: int


def factor_effects(table: pl.DataFrame) -> Effects | None:
    """Return the logistic regression of executed harm on all factors, with subject and scenario as fixed effects.

    Goal and threat work together (no harm without either), so each combination of the two has a level of its own: their
    effects are those in the main condition, the other one at its default. Without that the missing term would turn up
    in the effects of all other factors.

    Where a cell shows no harm at all the maximum-likelihood estimate would be infinite. Therefore a few pseudo-samples
    at the overall rate, as many as there are parameters, are spread over the cells (Clogg et al. 1991, Sociological
    Methodology 21:225); they pull effects a little towards 0.

    Returns:
        None when nothing varies: one cell only, or harm always or never.
    """
    from scipy.special import stdtr, stdtrit

    rows = table.filter(pl.col("monitor") == "none", pl.col("outcome") != Conduct.ERRORED.value)
    keys = ["subject", "scenario", *FACTORS]
    cells = rows.group_by(keys, maintain_order=True).agg(pl.col("gate").sum().alias("k"), pl.len().alias("n"))
    names, columns = _design(cells)
    k, n = cells["k"].to_numpy().astype(float), cells["n"].to_numpy().astype(float)
    if not any(factor in FACTORS for factor, _ in names) or not 0 < k.sum() < n.sum():
        return None
    overall, extra = k.sum() / n.sum(), columns.shape[1] / len(cells)
    degrees = len(cells) - int(np.linalg.matrix_rank(columns))
    estimates, errors, variance = _fit(columns, k + extra * overall, n + extra, degrees)
    null = _null_space(columns)
    effects, unidentified = [], []
    for index, (factor, value) in enumerate(names):
        if factor not in FACTORS:
            continue
        # A parameter is identified when no direction that leaves every fitted cell as it is moves it.
        together = _linked(null, index)
        if together.any():
            others = tuple("=".join(name) for other, name in enumerate(names) if together[other] and other != index)
            unidentified.append((factor, value, others))
            continue
        estimate, parts = float(estimates[index]), [(float(one[index]), float(on[index])) for one, on in errors]
        if degrees == 0:
            effects.append(Effect(factor, value, estimate, None, None, None))
            continue
        half = max(-float(stdtrit(on, 0.025)) * error for error, on in parts)
        effects.append(
            Effect(
                factor,
                value,
                estimate,
                estimate - half,
                estimate + half,
                max(float(2 * stdtr(on, -abs(estimate) / error)) for error, on in parts if error),
            )
        )
    spread = float(np.sqrt(variance)) if degrees else None
    return Effects(tuple(effects), tuple(unidentified), len(cells), degrees, spread, int(n.sum()))


_Errors = tuple[tuple[Float[np.ndarray, "parameters"], Float[np.ndarray, "parameters"]], ...]
"""Standard errors and their degrees of freedom: of the model, and robust ones."""


def _fit(
    columns: Float[np.ndarray, "cells parameters"],
    k: Float[np.ndarray, "cells"],
    n: Float[np.ndarray, "cells"],
    degrees: int,
) -> tuple[Float[np.ndarray, "parameters"], _Errors, float]:
    """Return estimates, standard errors, and the variance between cells that brings chi-squared to its degrees.

    The wider interval counts, by the model's errors or by robust ones (nearly HC3): robust errors are far too small
    where one cell alone decides an effect and has no residual, the model's where cells of rare harm differ more than
    others. Of cells 1.0 apart, HC2 with t on all degrees of freedom found false effects in up to 9%.
    """
    low, high = 0.0, LARGEST_VARIANCE
    estimates, errors, chi_squared = _weighted(columns, k, n, 0.0, degrees)
    if degrees == 0 or chi_squared <= degrees:
        return estimates, errors, 0.0
    for _ in range(40):
        middle = (low + high) / 2
        estimates, errors, chi_squared = _weighted(columns, k, n, middle, degrees)
        low, high = (middle, high) if chi_squared > degrees else (low, middle)
    return estimates, errors, high


def _weighted(
    columns: Float[np.ndarray, "cells parameters"],
    k: Float[np.ndarray, "cells"],
    n: Float[np.ndarray, "cells"],
    variance: float,
    degrees: int,
) -> tuple[Float[np.ndarray, "parameters"], _Errors, float]:
    """Solve the quasi-likelihood equations with variance n p q (1 + variance n p q) of a count (Williams's model II).

    statsmodels' GLM takes no variance that depends on the fitted rate and on a further parameter.
    """
    from scipy.special import expit

    rates, estimates = (k + 0.5) / (n + 1), np.zeros(columns.shape[1])
    log_odds = np.log(rates / (1 - rates))
    for _ in range(100):
        rates = np.clip(expit(log_odds), 1e-9, 1 - 1e-9)
        spread = n * rates * (1 - rates)
        weights = spread / (1 + variance * spread)
        information = columns.T @ (weights[:, None] * columns)
        inverse = np.linalg.pinv(information, rcond=1e-10, hermitian=True)
        previous, estimates = estimates, inverse @ columns.T @ (weights * (log_odds + (k - n * rates) / spread))
        log_odds = columns @ estimates
        if np.abs(estimates - previous).max() < _EXACT:
            break
    rates = np.clip(expit(log_odds), 1e-9, 1 - 1e-9)
    spread = n * rates * (1 - rates)
    weights, residuals = spread / (1 + variance * spread), (k - n * rates) / spread
    chi_squared = float((weights * residuals**2).sum())
    leverage = np.clip(weights * np.einsum("ij,jk,ik->i", columns, inverse, columns), 0, LARGEST_LEVERAGE)
    # HC3 up to two and a half times a squared residual, beyond that HC2: with hardly a degree of freedom HC3 explodes.
    scale = np.maximum(1 / (1 - leverage), np.minimum(2.5, 1 / (1 - leverage) ** 2))
    robust = inverse @ columns.T @ (((weights * residuals) ** 2 * scale)[:, None] * columns) @ inverse
    # Satterthwaite: an effect of two cells among many has a robust error of two residuals, however many there are.
    shares = (inverse @ columns.T) ** 2 * weights
    own = shares.sum(axis=1) ** 2 / np.maximum((shares**2).sum(axis=1), 1e-300) - 1
    errors = (
        (np.sqrt(np.diag(inverse)), np.full(len(estimates), float(degrees))),
        (np.sqrt(np.diag(robust)), np.minimum(float(degrees), np.maximum(2.0, own))),
    )
    return estimates, errors, chi_squared


def _null_space(columns: Float[np.ndarray, "cells parameters"]) -> Bool[np.ndarray, "directions parameters"]:
    """Return the parameters of each direction that changes no cell, as few in each as can be."""
    from scipy.linalg import null_space

    basis = null_space(columns, rcond=1e-10).T.copy()
    row = 0
    for column in range(basis.shape[1] if len(basis) else 0):
        pivot = row + int(np.abs(basis[row:, column]).argmax())
        if abs(basis[pivot, column]) < _EXACT:
            continue
        basis[[row, pivot]] = basis[[pivot, row]]
        basis[row] /= basis[row, column]
        others = np.arange(len(basis)) != row
        basis[others] -= np.outer(basis[others, column], basis[row])
        row += 1
        if row == len(basis):
            break
    return np.abs(basis) > _EXACT


def _linked(null: Bool[np.ndarray, "directions parameters"], index: int) -> Bool[np.ndarray, "parameters"]:
    """Return which parameters can be moved together with this one, itself included; none where nothing moves it."""
    linked = np.arange(null.shape[1]) == index
    while True:
        wider = null[(null & linked).any(axis=1)].any(axis=0)
        if not (wider & ~linked).any():
            return wider
        linked |= wider


def _design(cells: pl.DataFrame) -> tuple[list[tuple[str, str]], Float[np.ndarray, "cells parameters"]]:
    """Return the names of the columns but the constant and the products, and the matrix.

    It has a column for each value that is not the default, then subjects, scenarios, the constant, goal with threat.
    """
    varied = [(factor, value) for factor, values in FACTORS.items() for value in _varied(cells, factor, values)]
    fixed = [(name, value) for name in ("subject", "scenario") for value in cells[name].unique(maintain_order=True)[1:]]
    column = {term: (cells[term[0]] == term[1]).to_numpy().astype(float) for term in (*varied, *fixed)}
    matrix = np.column_stack([*column.values(), np.ones(len(cells))])
    for goal, threat in product(
        (term for term in varied if term[0] == "goal"), (term for term in varied if term[0] == "threat")
    ):
        with_both = np.column_stack([matrix, column[goal] * column[threat]])
        # A product that the other columns already span would add nothing.
        if np.linalg.matrix_rank(with_both) > np.linalg.matrix_rank(matrix):
            matrix = with_both
    return [*varied, *fixed], matrix


def _varied(cells: pl.DataFrame, factor: str, values: Sequence[str]) -> list[str]:
    there = set(cells[factor])
    return (
        [value for value in values if value in there and value != getattr(BASELINE, factor)] if len(there) > 1 else []
    )
