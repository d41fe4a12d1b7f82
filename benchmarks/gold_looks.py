"""Gold judgements allotted from look to look: how often a claim is decided wrongly. Run: python benchmarks/gold_looks.py

Each look of a simulated study either adds seeds or has the gold judge read more answers of the runs there are, as
`engine/allotment.py` chooses when there is time for so many runs. Intervals and boundaries are those of studies. One arm,
rates of runs normal on the logit scale; a cheap judge errs on `error` of the answers, more on some questions than on
others. `--beyond` puts the truth so far above the border, and tells how many claims are decided, and how many where seeds
alone are added for as long as there is time.
"""

import argparse
import sys
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from astray.engine.allotment import Costs, Sample, allotted, parts_of
from astray.stats.intervals import run_limits
from astray.stats.prediction_powered import PowerTuned, check_by_gold, power_tuned
from astray.stats.sequential import Looks
from gold import COHERENT, beta

STUDIES, ERROR, LOOKS = 2000, 0.05, Looks((3, 5, 8, 12, 20))
QUESTIONS, SAMPLES, READ = 12, 10, 10
"""Questions, answers of a run to each, and answers of a run that the gold judge reads at first."""
NO_VERDICT = 8
"""Outcome of an answer that both judges find incoherent; of others it is 3 x the gold judge's + the cheap one's."""


@dataclass(frozen=True)
class Design:
    """A true rate, how runs vary on the logit scale, the cheap judge's error, and training runs that there is time for."""

    rate: float
    spread: float
    error: float
    time: int


DESIGNS = tuple(
    Design(rate, spread, error, time)
    for rate, spread, error in ((0.1, 0.3, 0.1), (0.3, 0.3, 0.3), (0.5, 0.0, 0.3))
    for time in (14, 8)
)


def simulated(design: Design, studies: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the outcome by both judges of each answer (study x run x answer), in the order in which a gold judge would
    read them, evenly over the questions, and the true rate of each study."""
    shape = (studies, LOOKS.units[-1], QUESTIONS)
    hard = np.clip(beta(design.rate, 0.1, (studies, 1, QUESTIONS), generator), 1e-9, 1 - 1e-9)
    z = np.linspace(-6, 6, 61)
    weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    truth = (expit(logit(hard)[..., None] + design.spread * z) * weights).sum(-1).mean(axis=(1, 2))
    rates = expit(logit(hard) + design.spread * generator.standard_normal((*shape[:2], 1)))
    errs = generator.beta(2 * design.error, 2 * (1 - design.error), (studies, 1, QUESTIONS))
    # Answers of a question are alike but for chance, so their order within it is random already; questions take turns.
    places = np.argsort(generator.random((*shape[:2], SAMPLES, QUESTIONS)), axis=-1)
    places = places.reshape(*shape[:2], SAMPLES * QUESTIONS)
    bad = generator.random(places.shape) < np.take_along_axis(rates, places, -1)
    wrong = generator.random(places.shape) < np.take_along_axis(np.broadcast_to(errs, shape), places, -1)
    outcome = 3 * ~bad + (bad == wrong)
    return np.where(generator.random(places.shape) < COHERENT, outcome, NO_VERDICT).astype(np.int8), truth


def tallies(outcomes: np.ndarray, runs: int, read: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cheap verdicts on all answers of each run, and gold x cheap verdicts on the first that are read."""

    def counted(part: np.ndarray) -> np.ndarray:
        return np.stack([(part == each).sum(-1) for each in range(9)], -1).reshape(*part.shape[:2], 3, 3)

    return counted(outcomes[:, :runs]).sum(axis=2), counted(outcomes[:, :runs, :read])


def next_of(
    found: PowerTuned, study: int, look: int, state: tuple[int, int], time: int, seeds: bool
) -> tuple[int, int]:
    """Return the runs and the answers that are read of each at the next look of a study."""
    names = [((run,), ("all",)) for run in range(state[0])]
    check, by_run, _ = check_by_gold(names, found.cheap[study], found.both[study])
    parts = parts_of(check, by_run.values())
    most = READ * LOOKS.units[look + 1], READ * LOOKS.units[-1]
    sample = Sample(*state, QUESTIONS * SAMPLES, most, 1, 1)
    costs = Costs(0.0, 1.0, 0.001, None, time + 0.5, float(state[0]))
    if seeds:
        return sample.further_runs, sample.read
    choice = allotted(sample, parts.shares, costs, 1 - LOOKS.nominal(look + 1, ERROR))
    return choice.runs, choice.read


def measure(design: Design, studies: int, seed: int, beyond: float = 0.0, *, seeds: bool = False) -> dict[str, float]:
    """Return the share of studies that decide wrongly and rightly, and their mean runs and gold judgements at the end;
    with `seeds`, all judgements go to further seeds."""
    outcomes, truth = simulated(design, studies, np.random.default_rng(seed))
    border = truth - beyond
    states = np.tile((LOOKS.units[0], READ), (studies, 1))
    wrong, right, over = (np.zeros(studies, bool) for _ in range(3))
    for look in range(len(LOOKS.units)):
        going, now = ~(wrong | right | over), states.copy()
        for state in np.unique(now[going], axis=0):
            own = np.flatnonzero(going & (now == state).all(axis=1))
            runs, read = map(int, state)
            found = power_tuned(*tallies(outcomes[own], runs, read), np.arange(runs))
            low, high = run_limits(*found.counts(np.eye(runs, dtype=bool)))(1 - LOOKS.nominal(look, ERROR))
            wrong[own] = (high < border[own]) | ((low > border[own]) & (beyond == 0))
            right[own] = (low > border[own]) & (beyond > 0)
            if look + 1 < len(LOOKS.units):
                for study, index in enumerate(own):
                    if not (wrong[index] or right[index]):
                        then = next_of(found, study, look, (runs, read), design.time, seeds)
                        over[index] = then[0] > max(design.time, runs)
                        states[index] = (runs, read) if over[index] else then
    return {
        "wrong": float(wrong.mean()),
        "decided": float(right.mean()),
        "runs": float(states[:, 0].mean()),
        "judgements": float(states.prod(axis=1).mean()),
    }


def main(arguments: list[str]) -> None:
    """Print a line for each design."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--beyond", type=float, default=0.0, help="the truth lies so far above the border")
    given = parser.parse_args(arguments)
    last = ("decided", "by seeds alone") if given.beyond else ("wrong",)
    head = ("rate", "spread", "cheap judge errs", "time for", "runs", "gold judgements", *last)
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for seed, design in enumerate(DESIGNS):
        got = measure(design, given.studies, seed // 2, given.beyond)
        if given.beyond:
            got["by seeds alone"] = measure(design, given.studies, seed // 2, given.beyond, seeds=True)["decided"]
        shares = " | ".join(f"{got[name]:.1%}" for name in last)
        print(
            f"| {design.rate:.0%} | {design.spread} | {design.error:.0%} | {design.time} runs "
            f"| {got['runs']:.1f} | {got['judgements']:.0f} | {shares} |",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
