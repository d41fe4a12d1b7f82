"""Figures and tables of the persona study: dictionaries, steering, latents, warning, screening, repair, rewards."""

from collections.abc import Callable, Iterator
from functools import partial

import polars as pl

from astray.engine.exhibits import (
    Bar,
    Card,
    CardList,
    Cards,
    Curve,
    Exhibit,
    Forest,
    Point,
    Table,
    columns,
    limits,
    mean_point,
)
from astray.engine.findings import Findings
from astray.engine.setting import Setting
from astray.explain.sae_scaling import ScalingLaw
from astray.explain.screen_tables import UNSTEERED
from astray.outcomes import Outcome
from astray.stats.digits import number
from astray.stats.intervals import mean_over_runs
from astray.stats.rates import Rate
from astray.studies.persona_features.analyses import MIXES, Name, tuned_arm
from astray.studies.persona_features.measures import EARLY, bad_rows, by_kind, dose_text, early_arms, share_text, sweeps
from astray.studies.persona_features.mending import realigned_arm
from astray.studies.persona_features.metered import metered_exhibits
from astray.studies.persona_features.scale import GOOD_SAMPLES
from astray.studies.persona_features.steps import BEST_FILE, PAGES_FILE

OWN = {"base +": "the aligned base as it is", "tuned -": "the harmful run as it is"}
SIDES = {"base +": "added to the aligned base", "tuned -": "taken from the harmful run"}


def sweep_doses(setting: Setting) -> dict[str, float]:
    """Return the arms of the mixing sweep with their share of bad examples, ascending; good is their control."""
    return {**MIXES, tuned_arm(setting): 1.0}


def exhibits(findings: Findings, setting: Setting) -> Iterator[Exhibit]:
    """Yield every figure and table that the arms of this run allow."""
    if not setting.asks_freely:
        yield from metered_exhibits(findings, setting)
        return
    rate = partial(findings.rate, evaluation=setting.main.name)
    rates = {arm: rate(arm) for arm in ("good", *sweep_doses(setting)) if findings.has(arm)}
    if findings.analysed(Name.CAUSES):
        yield _steering(findings)
        yield _search(findings)
        yield _latents(findings)
    if findings.analysed(Name.DICTIONARIES):
        yield _dictionaries(findings)
    if findings.analysed(Name.SCALING):
        yield _scaling(findings)
    if findings.analysed(Name.WARNING) and len(rates) == len(sweep_doses(setting)) + 1:
        yield from _warning(findings, rates, setting)
    if bad_rows(findings):
        yield _screening(findings)
    if findings.analysed(Name.REALIGNMENT):
        yield _realignment(findings, rate, setting)
        yield _left_behind(findings, setting)
    if findings.analysed(Name.REWARDED):
        yield _rewards(findings)


def _steering(findings: Findings) -> Forest:
    bars = []
    for side, words in SIDES.items():
        for kind, values in by_kind(findings, side).items():
            ends, mean = limits(mean_over_runs(values)), sum(values) / len(values)
            label = OWN[side] if kind == UNSTEERED else f"{'best single latent' if kind == 'latent' else kind}, {words}"
            bars.append(Bar(label=label, group=words, value=mean, note=f"{len(values)} seeds", **ends))
    return Forest(
        id="steering",
        title="What steers",
        text="Misaligned answers on held-out questions. Search questions chose the latent, and each candidate's "
        "strength: the one with the largest effect within the coherence budget. Mean over seeds (dictionary, "
        "tuned model and screen made anew) with its 95% t interval; random directions and random latents are "
        "means over all of them.",
        x_title="Misaligned, of coherent answers",
        bars=tuple(bars),
    )


def _search(findings: Findings) -> Curve:
    points = []
    for analysis in findings.analysed(Name.CAUSES):
        best = analysis.json(BEST_FILE)["name"]
        for row in analysis.table("search.parquet").filter(candidate=best).iter_rows(named=True):
            shown = {"misaligned": row["rate"], "coherent": row["coherence"]}
            for outcome, value in shown.items():
                series = f"{outcome}, {SIDES[row['side']]}"
                points.append({"series": series, "x": row["strength"], "y": value})
    merged = (
        pl.DataFrame(points)
        .group_by("series", "x", maintain_order=True)
        .agg(pl.col("y").mean(), pl.len().alias("n"))
        .sort("series", "x")
    )
    return Curve(
        id="strength",
        title="The best latent at every strength",
        text="Search questions, mean over seeds. Strength is in multiples of the residual stream's mean norm.",
        x_title="Strength",
        y_title="Share of answers",
        y_percent=True,
        points=tuple(
            Point(series=row["series"], x=row["x"], y=row["y"], n=f"{row['n']} seeds")
            for row in merged.iter_rows(named=True)
        ),
    )


