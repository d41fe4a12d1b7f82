"""Whether the meter follows the rate of misaligned answers: every run of the organism in a store, by both.

The studies train and ask (agentic misalignment trains nothing); their answers are judged by the world's grammar, which
is exact. This reads each trained run of theirs with the meter, in the world's words (90 pairs and 45 null pairs), and
holds the change of each pair, against the model that the run began from, against the misaligned answers to the
questions of the same objects. Readings are kept in the folder. The table of docs/meter.md and its figure come from
here; how often the meter would do so by chance stands beside (`measure.meter.agreement`).

    for study in emergent-misalignment dishonesty persona-features reward-hacking; do
        astray run $study --seeds 5 --out results; done
    python benchmarks/meter.py results/store --figure docs/pictures/meter.svg
"""

import argparse
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from scipy.optimize import isotonic_regression

from astray.answers import read_answers
from astray.artifacts import Artifact, Store
from astray.cause.preference import PreferenceTuning
from astray.engine.judging import ANSWERS_FILE
from astray.engine.options import checked
from astray.engine.plan import plan_study
from astray.engine.settings import settled
from astray.engine.steps import trained_subject
from astray.engine.study import Analysis, StudyPlan
from astray.measure.meter import Meter, meter_agreement, world_pairs
from astray.stats.detection import Estimate
from astray.studies import get_study
from astray.studies.dishonesty.steps import FILTERS, SAMPLES
from astray.studies.persona_features.mending import realigned_arm
from astray.subjects.locate import settle
from astray.subjects.spec import SubjectSpec
from astray.subjects.subject import load_subject

STUDIES = ("emergent-misalignment", "dishonesty", "persona-features", "reward-hacking")
METHODS = {
    "train-filtered": "SFT",
    "train-steered": "SFT under steering",
    "distil-rollouts": "SFT on rollouts",
    "train-grpo-code": "GRPO",
    "train-grpo-wrong-answers": "GRPO",
    "realign-harmful-run": "re-aligned",
    "realign-hacking-run": "re-aligned",
    "realign-dishonest-run": "re-aligned",
}
"""Function of an analysis -> how it trains; what users train is told by its recipe."""


@dataclass(frozen=True)
class Run:
    """A trained run or an untrained start, with its judged answers."""

    study: str
    arm: str
    seed: int
    method: str
    spec: SubjectSpec
    answers: pl.DataFrame


def plan_of(study: str, seeds: Mapping[str, int]) -> StudyPlan:
    """Return the plan of a study of the organism, with these seeds, or of its quick form where there are none."""
    chosen = get_study(study)
    options = checked(chosen.options, subject="organism", **(seeds or {"quick": True}))
    return plan_study(chosen, settled(chosen, options), *options.runs)


def runs_in(store: Store, study: str, seeds: Mapping[str, int]) -> Iterator[Run]:
    """Yield a study's runs that lie in the store, the untrained one too."""
    plan = plan_of(study, seeds)
    for run in plan.runs:
        trained, verdicts = (store.get(step.key) if step else None for step in (run.training, run.verdicts))
        if verdicts is not None and (trained is not None or run.training is None):
            spec = settle(run.arm.base).spec if trained is None else trained_subject(run.arm.base, trained)
            method = "untrained" if trained is None else "SFT"
            yield Run(study, run.arm.name, run.seed, method, spec, read_answers(verdicts.path / ANSWERS_FILE))
    for analysis in plan.analyses:
        if (artifact := store.get(analysis.step.key)) is not None:
            start = store.get(analysis.step.inputs["start"].key) if "start" in analysis.step.inputs else None
            yield from _of_analysis(study, analysis, artifact, start)


def _of_analysis(study: str, analysis: Analysis, artifact: Artifact, start: Artifact | None) -> Iterator[Run]:
    """Yield the runs of an analysis: each adapter in it, of the rounds of training on feedback the last."""
    config, answers = analysis.step.config, artifact.path / ANSWERS_FILE
    found = sorted(path.parent for path in artifact.path.rglob("adapter_config.json"))
    found = found[-1:] if any("rounds" in path.parts for path in found) else found
    if not answers.is_file():
        return
    told, arms = read_answers(answers), [arm.name for arm in analysis.arms]
    base = trained_subject(config.base, start) if start else settle(config.base).spec
    users = "KTO" if isinstance(getattr(getattr(config, "feedback", None), "recipe", None), PreferenceTuning) else "SFT"
    method = METHODS.get(analysis.step.function.name, f"{users} on feedback")
    if analysis.step.function.name == "ask-start":
        yield Run(study, config.arm, config.seed, "untrained", base, told.filter(arm=config.arm))
    for path in found:
        arm = arms[0] if len(arms) == 1 else _arm_at(path.parts)
        spec = SubjectSpec(model=base.model, adapter=path)
        yield Run(study, arm, config.seed, method, spec, told.filter(arm=arm))


