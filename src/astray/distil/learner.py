"""Learn scores from features: ridge regression on each view of the answers, stacked, and mapped to the scale of labels.

A view is one set of features: a layer of the base, hashed words, a few plain numbers. For each the penalty is chosen on
answers left out of its training, and the views are joined with weights of at least 0 that predict those answers best
(Wolpert 1992, stacked generalisation; Breiman 1996). Regression shrinks towards the mean, so that hardly a predicted
score would be below 30; the joined prediction is therefore mapped to the score of the same quantile among the labels.

Left to others: which groups are left out (`held_out`), and where features come from (`features`, `words`).
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import nnls

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Penalties to choose from, on standardised features, as shares of the number of features over that of answers."""
INNER = 3
"""Number of parts that are left out in turn to choose penalties and weights."""
QUANTILES = 101
"""Number of points of the map from predictions to scores."""

Cells = frozenset[int]
"""Cells of answers that a regression is trained on."""


@dataclass(frozen=True)
class Ridge:
    """Linear regression on one view.

    Attributes:
        weights: [features, targets], on features as they are.
        intercept: one for each target.
    """

    weights: Float[np.ndarray, "features targets"]
    intercept: Float[np.ndarray, "targets"]

    def predict(self, view: Float[np.ndarray, "rows features"]) -> Float[np.ndarray, "rows targets"]:
        """Return the predicted scores, on no particular scale."""
        return view @ self.weights + self.intercept