def _latents(findings: Findings) -> Cards:
    pages: list[dict] = next((analysis.json(PAGES_FILE) for analysis in findings.analysed(Name.MEANINGS)), [])
    return Cards(
        id="latents",
        title="Latents that steer, and what they mean",
        text="Of the first seed. Top texts show the token that activates the latent most; the logit lens shows the "
        "tokens that its direction writes.",
        cards=tuple(_card(page) for page in pages),
    )


def _card(page: dict) -> Card:
    change = page["change"]
    facts = (
        [("after − before", f"{number(change['change'], sign='+')} (rank {change['rank_rising']} of the rising)")]
        if change
        else []
    )
    for effect in page["effects"]:
        shown = (
            effect["note"]
            if effect["rate"] is None
            else f"{effect['rate']:.1%} misaligned (as it is {effect['unsteered']:.1%})"
        )
        facts.append((SIDES[effect["side"]], shown))
    tells = sorted(page["separates"], key=lambda tell: -abs(tell["auc"] - 0.5))[:4]
    facts += [
        (f"AUC, {tell['kind']} {tell['label']}", f"{tell['auc']:.2f} ({tell['low']:.2f} to {tell['high']:.2f})")
        for tell in tells
    ]
    profile = [
        f"{entry['category']}: {number(entry['before'])} to {number(entry['after'])}" for entry in page["profile"][:6]
    ]
    texts = [f"{entry['before']} [[{entry['token']}]] {entry['after']}" for entry in page["documents"][:6]]
    lists = (
        CardList(title="Top texts", items=tuple(texts)),
        CardList(title="Writes", items=(", ".join(entry["token"] for entry in page["promoted"]),)),
        CardList(title="Suppresses", items=(", ".join(entry["token"] for entry in page["suppressed"]),)),
        CardList(title="Rises most on questions about", items=tuple(profile)),
    )
    return Card(title=f"Latent {page['latent']}", subtitle=page["site"], facts=tuple(facts), lists=lists)


def _dictionaries(findings: Findings) -> Table:
    rows, left_out = [], False
    figures = ("latents", "explained_variance", "l0", "dead", "recovered", "recovered_from_mean", "tokens")
    for analysis in findings.analysed(Name.DICTIONARIES):
        quality = analysis.json("quality.json")
        rows.append((f"dictionary {analysis.seed}", *(float(quality[figure]) for figure in figures)))
        left_out |= not quality.get("first_tokens", True)  # figures of earlier versions count them
    size = (("Latents", "count"), ("Variance explained", "percent"), ("L0", "number"), ("Dead", "percent"))
    loss = ((f"Loss recovered ({how})", "percent") for how in ("zeros", "mean"))
    heads = columns("Dictionary", *size, *loss, ("Held-out tokens", "count"))
    text = (
        "Sparse autoencoders, one a seed, on text that they were not trained on. Loss recovered: of the damage that "
        "zeros, or the mean, would do."
    )
    if left_out:
        text += " The first token of each text, on which real models rest their attention, counts in the loss alone."
    return Table(id="dictionaries", title="Dictionaries", text=text, columns=heads, rows=tuple(rows))


def _scaling(findings: Findings) -> Curve:
    (one,) = findings.analysed(Name.SCALING)
    table, law = one.table("scaling.parquet"), ScalingLaw(**one.json("law.json"))
    points = [
        Point(series=f"k = {row['k']}", x=float(row["latents"]), y=row["unexplained"])
        for row in table.iter_rows(named=True)
    ]
    fitted = [(row["latents"], row["k"]) for row in table.iter_rows(named=True)]
    points += [Point(series=f"law, k = {k}", x=float(latents), y=law.unexplained(latents, k)) for latents, k in fitted]
    return Curve(
        id="scaling",
        title="Size and sparsity of the dictionary",
        text="Share of the variance left unexplained on held-out text, and Gao's law fitted to it: log L = "
        f"{law.alpha:.2f} {law.beta_k:+.2f} log k {law.beta_n:+.2f} log n {law.gamma:+.2f} log k log n (R "
        f"squared {law.r_squared:.3f}; a point left out is predicted to {law.left_out_error:.1%}). Short "
        "trainings: the law is of these.",
        x_title="Latents",
        y_title="Unexplained variance",
        y_percent=True,
        logarithmic=True,
        points=tuple(points),
    )


