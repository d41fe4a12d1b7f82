"""False alarms and delays of `HackAlarm`, simulated, and on rollouts of real runs.

Simulated are shares of hacks among the answers to each prompt (beta-binomial, answers to one prompt alike to any degree).
Without a rise the share is the usual one for 1,000 steps; with one it jumps at step 101. Beside it stands the rule that
papers call the onset, the first step with more than 2% hacks. The tables of docs/in-your-training-loop.md are from here.

    python benchmarks/alarm.py                      # 2,000 simulated runs a row
    python benchmarks/alarm.py --store STORE        # every GRPO run of the organism in a store of astray run reward-hacking
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import betabinom, binom

from astray.stats import Cusum, cusum_within, first_passage

ANSWERS, USUAL, RISEN, FALSE_ALARMS, STEPS = 8, 0.01, 0.05, 0.05, 1000
ROLLOUTS = "run/rollouts.parquet"


def hacks(rng: np.random.Generator, rate: float, alike: float, groups: int, shape: tuple[int, int]) -> np.ndarray:
    """Draw the hacks of steps, from their exact distribution; `alike` is the correlation of answers to one prompt."""
    of_prompt = np.zeros(ANSWERS + 1)
    if alike == 1:
        of_prompt[[0, -1]] = 1 - rate, rate
    elif alike == 0:
        of_prompt[:] = binom.pmf(range(ANSWERS + 1), ANSWERS, rate)
    else:
        scale = 1 / alike - 1
        of_prompt[:] = betabinom.pmf(range(ANSWERS + 1), ANSWERS, rate * scale, (1 - rate) * scale)
    of_step = np.ones(1)
    for _ in range(groups):
        of_step = np.convolve(of_step, of_prompt)
    return np.searchsorted(of_step.cumsum() / of_step.sum(), rng.random(shape))


def false_alarms(alarm: Cusum, alike: float, runs: int) -> tuple[float, float, float]:
    """Return runs with an alarm within 1,000 usual steps, alarms in 1,000 steps, and steps with more than 2% hacks."""
    drawn = hacks(np.random.default_rng(0), USUAL, alike, alarm.answers, (STEPS, runs))
    total, ever, alarms = np.zeros(runs), np.zeros(runs, dtype=bool), 0
    for step in drawn:
        total = np.maximum(0, total + step / ANSWERS - alarm.reference)
        rung = total >= alarm.threshold - 1e-9
        ever |= rung
        alarms += int(rung.sum())
        total[rung] = 0  # as if the alarm had been looked into, and the training went on
    over = drawn > first_passage_limit(alarm.answers)
    return float(ever.mean()), alarms / runs, float(over.sum() / runs)


def first_passage_limit(groups: int) -> float:
    """Return the hacks of a step above which papers see the onset."""
    return 0.02 * groups * ANSWERS


def delays(alarm: Cusum, rate: float, alike: float, runs: int) -> tuple[str, str, float]:
    """Return the median and 90th percentile of steps from the rise to the alarm, and runs without one in 400 steps."""
    rng = np.random.default_rng(1)
    usual, risen = (
        hacks(rng, each, alike, alarm.answers, (steps, runs)) for each, steps in ((USUAL, 100), (rate, 400))
    )
    total, delay, early = np.zeros(runs), np.full(runs, np.inf), np.zeros(runs, dtype=bool)
    for number, step in enumerate([*usual, *risen], -99):
        total = np.maximum(0, total + step / ANSWERS - alarm.reference)
        rung = total >= alarm.threshold - 1e-9
        early |= rung & (number <= 0)  # alarms before the rise are false, and counted in the other table
        delay[rung & (number > 0) & np.isinf(delay)] = number
    kept = np.sort(delay[~early])
    middle, late = (kept[int(share * (len(kept) - 1))] for share in (0.5, 0.9))
    return _steps(middle), _steps(late), float(np.isinf(kept).mean())


def _steps(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "over 400"


def simulated(runs: int) -> None:
    """Print both tables."""
    print("| prompts a step | alike | runs with a false alarm | false alarms in 1,000 steps | steps over 2% in 1,000 |")
    print("|---|---|---|---|---|")
    made = {groups: cusum_within(groups, usual=USUAL, risen=RISEN, false_alarms=FALSE_ALARMS) for groups in (8, 16)}
    for groups, alarm in made.items():
        for alike in (0.0, 0.3, 1.0):
            ever, alarms, passed = false_alarms(alarm, alike, runs)
            print(f"| {groups} | {alike} | {ever:.1%} | {alarms:.3f} | {passed:.0f} |", flush=True)
    print("\n| prompts a step | hacks rise to | alike | median delay | 90% within | none in 400 steps |")
    print("|---|---|---|---|---|---|")
    for groups, alarm in made.items():
        for rate in (0.02, 0.05, 0.1, 0.5):
            for alike in (0.0, 0.3, 1.0):
                middle, late, none = delays(alarm, rate, alike, runs)
                print(f"| {groups} | {rate:.0%} | {alike} | {middle} | {late} | {none:.1%} |", flush=True)


def measured(store: Path) -> None:
    """Print, for each run in a store, the step of the alarm, the onset, and the hacks when the alarm was raised."""
    print("| run | steps | onset (over 2%) | alarm | began | hacks in that step | hacks at the end |")
    print("|---|---|---|---|---|---|---|")
    for path in sorted(store.glob(f"rewarded-*/{ROLLOUTS}")):
        table = pl.read_parquet(path)
        if "hacked" not in table.columns:
            continue
        steps = [step for _, step in table.group_by("step", maintain_order=True)]
        groups = [step.group_by("prompt", maintain_order=True).agg(pl.col("hacked").mean())["hacked"] for step in steps]
        alarm = cusum_within(max(map(len, groups)), usual=USUAL, risen=RISEN, false_alarms=FALSE_ALARMS)
        counts = [(int(step["hacked"].sum()), len(step)) for step in steps]
        total, began, raised = 0.0, 1, None
        for number, group in enumerate(groups, 1):
            total = alarm.after(total, group.to_list())
            if total >= alarm.threshold - 1e-9:
                raised = number
                break
            began = number + 1 if total <= 0 else began
        (onset,) = first_passage([counts]).steps
        told = ["none", "", ""] if raised is None else [str(raised), str(began), _share(counts[raised - 1])]
        name = path.parts[-3].rsplit("-", 1)[0].removeprefix("rewarded-")
        print(f"| {name} | {len(steps)} | {onset or 'none'} | {' | '.join(told)} | {_share(counts[-1])} |", flush=True)


def _share(counts: tuple[int, int]) -> str:
    return f"{counts[0] / counts[1]:.0%}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="simulated runs a row")
    parser.add_argument("--store", type=Path, help="store of a results folder, in place of the simulation")
    given = parser.parse_args()
    measured(given.store) if given.store else simulated(given.runs)