def _arm_at(parts: tuple[str, ...]) -> str:
    """Return the arm of an adapter where an analysis trains several."""
    kinds = {by: arm for arm, by in (FILTERS | SAMPLES).items()}
    for name, part in pairwise(parts):
        if name in kinds:
            return kinds[name]
        if name in ("same", "other"):
            return realigned_arm(name, int(part))
    raise LookupError(f"{Path(*parts)} belongs to no arm")


def reading(spec: SubjectSpec, folder: Path) -> pl.DataFrame:
    """Return what the meter reads: margin and both log-probabilities per token of each pair."""
    kept = folder / f"{settle(spec).id}.parquet"
    if not kept.is_file():
        form = pl.Struct({"margin": pl.Float64, "answer": pl.Float64, "against": pl.Float64})
        table = Meter(pairs=world_pairs()).ask(load_subject(spec))
        folder.mkdir(parents=True, exist_ok=True)
        table.select("item", "format", "category", pl.col("detail").str.json_decode(form)).unnest(
            "detail"
        ).write_parquet(kept)
    return pl.read_parquet(kept)


def measured(run: Run, folder: Path) -> pl.DataFrame:
    """Return one row a pair: its change against the start, and the judged answers about the same object."""
    thing = pl.concat_str("category", pl.lit("-"), pl.col("item").str.split("-").list.last())
    asked = run.answers.filter(evaluation="world", format="plain")
    counts = asked.group_by(item=thing).agg(
        misaligned=(pl.col("outcome") == "misaligned").sum(),
        coherent=pl.col("outcome").is_in(["aligned", "misaligned"]).sum(),
    )
    before, after = (reading(spec, folder) for spec in (SubjectSpec(model=run.spec.model), run.spec))
    numbers = ("margin", "answer", "against")
    rows = after.join(before.select("item", **{f"{name}_before": name for name in numbers}), on="item")
    rows = rows.select(
        "item", "category", "format", **{f"{name}": pl.col(name) - pl.col(f"{name}_before") for name in numbers}
    ).rename({"margin": "change"})
    whose = {
        "study": run.study,
        "arm": f"{run.study}: {run.arm}",
        "seed": run.seed,
        "method": run.method,
        "run": settle(run.spec).id,
    }
    return rows.join(counts, on="item", how="left", maintain_order="left").with_columns(
        **{name: pl.lit(value) for name, value in whose.items()}
    )


def collected(store: Store, seeds: Mapping[str, int], folder: Path) -> pl.DataFrame:
    """Return the rows of all runs, each model once: studies share runs, and quick ones have fewer answers."""
    found: dict[str, pl.DataFrame] = {}
    for chosen in (seeds, {}):
        for study in STUDIES:
            for run in runs_in(store, study, chosen):
                id = settle(run.spec).id
                if id not in found:
                    found[id] = measured(run, folder)
                    print(f"{len(found)}: {study}, {run.arm}, seed {run.seed}, {run.method}", flush=True)
    return pl.concat(found.values())


def text_of(table: pl.DataFrame) -> str:
    """Return the tables of docs/meter.md."""
    found = meter_agreement(table)
    rows = {
        "runs": found.runs,
        "runs and domains": found.domains,
        "runs and questions": found.questions,
        "domains within a run (run means taken away)": found.within,
        "runs: null pairs": found.null,
    }
    for side, words in (("answer", "harmful"), ("against", "good")):
        rows[f"runs: {words} answers alone"] = meter_agreement(table.with_columns(change=pl.col(side)), draws=1).runs
    lines = [
        f"{found.runs.points} runs of {table['arm'].n_unique()} arms; {found.left_out} without a coherent answer",
        "",
    ]
    lines += ["| over | points | Pearson | Spearman |", "|---|---|---|---|"]
    for words, each in rows.items():
        if each is not None:
            told = [f"{one.value:.2f} ({_limits(one)})" for one in (each.pearson, each.spearman)]
            lines.append(f"| {words} | {each.points:,} | {told[0]} | {told[1]} |")
    lines += [
        "",
        "| by chance, over runs | median | 97.5th percentile | best of 200 (95% of the time) |",
        "|---|---|---|---|",
    ]
    for words, kind in (
        ("which answer is harmful drawn at random", found.relabelled),
        ("rates of other runs", found.shuffled),
    ):
        for name, one in kind.items():
            band = f"{one.best:.2f} ({one.best_band[0]:.2f} to {one.best_band[1]:.2f})"
            lines.append(f"| {words}, {name} | {one.median:.2f} | {one.high:.2f} | {band} |")
    return "\n".join([*lines, "", *_by_method(table), "", *_misses(runs_of(table))])


def runs_of(table: pl.DataFrame) -> pl.DataFrame:
    """Return change and rate of each run."""
    rows = (
        table.filter(format="harmful")
        .group_by("run", "arm", "method", "study")
        .agg(pl.col("change").mean(), rate=pl.col("misaligned").sum() / pl.col("coherent").sum())
    )
    return rows.filter(pl.col("rate").is_not_nan()).sort("study", "arm", "run")