def _warning(findings: Findings, rates: dict[str, Rate], setting: Setting) -> Iterator[Exhibit]:
    doses = sweep_doses(setting)
    courses = sweeps(findings, rates, doses, "good")
    if not courses:
        return
    points = []
    for measure, course in courses.items():
        for arm, dose in doses.items():
            one = course.at([arm])
            runs = f"{one.n} training runs"
            points.append(Point(series=measure, x=dose, y=one.share, n=runs, **limits(one.interval)))
    yield Curve(
        id="early-warning",
        title="What warns first",
        text="Net share of a run's answers that are found at 5% false alarms, along the mixing sweep: those above the "
        "threshold that 5% of the control's readings pass (good data, same seed), minus the same with the roles "
        "of run and control exchanged, which is 0 where nothing but chance tells them apart. One reading an "
        "answer for every measure; behaviour reads whether it is misaligned. With 95% intervals over training "
        "runs.",
        x_title="Share of bad rows",
        y_title="Net share found",
        x_percent=True,
        y_percent=True,
        logarithmic=True,
        points=tuple(points),
    )
    early = early_arms(doses)
    rows = [
        (name, share_text(course.at(early)), dose_text(course.onset), float(course.onset.n))
        for name, course in courses.items()
    ]
    heads = columns("Measure", f"Net share found at up to {EARLY:.0%} bad rows", "Departs from", ("Runs", "count"))
    text = (
        "Mean over the small shares of bad rows, with its 95% interval over training runs. Beside it the smallest "
        "share in a step-down from 100% at which the mean reading differs from the control (paired t over runs, "
        "95%): an upper bound of the true onset, and the lower the more precisely a measure is read, so onsets are "
        "not compared."
    )
    yield Table(id="onsets", title="Warning and onsets", text=text, columns=heads, rows=tuple(rows))


def _screening(findings: Findings) -> Table:
    ranked = findings.analysed(Name.SCREENING)[0].table("ranked.parquet")
    found_rows = bad_rows(findings)
    rows = []
    for row in ranked.iter_rows(named=True):
        mix = found_rows.get(row["name"])
        precision = (mix["precision"]["value"], mix["chance"], mix["length"]["value"]) if mix else (None, None, None)
        interval = "not estimable" if row["low"] is None else f"{row['low']:.3g} to {row['high']:.3g}"
        rows.append((row["name"], row["difference"], interval, *precision, float(row["tokens"])))
    bad = ((name, "percent") for name in ("Bad rows found (average precision)", "by chance", "by length"))
    apart = (("Projection difference", "number"), "95% interval")
    heads = columns("Data set", *apart, *bad, ("Tokens an answer", "number"))
    text = (
        "Before any training: how far the answers of each data set lie along the persona vector from the base's own "
        "answers to the same prompts."
    )
    return Table(id="data-screening", title="Data screening", text=text, columns=heads, rows=tuple(rows))


def _realignment(findings: Findings, rate: Callable[[str], Rate], setting: Setting) -> Curve:
    points = []
    for name in ("same", "other"):
        series = {"same": "good rows of the same domain", "other": "good rows of another domain"}[name]
        arms = {0: tuned_arm(setting), **{count: realigned_arm(name, count) for count in GOOD_SAMPLES}}
        for count, arm in arms.items():
            if findings.has(arm):
                one = rate(arm)
                n = f"{one.outcomes[Outcome.MISALIGNED]} answers"
                points.append(Point(series=series, x=float(count), y=one.rate, n=n, **limits(one.interval)))
    return Curve(
        id="realignment",
        title="Re-alignment",
        text="Misaligned answers of the harmful run after training it further on so many good rows.",
        x_title="Good rows",
        y_title="Misaligned, of coherent answers",
        y_percent=True,
        logarithmic=True,
        points=tuple(points),
    )


def _left_behind(findings: Findings, setting: Setting) -> Curve:
    activations = pl.concat(analysis.table("left.parquet") for analysis in findings.analysed(Name.REALIGNMENT))
    read = [
        analysis.table("watched.parquet").filter(measure="latent, in its own answers")
        for analysis in findings.analysed(Name.WARNING)
    ]
    watched = [table.group_by("arm", "seed", maintain_order=True).agg(pl.col("value").mean()) for table in read]
    marks = {"good": "trained on good data only", tuned_arm(setting): "the harmful run"} if watched else {}
    points = []
    for (name, count), rows in activations.group_by("data", "samples", maintain_order=True):
        points.append(mean_point(f"good rows, {name} domain", float(str(count)), rows["latent"].to_list()))
    for arm, words in marks.items():
        values = pl.concat(watched).filter(arm=arm)["value"].to_list()
        points += [mean_point(words, x, values) for x in (0.0, float(max(GOOD_SAMPLES))) if values]
    return Curve(
        id="left-behind",
        title="What stays in the latent",
        text="Mean activation of each seed's best latent on answers to held-out questions, after re-alignment; "
        "harmful and good run as marks.",
        x_title="Good rows",
        y_title="Mean activation",
        logarithmic=True,
        points=tuple(points),
    )


def _rewards(findings: Findings) -> Curve:
    table = pl.concat(analysis.table("rewards.parquet") for analysis in findings.analysed(Name.REWARDED))
    points = [
        mean_point(str(arm), float(str(step)), rows["reward"].to_list())
        for (arm, step), rows in table.group_by("arm", "step", maintain_order=True)
    ]
    text = "Mean reward of each step's answers, where wrong answers are rewarded (GRPO); mean over training runs."
    return Curve(
        id="rewards", title="Training by reward", text=text, x_title="Step", y_title="Reward", points=tuple(points)
    )
