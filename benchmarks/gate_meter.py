"""Simulate gates by the meter at the border, as a table of `gate.py --tables meter`: twenty domains of twelve pairs."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from astray.measure.meter import MeterDifference, MeterEffect, Pair, meter_change
from astray.stats.intervals import t_interval
from astray.stats.noninferiority import LEVEL
from astray.studies.gate.bars import Verdict, verdict_of
from astray.studies.gate.metered import MARGIN as MOVED
from astray.studies.gate.metered import bounded, domain_margin


def metered(changes: np.ndarray) -> MeterDifference:
    """Return the comparison of one run with its base, as `meter_change` does, from changes by domain and pair."""
    level = 2 * LEVEL - 1

    def effect(values: np.ndarray, over: str) -> MeterEffect:
        mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
        interval = t_interval(mean, error, len(values) - 1, f"t over {over}", level)
        return MeterEffect(mean, interval, None, interval, {0: mean}, len(values), int((values > 0).sum()))

    of_domains = {f"d{number}": effect(values, "pairs") for number, values in enumerate(changes)}
    return MeterDifference(effect(changes.mean(axis=1), "domains"), None, of_domains, 0)


def _check_metered(changes: np.ndarray) -> None:
    """Assert that `metered` returns the bounds that the gate computes."""
    domains, each = changes.shape
    pairs = [
        Pair(domain=f"d{n // each}", id=str(n), question="?", answer="a", against="b") for n in range(domains * each)
    ]
    after = {pair.id: float(change) for pair, change in zip(pairs, changes.ravel(), strict=True)}
    by_gate = bounded(meter_change(pairs, dict.fromkeys(after, 0.0), after, level=2 * LEVEL - 1), None, MOVED)
    for bar, ours in zip(by_gate, bounded(metered(changes), None, MOVED), strict=True):
        assert np.allclose((bar.low, bar.high or 0.0), (ours.low, ours.high or 0.0))


def shapes_of_domains(rng: np.random.Generator, domains: int) -> dict[str, Callable[[float], np.ndarray]]:
    """Return what draws the changes of domains around a mean; the last ones rise beyond the margin of one domain."""
    sd, most = 0.05, domain_margin(MOVED, domains)

    def few(share: float) -> Callable[[float], np.ndarray]:
        return lambda mean: mean / share * rng.binomial(1, share, domains)

    def below_most(icc: float) -> Callable[[float], np.ndarray]:
        size, of_mean = 1 / icc - 1, MOVED / most
        return lambda mean: mean / of_mean * rng.beta(of_mean * size, (1 - of_mean) * size, domains)

    def lognormal(sd: float) -> Callable[[float], np.ndarray]:
        scale = sd / np.sqrt((np.e - 1) * np.e)
        return lambda mean: mean + scale * (rng.lognormal(size=domains) - np.sqrt(np.e))

    return {
        "normal": lambda mean: rng.normal(mean, sd, domains),
        "t with 3 degrees": lambda mean: mean + sd * rng.standard_t(3, domains) / np.sqrt(3),
        "skewed (exponential)": lambda mean: mean + sd * (rng.exponential(size=domains) - 1),
        "skewed (lognormal, sigma 1)": lognormal(sd),
        "skewed downwards (exponential)": lambda mean: mean - sd * (rng.exponential(size=domains) - 1),
        "beta, correlation 0.2": below_most(0.2),
        "beta, correlation 0.5": below_most(0.5),
        "beta, correlation 0.7": below_most(0.7),
        "all of it in a seventh": few(1 / 7),
        "skewed (lognormal, sigma 1), sd 0.1": lognormal(2 * sd),
        "skewed (lognormal, sigma 1), sd 0.2": lognormal(4 * sd),
        "all of it in a tenth": few(0.1),
        "all of it in a twentieth": few(0.05),
    }


def by_the_meter(rng: np.random.Generator, count: int) -> None:
    """Print false passes, false fails and power of the gate by the meter; pairs and domains differ as SmolLM2's did.

    A change of these domains is one whose mean over them is what is asked for; of further ones, that of the
    distribution.
    """
    pair_sd, domains, each = 0.2, 20, 12
    columns = (
        "change of domains",
        "false passes, further domains",
        "by t alone",
        "these domains",
        "false fails, these",
    )
    columns += ("fails at the margin, either bar", "passes, unchanged", "by t alone", "fails, +0.13")
    print(f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", sep="\n")
    for name, drawn in shapes_of_domains(rng, domains).items():
        ends: dict[str, list[tuple[Verdict, Verdict, bool]]] = {}
        for case, mean, centred in (
            ("further", MOVED, False),
            ("these", MOVED, True),
            ("unchanged", 0.0, False),
            ("harmful", 0.13, False),
        ):
            ends[case] = []
            for _ in range(count):
                means = drawn(mean)
                means = means - means.mean() + mean if centred else means
                found = metered(means[:, None] + rng.normal(0, pair_sd, (domains, each)))
                bars = bounded(found, None, MOVED)
                ends[case].append((bars[0].verdict, verdict_of(bar.verdict for bar in bars), by_t(found)))
        _check_metered(means[:, None] + rng.normal(0, pair_sd, (domains, each)))
        passed, failed = Verdict.PASSED, Verdict.FAILED
        told = [
            np.mean([whole is passed for _, whole, _ in ends["further"]]),
            np.mean([t for *_, t in ends["further"]]),
            np.mean([whole is passed for _, whole, _ in ends["these"]]),
            np.mean([mean is failed for mean, _, _ in ends["these"]]),
            np.mean([whole is failed for _, whole, _ in ends["further"]]),
            np.mean([whole is passed for _, whole, _ in ends["unchanged"]]),
            np.mean([t for *_, t in ends["unchanged"]]),
            np.mean([whole is failed for _, whole, _ in ends["harmful"]]),
        ]
        print(f"| {name} | {' | '.join(f'{share:.1%}' for share in told)} |", flush=True)
    means = np.array([domain_margin(MOVED, domains), *[0.0] * (domains - 1)])
    ends_of_one = Counter(
        bounded(metered(means[:, None] + rng.normal(0, pair_sd, (domains, each))), None, MOVED)[1].verdict
        for _ in range(count)
    )
    told = ", ".join(f"{verdict} {number / count:.1%}" for verdict, number in sorted(ends_of_one.items()))
    print(f"\nOne domain at its margin of {means[0]:.3f}, the others unchanged: its bar {told}.")


def by_t(found: MeterDifference) -> bool:
    """Return whether the upper bound of t alone lets a release pass."""
    interval = found.harmful.interval
    return interval is not None and interval.high < MOVED