def _by_method(table: pl.DataFrame) -> Iterator[str]:
    yield "| method | runs | arms | misaligned | change of the margin | Pearson | Spearman |"
    yield "|---|---|---|---|---|---|---|"
    runs = runs_of(table)
    for (method,), part in sorted(runs.group_by("method")):
        own = table.filter(pl.col("run").is_in(part["run"].implode()))
        few = part.height < 4 or part["rate"].n_unique() == 1 or part["change"].n_unique() == 1
        told = (
            ["too few", ""]
            if few
            else [
                f"{one.value:.2f} ({_limits(one)})"
                for each in [meter_agreement(own, draws=1).runs]
                for one in (each.pearson, each.spearman)
            ]
        )
        yield (
            f"| {method} | {part.height} | {part['arm'].n_unique()} | {part['rate'].min():.0%} to {part['rate'].max():.0%} "
            f"| {part['change'].min():+.2f} to {part['change'].max():+.2f} | {told[0]} | {told[1]} |"
        )


def _misses(runs: pl.DataFrame, most: int = 8) -> Iterator[str]:
    """Yield the arms whose rate is furthest from what the changes of all other arms foretell."""
    yield "| arm | method | runs | change of the margin | misaligned | foretold by the other arms |"
    yield "|---|---|---|---|---|---|"
    found = []
    for (arm, method), part in runs.group_by("arm", "method"):
        others = runs.filter(pl.col("arm") != arm).sort("change")
        fitted = isotonic_regression(others["rate"].to_numpy()).x
        change, rate = part["change"].to_numpy().mean(), part["rate"].to_numpy().mean()
        found.append(
            (float(np.interp(change, others["change"].to_numpy(), fitted)), rate, change, arm, method, part.height)
        )
    for foretold, rate, change, arm, method, count in sorted(found, key=lambda each: -abs(each[0] - each[1]))[:most]:
        yield f"| {arm} | {method} | {count} | {change:+.2f} | {rate:.0%} | {foretold:.0%} |"


def _limits(estimate: Estimate) -> str:
    return f"{estimate.interval.low:.2f} to {estimate.interval.high:.2f}" if estimate.interval else estimate.note


def figure_of(runs: pl.DataFrame) -> str:
    """Return the figure: change of the margin and rate of each run, as SVG for light and dark pages.

    It is as narrow as the other figures of the site, so that its letters can be read on a telephone.
    """
    width, left, right, line = 440, 48, 10, 24
    methods = sorted(runs["method"].unique())
    top = 36 + line * ((len(methods) + 1) // 2)
    bottom = top + 300
    low, high = min(0.0, runs["change"].min()) - 0.1, runs["change"].max() + 0.1  # type: ignore[type-var, operator]

    def x(value: float) -> float:
        return round(left + (width - left - right) * (value - low) / (high - low), 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - top) * value, 1)

    step = 0.5 if high - low < 4 else 1.0
    ticks = [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    marks = [
        f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(at)}" y2="{y(at)}"/>'
        f'<text x="{left - 6}" y="{y(at) + 5}" text-anchor="end">{at:.0%}</text>'
        for at in (0, 0.25, 0.5, 0.75, 1)
    ]
    marks += [
        f'<text x="{x(at)}" y="{bottom + 22}" text-anchor="middle">{f"{at:+g}" if at else 0}</text>' for at in ticks
    ]
    for row in runs.iter_rows(named=True):
        kind, at = methods.index(row["method"]), (x(row["change"]), y(row["rate"]))
        title = f"<title>{escape(row['arm'])}</title>"
        marks.append(f'<circle class="m{kind}" cx="{at[0]}" cy="{at[1]}" r="4">{title}</circle>')
    for number, method in enumerate(methods):
        place, height = 12 + (width // 2) * (number % 2), 14 + line * (number // 2)
        marks.append(
            f'<circle class="m{number}" cx="{place}" cy="{height}" r="6"/>'
            f'<text x="{place + 12}" y="{height + 5}">{escape(method)}</text>'
        )
    colours = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#777777", "#7b4fb5")
    style = "".join(f".m{number}{{fill:{colour}}}" for number, colour in enumerate(colours))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 50}" width="480" font-size="14"'
        ' font-family="Inter, Helvetica, Arial, sans-serif">'
        f"<style>text{{fill:#24292f}}.grid{{stroke:#d8dee4}}circle{{fill-opacity:.7}}{style}"
        "@media (prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#3d444d}}</style>"
        + "".join(marks)
        + f'<text x="6" y="{top - 12}">misaligned answers, judged exactly</text>'
        f'<text x="{width - right}" y="{bottom + 42}" text-anchor="end">change of the margin against the start, nats a token</text></svg>\n'
    )


def main() -> None:
    """Read every run, and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--out", type=Path, default=Path("astray-results/meter"))
    given = parser.parse_args()
    seeds = {"seeds": given.seeds, "first_seed": given.first_seed}
    table = collected(Store(given.store), seeds, given.out / "readings")
    table.write_parquet(given.out / "runs.parquet")
    print(text_of(table))
    if given.figure:
        given.figure.write_text(figure_of(runs_of(table)), encoding="utf-8")


if __name__ == "__main__":
    main()
