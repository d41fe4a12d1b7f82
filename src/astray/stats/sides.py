"""Counts of the two sides of a comparison by question: of one model, of several training runs, or of two judges.

Left to others: bounds on the difference (noninferiority.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from astray.stats.intervals import Counts, Effective, check_counts


@dataclass(frozen=True)
class TwoJudges:
    """Effective counts of one side that a gold judge read a sample of (prediction_powered.py).

    Attributes:
        questions: counted and all answers by question, all runs together.
        runs: the same by training run.
    """

    questions: Mapping[str, Effective]
    runs: Sequence[Effective]


Side = Mapping[str, Counts] | Sequence[Mapping[str, Counts]] | TwoJudges
"""Counted and all answers by question, of one model or of several training runs."""


@dataclass(frozen=True)
class CountedSide:
    """Counts of one side by question, all runs together, with how many runs it has and what each showed."""

    questions: Mapping[str, Effective]
    by_run: Sequence[Mapping[str, Counts]] | Sequence[Effective]

    @classmethod
    def of(cls, side: Side) -> "CountedSide":
        """Return the counts of one side.

        Raises:
            ConfigurationError: counts that cannot be.
        """
        if isinstance(side, TwoJudges):
            check_counts([*side.questions.values(), *side.runs], whole=False)
            return cls(side.questions, side.runs)
        runs = [side] if isinstance(side, Mapping) else list(side)
        check_counts([counts for run in runs for counts in run.values() if counts[1]])
        totals = {
            name: (sum(run[name][0] for run in runs if name in run), sum(run[name][1] for run in runs if name in run))
            for name in dict.fromkeys(name for run in runs for name in run)
        }
        return cls(totals, runs)

    @property
    def runs(self) -> int:
        """Return the number of training runs."""
        return len(self.by_run)

    def runs_on(self, names: Sequence[str]) -> Float[np.ndarray, "2 runs"]:
        """Return counted and all answers of each run that has any to these questions; of two judges, to all."""
        runs = []
        for run in self.by_run:
            counts = [run[name] for name in names if name in run] if isinstance(run, Mapping) else [run]
            runs.append(np.array(counts, dtype=float).reshape(-1, 2).sum(axis=0))
        return np.array([each for each in runs if each[1]], dtype=float).T