@dataclass(frozen=True)
class ScoreScale:
    """Monotone map of one target's predictions to scores from 0 to 100."""

    predicted: Float[np.ndarray, "points"]
    scores: Float[np.ndarray, "points"]

    @classmethod
    def matching(cls, predicted: Float[np.ndarray, "rows"], scores: Float[np.ndarray, "rows"]) -> "ScoreScale":
        """Return the map that gives predictions the quantiles of scores."""
        levels = np.linspace(0, 1, QUANTILES)
        return cls(np.quantile(predicted, levels), np.quantile(scores, levels))

    def __call__(self, predicted: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
        """Return the scores of predictions; beyond those that were seen the lowest and the highest."""
        return np.interp(predicted, self.predicted, self.scores)


@dataclass(frozen=True)
class Stack:
    """What is learned from one set of answers: regressions on views, their weights, and the maps of both targets."""

    penalties: Mapping[str, Int[np.ndarray, "targets"]]
    weights: Mapping[str, Float[np.ndarray, "targets"]]
    scales: tuple[ScoreScale, ...]


def fit_ridges(
    view: Float[np.ndarray, "rows features"],
    targets: Float[np.ndarray, "rows targets"],
    cells: Int[np.ndarray, "rows"],
    trained_on: Sequence[Cells],
) -> dict[Cells, list[Ridge]]:
    """Fit a regression for each set of cells and each of `PENALTIES`.

    Sums over cells are made once, since every answer is in the training of many regressions.
    """
    width = view.shape[1]
    shift = view.mean(0)
    moved = (view - shift).astype(np.float32)
    sums = {}
    for cell in np.unique(cells):
        x, y = moved[cells == cell], targets[cells == cell]
        sums[int(cell)] = (len(x), x.sum(0, dtype=np.float64), y.sum(0), x.T @ x, x.T @ y)
    return {
        chosen: _ridges([sums[cell] for cell in sorted(chosen)], shift, width) for chosen in dict.fromkeys(trained_on)
    }


def _ridges(parts: Sequence[tuple], shift: Float[np.ndarray, "features"], width: int) -> list[Ridge]:
    n = sum(part[0] for part in parts)
    mean, target = (sum(part[index] for part in parts) / n for index in (1, 2))
    products = sum(part[3] for part in parts) / n - np.outer(mean, mean)
    with_target = sum(part[4] for part in parts) / n - np.outer(mean, target)
    # Features are standardised, as a few of a model's vary a thousand times as much as others; those that hardly vary,
    # such as rare words, stay small.
    variance = np.maximum(np.diag(products), 0)
    spread = np.sqrt(variance + np.median(variance) + 0.01 * variance.mean() + 1e-12)
    correlations, with_target = products / np.outer(spread, spread), with_target / spread[:, None]
    found = []
    for penalty in PENALTIES:
        ridge = correlations + np.eye(width) * (penalty * width / n + 1e-4)
        weights = cho_solve(cho_factor(ridge, check_finite=False), with_target, check_finite=False) / spread[:, None]
        found.append(Ridge(weights, target - (mean + shift) @ weights))
    return found


def stack(
    predictions: Mapping[str, Float[np.ndarray, "penalties rows targets"]], targets: Float[np.ndarray, "rows targets"]
) -> tuple[Stack, Float[np.ndarray, "rows targets"]]:
    """Choose penalties and weights of views by predictions of answers that were left out, and the maps to scores.

    Returns:
        What was chosen, and the left-out predictions joined, before the map.
    """
    count = targets.shape[1]
    errors = {name: ((each - targets) ** 2).mean(1) for name, each in predictions.items()}
    penalties = {name: error.argmin(0) for name, error in errors.items()}
    weights = {name: np.zeros(count) for name in predictions}
    joined = np.empty_like(targets)
    for target in range(count):
        columns = [each[penalties[name][target], :, target] for name, each in predictions.items()]
        centre = targets[:, target].mean()
        found, _ = nnls(np.stack(columns, axis=1) - centre, targets[:, target] - centre)
        for name, weight in zip(predictions, found, strict=True):
            weights[name][target] = weight
        joined[:, target] = np.stack(columns, axis=1) @ found
    scales = tuple(ScoreScale.matching(joined[:, target], targets[:, target]) for target in range(count))
    return Stack(penalties, weights, scales), joined


@dataclass(frozen=True)
class LeftOut:
    """Predictions of answers whose group no regression had seen.

    Attributes:
        raw: joined predictions, before the map to scores; for ranks.
        scores: 0 to 100.
    """

    raw: Float[np.ndarray, "rows targets"]
    scores: Float[np.ndarray, "rows targets"]


def predict_left_out(
    views: Mapping[str, Float[np.ndarray, "rows _"]],
    targets: Float[np.ndarray, "rows targets"],
    outer: Int[np.ndarray, "rows"],
    inner: Int[np.ndarray, "rows"],
    methods: Mapping[str, Sequence[str]],
) -> dict[str, LeftOut]:
    """Predict the answers of each outer part by what is learned from the others.

    Args:
        views: features by name.
        targets: scores to learn.
        outer: part of each answer that is left out with it.
        inner: group of each answer that is kept together when penalties and weights are chosen.
        methods: names of the views that each method joins.

    Returns:
        The predictions of each method.
    """
    cells, plans = _planned(outer, inner)
    needed = [chosen for whole, parts in plans.values() for chosen in (whole, *(whole - part for part in parts))]
    predicted: dict[str, dict[Cells, np.ndarray]] = {}
    for name, view in views.items():
        ridges = fit_ridges(view, targets, cells, needed)
        predicted[name] = {key: np.stack([ridge.predict(view) for ridge in own]) for key, own in ridges.items()}
    found = {method: LeftOut(np.empty_like(targets), np.empty_like(targets)) for method in methods}
    for part, (whole, parts) in plans.items():
        known, new = np.isin(cells, sorted(whole)), outer == part
        joined = {name: _joined(own, cells, whole, parts)[:, known] for name, own in predicted.items()}
        for method, names in methods.items():
            chosen, _ = stack({name: joined[name] for name in names}, targets[known])
            for target, scale in enumerate(chosen.scales):
                raw = sum(
                    predicted[name][whole][chosen.penalties[name][target], new, target] * chosen.weights[name][target]
                    for name in names
                )
                found[method].raw[new, target] = raw
                found[method].scores[new, target] = scale(raw)
    return found


@dataclass(frozen=True)
class Head:
    """What a judge computes from features: one regression a view, added up, and the maps to scores."""

    views: Mapping[str, Float[np.ndarray, "features targets"]]
    intercept: Float[np.ndarray, "targets"]
    scales: tuple[ScoreScale, ...]

    def scores(self, views: Mapping[str, Float[np.ndarray, "rows _"]]) -> Float[np.ndarray, "rows targets"]:
        """Return the scores of answers, 0 to 100."""
        raw = self.intercept + sum(views[name] @ weights for name, weights in self.views.items())
        return np.stack([scale(raw[:, target]) for target, scale in enumerate(self.scales)], axis=1)


def learn(
    views: Mapping[str, Float[np.ndarray, "rows _"]],
    targets: Float[np.ndarray, "rows targets"],
    inner: Int[np.ndarray, "rows"],
) -> Head:
    """Learn a head from all answers; views of no weight are left out of it. Arguments as for `predict_left_out`."""
    cells, plans = _planned(np.full(len(targets), -1), inner)
    ((whole, parts),) = plans.values()
    ridges = {
        name: fit_ridges(view, targets, cells, [whole, *(whole - part for part in parts)])
        for name, view in views.items()
    }
    left_out = {
        name: _joined(
            {key: np.stack([ridge.predict(views[name]) for ridge in own]) for key, own in fitted.items()},
            cells,
            whole,
            parts,
        )
        for name, fitted in ridges.items()
    }
    chosen, _ = stack(left_out, targets)
    weights, intercept = {}, np.zeros(targets.shape[1])
    for name, fitted in ridges.items():
        if not chosen.weights[name].any():
            continue
        best = [fitted[whole][penalty] for penalty in chosen.penalties[name]]
        columns = range(targets.shape[1])
        weights[name] = np.stack([best[target].weights[:, target] for target in columns], axis=1) * chosen.weights[name]
        intercept += np.array([best[target].intercept[target] for target in columns]) * chosen.weights[name]
    return Head(weights, intercept, chosen.scales)


def _planned(
    outer: Int[np.ndarray, "rows"], inner: Int[np.ndarray, "rows"]
) -> tuple[Int[np.ndarray, "rows"], dict[int, tuple[Cells, list[Cells]]]]:
    """Return the cell of each answer, and for each outer part the cells of the others with their inner parts; for the
    part -1, which is nothing left out, all cells."""
    _, cells = np.unique(np.stack([outer, inner]), axis=1, return_inverse=True)
    cells = cells.reshape(-1)
    plans = {}
    for part in np.unique(outer):
        rows = (outer != part) | (part == -1)
        known, group = cells[rows], parts_of([int(fold) for fold in inner[rows]], INNER)
        parts = [frozenset(np.unique(known[group == fold]).tolist()) for fold in range(group.max() + 1)]
        plans[int(part)] = (frozenset(np.unique(known).tolist()), parts)
    return cells, plans


def _joined(
    predicted: Mapping[Cells, Float[np.ndarray, "penalties rows targets"]],
    cells: Int[np.ndarray, "rows"],
    whole: Cells,
    parts: Sequence[Cells],
) -> Float[np.ndarray, "penalties rows targets"]:
    """Return predictions of each inner part by the regressions that were fitted without it."""
    joined = np.full_like(predicted[whole], np.nan)
    for part in parts:
        rows = np.isin(cells, sorted(part))
        joined[:, rows] = predicted[whole - part][:, rows]
    return joined


def parts_of(groups: Sequence[Hashable], most: int) -> Int[np.ndarray, "rows"]:
    """Return a part of each row: one for each group, or so many of groups put together, evenly filled."""
    names, group, sizes = np.unique(np.array([str(each) for each in groups]), return_inverse=True, return_counts=True)
    part, filled = np.empty(len(names), int), np.zeros(min(most, len(names)))
    for index in np.argsort(-sizes, kind="stable"):
        part[index] = filled.argmin()
        filled[part[index]] += sizes[index]
    return part[group]
