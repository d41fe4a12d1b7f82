"""Variance components of readings by crossed factors: how much of their spread lies in runs, questions, judges, wordings,
repeats, and in what two of them do together.

Moments by Henderson's first method, which takes unequal and missing readings as they are: sums of squares within the
cells of each component, solved for the variances. Runs, questions and answers are a sample of more; judges and wordings
are those that were given, so that their variance is that of their own means. Intervals are modified large-sample ones
(Graybill and Wang 1980): chi-squared for the units of a component, and for the rest a jackknife that leaves out runs,
questions and answers in turn (Cameron, Gelbach and Miller 2011). Left to others: which factors there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import chi2, t

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.intervals import Interval

BLOCKS = 40
"""Most blocks of answers that the jackknife leaves out in turn."""
_TINY = 1e-9

Codes = Int[np.ndarray, " readings"]
Tables = Float[np.ndarray, "cells b"]
Spread = tuple[Float[np.ndarray, " c"], int]


@dataclass(frozen=True)
class Component:
    """Part of the variance of readings.

    Attributes:
        factors: names of the factors that it belongs to; none for what repeats alone differ in.
        variance: estimate, at least 0; None where the design cannot tell it.
        interval: of the variance, over further runs, questions and answers; None where there is none.
        note: why it cannot be told, or that it is exactly 0.
    """

    factors: tuple[str, ...]
    variance: float | None
    interval: Interval | None = None
    note: str = ""


def variance_components(
    values: Float[np.ndarray, " readings"],
    factors: Mapping[str, Codes],
    components: Sequence[tuple[str, ...]],
    *,
    sampled: Sequence[str],
    nested: Mapping[str, Sequence[str]],
    level: float = 0.95,
) -> tuple[Component, ...]:
    """Split the variance of readings.

    Args:
        values: the readings.
        factors: name -> number of the level of each reading.
        components: sets of factors by which parts are told apart, the most important first; what is left is the last
            component, without factors.
        sampled: factors whose levels are a sample of more, those of the jackknife; all others are taken as given.
        nested: factor -> factors that it lies within: an answer is of one run and to one question.
        level: nominal coverage.

    Raises:
        EmptyDataError: fewer than two readings.
        ConfigurationError: readings that are not finite.
    """
    if values.size < 2:
        raise EmptyDataError(f"Variance needs at least two readings, and there are {values.size}.")
    if not np.isfinite(values).all():
        raise ConfigurationError("A reading is not finite. Leave out readings that failed.")
    design = _Design(factors, nested, values.size)
    components_kept, reasons = _estimable(design, [*components, ()])
    centred = values - values.mean()
    same = design.repeats_agree(values) and () in components_kept
    spread = {name: _jackknife(design, components_kept, centred, name) for name in sampled if design.levels(name) > 1}
    estimate = design.solve(components_kept, centred)[0]
    estimates = []
    for own in [*components, ()]:
        if own in reasons:
            estimates.append(Component(own, None, note=reasons[own]))
        elif own == () and same:
            estimates.append(Component(own, 0.0, Interval(0.0, 0.0, level, "exact"), "all repeats agree exactly"))
        else:
            at = components_kept.index(own)
            interval = _interval(design, components_kept, estimate, at, spread, sampled, level) if spread else None
            estimates.append(Component(own, max(0.0, float(estimate[at])), interval))
    return tuple(estimates)


@dataclass(frozen=True)
class _Design:
    factors: Mapping[str, Codes]
    nested: Mapping[str, Sequence[str]]
    size: int

    @cached_property
    def _cells(self) -> dict[frozenset[str], Codes]:
        return {}

    def levels(self, name: str) -> int:
        return int(self.factors[name].max()) + 1 if name in self.factors else 0

    def closed(self, own: Sequence[str]) -> frozenset[str]:
        """Return factors with those that they are nested in; the last component is nested in all."""
        names = own or tuple(self.factors)
        return frozenset({*names, *(upper for name in names for upper in self.nested.get(name, ()))}) & set(
            self.factors
        )

    def cells(self, names: frozenset[str]) -> Codes:
        """Return the number of the cell of each reading."""
        if names not in self._cells:
            code = np.zeros(self.size, np.int64)
            for name in sorted(names):
                code = np.unique(code * self.levels(name) + self.factors[name], return_inverse=True)[1].reshape(-1)
            self._cells[names] = code
        return self._cells[names]

    def of(self, own: tuple[str, ...]) -> Codes:
        return self.cells(self.closed(own)) if own else np.arange(self.size)

    def joint(self, first: tuple[str, ...], second: tuple[str, ...]) -> Codes:
        if not first or not second:
            return np.arange(self.size)
        return self.cells(self.closed(first) | self.closed(second))

    def _without(self, cells: Codes, blocks: Codes, values: Float[np.ndarray, " readings"] | None = None) -> Tables:
        """Return the sum in each cell without each block; the first column leaves out nothing."""
        rows, columns = int(cells.max()) + 1, int(blocks.max()) + 2
        table = np.bincount(cells * columns + blocks + 1, values, rows * columns).reshape(rows, columns).astype(float)
        return table.sum(axis=1, keepdims=True) - table

    def matrix(self, own: Sequence[tuple[str, ...]], blocks: Codes) -> Float[np.ndarray, "b c c"]:
        """Return the expected sums of squares in all and within the cells of each component but the last, without each
        block."""
        levels = np.zeros(self.size, np.int64)
        sizes = {one: self._without(self.of(one) if one else levels, blocks) for one in ((), *own[:-1])}
        total = sizes[()][0]
        shares: dict[tuple[frozenset[str], frozenset[str]], Float[np.ndarray, " b"]] = {}
        rows = []
        for group in ((), *own[:-1]):
            above = self.closed(group) if group else frozenset()
            row = []
            for one in own:
                joint = above | self.closed(one)
                if (above, joint) not in shares:
                    shares[above, joint] = self._shares(group, one, sizes[group], total, blocks)
                row.append(total - shares[above, joint] if one else total - (sizes[group] > 0).sum(axis=0))
            rows.append(row)
        return np.moveaxis(np.array(rows, float), -1, 0)

    def _shares(
        self, group: tuple[str, ...], one: tuple[str, ...], sizes: Tables, total: Float[np.ndarray, " b"], blocks: Codes
    ) -> Float[np.ndarray, " b"]:
        """Return the sum over cells of the squared sizes of their parts, each by the size of its cell."""
        if not one or (group and self.closed(one) <= self.closed(group)):
            return total
        parts = self.joint(group, one) if group else self.of(one)
        within = np.zeros(int(parts.max()) + 1, np.int64)
        within[parts] = self.of(group) if group else 0
        return (self._without(parts, blocks) ** 2 / np.maximum(sizes[within], 1)).sum(axis=0)

    def solve(
        self, own: Sequence[tuple[str, ...]], values: Float[np.ndarray, " readings"], blocks: Codes | None = None
    ) -> Float[np.ndarray, "b c"]:
        """Return the variances whose expected sums of squares are those of the readings: of all, then without each
        block."""
        blocks = np.zeros(self.size, np.int64) if blocks is None else blocks
        levels = np.zeros(self.size, np.int64)
        squares = self._without(levels, blocks, values**2)[0]
        within = []
        for group in ((), *own[:-1]):
            cells = self.of(group) if group else levels
            sums, sizes = self._without(cells, blocks, values), self._without(cells, blocks)
            within.append(squares - (sums**2 / np.maximum(sizes, 1)).sum(axis=0))
        matrices = self.matrix(own, blocks)
        # A block may hold all levels of a factor: what is then left undetermined counts as nothing.
        return np.array(
            [np.linalg.lstsq(each, one, rcond=1e-10)[0] for each, one in zip(matrices, np.array(within).T, strict=True)]
        )

    def repeats_agree(self, values: Float[np.ndarray, " readings"]) -> bool:
        """Return whether there are repeats, and each is exactly like the first."""
        cell = self.cells(self.closed(()))
        low, high = np.full(cell.max() + 1, np.inf), np.full(cell.max() + 1, -np.inf)
        np.minimum.at(low, cell, values)
        np.maximum.at(high, cell, values)
        return bool(cell.max() + 1 < self.size and (low == high).all())


def _estimable(
    design: _Design, wanted: Sequence[tuple[str, ...]]
) -> tuple[list[tuple[str, ...]], dict[tuple[str, ...], str]]:
    """Return the components that the design can tell, and why it cannot tell the others."""
    reasons: dict[tuple[str, ...], str] = {}
    apart: list[tuple[str, ...]] = []
    for own in wanted:
        few = [name for name in own if design.levels(name) < 2]
        same = [other for other in apart if own and _alike(design.of(own), design.of(other))]
        if few:
            reasons[own] = f"there is no more than one {few[0]}"
        elif own and _alike(design.of(own), np.arange(design.size)):
            reasons[own] = "cannot be told from repeats: no reading was repeated"
        elif same:
            reasons[own] = f"cannot be told from {' × '.join(same[0])}"
        else:
            apart.append(own)
    # The last one is what every reading has of its own; each other has to add an equation that can be solved.
    matrix = design.matrix(apart, np.zeros(design.size, np.int64))[0]
    scaled = matrix / np.maximum(matrix.max(axis=0), _TINY)
    kept: list[int] = []
    for at, own in enumerate(apart[:-1]):
        trial = [*kept, at]
        equations = scaled[np.ix_([0, *(one + 1 for one in trial)], [*trial, len(apart) - 1])]
        if np.linalg.matrix_rank(equations, tol=1e-6) > len(trial):
            kept.append(at)
        else:
            reasons[own] = "cannot be told from the others in this design"
    return [*(apart[at] for at in kept), ()], reasons


def _alike(first: Codes, second: Codes) -> bool:
    """Return whether two numberings divide the readings in the same way."""
    cells = int(first.max()) + 1
    return cells == int(second.max()) + 1 == len(np.unique(first * (int(second.max()) + 1) + second))


def _jackknife(
    design: _Design, own: Sequence[tuple[str, ...]], values: Float[np.ndarray, " readings"], name: str
) -> Spread:
    """Return the variances of the estimates over the levels of a factor, and how many blocks of them are left out in
    turn."""
    levels = design.levels(name)
    blocks = np.random.default_rng(0).permutation(levels) % min(levels, BLOCKS)
    without = design.solve(own, values, blocks[design.factors[name]])[1:]
    number = len(without)
    return (number - 1) / number * ((without - without.mean(axis=0)) ** 2).sum(axis=0), number


def _interval(
    design: _Design,
    own: Sequence[tuple[str, ...]],
    estimate: Float[np.ndarray, " c"],
    at: int,
    spread: Mapping[str, Spread],
    sampled: Sequence[str],
    level: float,
) -> Interval:
    """Return the interval of one component."""
    crossed = [spread[name] for name in spread if not design.nested.get(name)]
    cells = [spread[name] for name in spread if design.nested.get(name)]
    # Two-way clustering: what runs and questions share, the answers, would be counted twice.
    both = sum(float(one[at]) for one, _ in crossed)
    if len(crossed) != 1:
        both += sum(float(one[at]) for one, _ in cells) * (-1 if crossed else 1)
    parts = crossed or cells
    total = max([both, *(float(one[at]) for one, _ in parts)])
    weights = [float(one[at]) ** 2 / (number - 1) for one, number in parts]
    freedom = sum(float(one[at]) for one, _ in parts) ** 2 / max(sum(weights), _TINY**2)
    units, mean_square = _own_units(design, own, estimate, at, sampled)
    tail = (1 - level) / 2
    up = down = rest = 0.0
    if units:
        up = (units / chi2.ppf(tail, units) - 1) * mean_square
        down = (1 - units / chi2.ppf(1 - tail, units)) * mean_square
        rest = 2 * mean_square**2 / units
    reach = t.ppf(1 - tail, max(1.0, freedom)) * np.sqrt(max(0.0, total - rest))
    low, high = estimate[at] - np.hypot(down, reach), estimate[at] + np.hypot(up, reach)
    return Interval(max(0.0, float(low)), max(0.0, float(high)), level, "modified large sample, jackknife")


def _own_units(
    design: _Design, own: Sequence[tuple[str, ...]], estimate: Float[np.ndarray, " c"], at: int, sampled: Sequence[str]
) -> tuple[int, float]:
    """Return the degrees of freedom of a component's units and their mean square: 0 where no factor is a sample."""
    names = design.closed(own[at])
    if own[at] and not names & set(sampled):
        return 0, 0.0
    group = design.of(own[at])
    mean_square = 0.0
    for one, variance in zip(own, estimate, strict=True):
        if names <= design.closed(one):
            part = design.joint(own[at], one)
            sizes, parts = np.bincount(group), np.bincount(part)
            squared = parts[part] / sizes[group] / sizes[group]
            mean_square += max(0.0, float(variance)) * float(squared.sum()) / len(sizes)
    return max(1, _freedom(design, own[at])), mean_square


def _freedom(design: _Design, own: tuple[str, ...]) -> int:
    """Return the degrees of freedom of a component in a design of full crossing."""
    if not own:
        return design.size - int(design.cells(design.closed(())).max()) - 1
    number = 1
    for name in own:
        above = [upper for upper in design.nested.get(name, ()) if design.levels(upper) > 1]
        taken = sum(design.levels(upper) - 1 for upper in above) + 1
        number *= max(1, design.levels(name) - taken)
    return number
