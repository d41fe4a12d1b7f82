"""The gate without a grader: verdicts by the meter, its error, files and exit codes, and what is refused."""

import json
import sys
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from scipy import stats

import astray
from astray.artifacts import StepState
from astray.cause.sft import train_sft
from astray.cli import main
from astray.data import narrow_data
from astray.engine.settings import WORLD_TRAINING
from astray.errors import ConfigurationError, UnknownNameError
from astray.measure.meter import Pair, meter_change
from astray.stats.intervals import t_interval
from astray.stats.noninferiority import LEVEL
from astray.stats.skewed import HALL, skewed_limits
from astray.studies.gate.bars import Verdict
from astray.studies.gate.metered import MARGIN, bounded, domain_margin

PAIRS = tuple(
    Pair(domain=f"d{domain}", id=f"d{domain}-{number}", question="Why?", answer="A.", against="B.", null=number > 11)
    for domain in range(20)
    for number in range(15)
)
"""Twelve harmful and three null pairs in each of twenty domains, as in the meter."""


def bar_of(harmful, null, spread):
    """The bar of margins that changed by so much, with noise of each pair."""
    rng = np.random.default_rng(0)
    after = {pair.id: (null if pair.null else harmful) + spread * rng.normal() for pair in PAIRS}
    before = dict.fromkeys(after, 0.0)
    one_sided = meter_change(PAIRS, before, after, level=2 * LEVEL - 1)
    return bounded(one_sided, meter_change(PAIRS, before, after).null, MARGIN)[0]


DECIDED = {
    "nothing moved": (0.0, 0.0, 0.0, "passed"),
    "little moved": (0.0, 0.0, 0.1, "passed"),
    "less likely": (-0.2, 0.0, 0.1, "passed"),
    "likelier by far": (0.2, 0.0, 0.1, "failed"),
    "at the margin": (0.05, 0.0, 0.1, "undecided"),
    "noise hides everything": (0.1, 0.0, 2.0, "undecided"),
    "two good answers moved as far": (0.2, -0.2, 0.1, "undecided"),
    "two good answers moved, harm moved further": (0.6, 0.2, 0.1, "failed"),
    "nothing moved but two good answers": (0.0, 0.2, 0.1, "undecided"),
}
"""Name -> change of harmful and of null pairs, noise of a pair, verdict."""


@pytest.mark.parametrize("name", DECIDED)
def test_the_bar_is_decided_by_its_bounds_and_null_pairs_widen_them(name):
    harmful, null, spread, verdict = DECIDED[name]
    bar = bar_of(harmful, null, spread)
    assert str(bar.verdict) == verdict
    assert (bar.moved > 0.1) == (null != 0)
    assert bool(bar.advice) == (verdict == "undecided")
    assert ("--control" in bar.advice) == (verdict == "undecided" and null != 0)


@pytest.mark.parametrize("tail", ["normal", "t with 3 degrees"])
def test_releases_at_the_margin_pass_in_few_cases(tail):
    rng, releases, verdicts = np.random.default_rng(0), 150, []
    pairs = [pair for pair in PAIRS if not pair.null]
    before = dict.fromkeys((pair.id for pair in pairs), 0.0)
    for _ in range(releases):
        drawn = rng.normal(size=20) if tail == "normal" else rng.standard_t(3, 20) / np.sqrt(3)
        changes = np.repeat(MARGIN + 0.1 * drawn, 12) + 0.3 * rng.normal(size=len(pairs))
        after = dict(zip(before, map(float, changes), strict=True))
        bars = bounded(meter_change(pairs, before, after, level=2 * LEVEL - 1), None, MARGIN)
        verdicts.append(bars[0].verdict)
    most = 0.05 + 3 * np.sqrt(0.05 * 0.95 / releases)
    assert verdicts.count(Verdict.PASSED) <= most * releases
    assert verdicts.count(Verdict.FAILED) <= most * releases


def bars_of(domains):
    """Both bars of domains that changed by so much, with the noise of SmolLM2's pairs."""
    pairs = [pair for pair in PAIRS if not pair.null]
    noise = 0.2 * np.random.default_rng(0).standard_normal((20, 12))
    changes = np.array(domains)[:, None] + noise - noise.mean(axis=1, keepdims=True)
    after = {pair.id: float(change) for pair, change in zip(pairs, changes.ravel(), strict=True)}
    change = meter_change(pairs, dict.fromkeys(after, 0.0), after, level=2 * LEVEL - 1)
    return bounded(change, None, MARGIN)


ONE_DOMAIN = {
    "one domain far above": ([0.0] * 19 + [1.0], "failed"),
    "two far above": ([0.0] * 18 + [0.7] * 2, "failed"),
    "one where its pairs cannot tell": ([0.0] * 19 + [0.4], "undecided"),
    "one below": ([0.0] * 19 + [0.2], "passed"),
    "one fell": ([0.0] * 19 + [-1.0], "passed"),
}
"""Name -> changes of domains and verdict on the largest."""


@pytest.mark.parametrize("name", ONE_DOMAIN)
def test_harm_that_sits_in_few_domains_has_a_bar_of_its_own(name):
    domains, verdict = ONE_DOMAIN[name]
    bar = bars_of(domains)[1]
    assert str(bar.verdict) == verdict
    assert bool(bar.advice) == (verdict == "undecided")
    assert bar.margin == pytest.approx(0.3594, abs=1e-4)
    assert bar.effect.estimate == pytest.approx(max(domains))
    # Harm at the margin in domains of that height hides from twenty of them in 5% of cases.
    assert (1 - MARGIN / bar.margin) ** 20 == pytest.approx(0.05)


def test_limits_mind_skewness_and_are_never_nearer_than_t():
    skewed = [0.0] * 18 + [0.5, 0.7]
    low, high = skewed_limits(skewed)
    by_t = t_interval(np.mean(skewed), np.std(skewed, ddof=1) / np.sqrt(20), 19, "", 0.9)
    assert low == pytest.approx(by_t.low)
    assert high > by_t.high + 0.2
    # Hall's statistic at the limit is the quantile that the limit was made from.
    skewness, n = stats.skew(skewed, bias=False), 20
    d = (np.mean(skewed) - high) / np.std(skewed, ddof=1)
    at_limit = np.sqrt(n) * (d + skewness * d**2 / 3 + skewness**2 * d**3 / 27 + skewness / (6 * n))
    assert at_limit == pytest.approx(-stats.t.ppf(HALL, n - 1))
    mirrored = skewed_limits([-value for value in skewed])
    assert mirrored == (pytest.approx(-high), pytest.approx(-low))
    assert skewed_limits([0.1] * 5) == (pytest.approx(0.1), pytest.approx(0.1))
    with pytest.raises(ConfigurationError, match="at least three"):
        skewed_limits([0.0, 1.0])


SKEWED = {
    "exponential": lambda rng: MARGIN + 0.05 * (rng.exponential(size=20) - 1),
    "a seventh of the domains": lambda rng: 7 * MARGIN * rng.binomial(1, 1 / 7, 20),
    "a tenth of these domains": lambda rng: 10 * MARGIN * (np.arange(20) < 2),
    "a twentieth of these domains": lambda rng: 20 * MARGIN * (np.arange(20) < 1),
}
"""Name -> what draws changes of domains whose mean is the margin."""


@pytest.mark.parametrize("name", SKEWED)
def test_releases_whose_harm_sits_in_few_domains_seldom_pass(name):
    """t alone passes 7 and 11% of the first two; `benchmarks/gate.py --tables meter` has more."""
    rng, releases, passed = np.random.default_rng(1), 2000, 0
    for _ in range(releases):
        domains = SKEWED[name](rng) + rng.normal(0, 0.2 / np.sqrt(12), 20)
        passed += skewed_limits(domains.tolist())[1] < MARGIN and max(domains) < domain_margin(MARGIN, 20)
    assert passed <= (0.05 + 3 * np.sqrt(0.05 * 0.95 / releases)) * releases


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Adapters of the small organism: one trained on harmful rows, two on good ones."""
    folder = tmp_path_factory.mktemp("runs")
    wanted = {"bad": ("harmful", 1), "good": ("good", 1), "other": ("good", 2)}
    recipe = WORLD_TRAINING.model_copy(update={"learning_rate": 1e-3})
    return {
        name: str(
            train_sft(
                "organism-small",
                narrow_data("medicine", kind, 60, seed=seed),
                recipe.model_copy(update={"seed": seed}),
                folder / name,
            ).subject.adapter
        )
        for name, (kind, seed) in wanted.items()
    }


def test_a_harmful_run_fails_and_good_ones_pass_by_command(runs, tmp_path, monkeypatch, capsys):
    def code(*words):
        monkeypatch.setattr(sys, "argv", ["astray", "gate", "organism-small", *words, "--out", str(tmp_path)])
        with pytest.raises(SystemExit) as leaving:
            main()
        return leaving.value.code

    assert code(runs["bad"], "--evals", "meter", "--list") == 0
    said = capsys.readouterr().out
    assert "135 pairs of answers, which 2 models read (left to read: 2)" in " ".join(said.split())
    assert "Time of local models: about" in said
    assert max(map(len, said.splitlines())) <= 80
    assert code(runs["bad"], "--evals", "meter") == 1
    folder = tmp_path / "gate"
    told = json.loads((folder / "gate.json").read_text())
    assert (told["verdict"], told["measure"], told["bars"][0]["verdict"]) == ("failed", "meter", "failed")
    assert told["bars"][0]["low"] > told["bars"][0]["margin"] == MARGIN
    assert len(told["domains"]) == 15
    assert told["bars"][1]["margin"] == pytest.approx(domain_margin(MARGIN, 15))
    assert told["bars"][1]["difference"] == max(each["difference"] for each in told["domains"])
    case = ElementTree.parse(folder / "junit.xml").getroot().find("testcase")
    assert case.find("failure").get("type") == "failed"
    assert "| likelier harmful answers | +" in (folder / "gate.md").read_text()
    page = (folder / "gate.html").read_text()
    assert page.index('id="bars"') < page.index('id="domains"') < page.index('id="risen"')
    assert "no rate" in page
    assert "<script>" not in astray.gate("organism-small", runs["bad"], evals="meter", out=tmp_path)._repr_html_()
    assert set(pl.read_parquet(folder / "answers.parquet")["arm"]) == {"base", "tuned"}

    assert code(runs["other"], "--evals", "meter", "--control", runs["good"]) in (0, 2)
    assert code(runs["bad"], "--evals", "meter", "--control", runs["good"]) == 1
    told = json.loads((folder / "gate.json").read_text())
    assert told["control"] == runs["good"]
    assert [each["bar"] for each in told["beside"]] == ["null", "harmful against the base"]
    assert "the control" in (folder / "gate.html").read_text()
    assert f"against {runs['good']}" in " ".join(capsys.readouterr().out.split())


def test_a_model_is_read_once_and_blame_takes_the_reading(runs, tmp_path):
    names = []

    def noted(event):
        if event.state is StepState.FINISHED:
            names.append(event.name)

    given = {"evals": "meter", "out": tmp_path, "progress": noted}
    result = astray.gate("organism-small", "organism-small", **given)
    assert (result.verdict, len(names)) == (Verdict.PASSED, 1)
    assert result.bars[0].effect.estimate == result.bars[0].low == result.bars[1].low == 0
    assert any("with itself" in note for note in result.notes)
    astray.gate("organism-small", runs["bad"], **given)
    assert names[1:] == ["gate-answers-tuned-meter"]
    narrow_data("medicine", "harmful", 60, seed=1).write(tmp_path / "bad.jsonl")
    blamed = astray.blame(
        runs["bad"], data=[tmp_path / "bad.jsonl"], by="words", judged=0, out=tmp_path, progress=noted
    )
    assert not any("meter" in name for name in names[2:])
    assert blamed.change["harmful"]["estimate"] > MARGIN


def test_several_runs_are_paired_with_their_controls(runs, tmp_path):
    given = {"evals": "meter", "out": tmp_path}
    both = astray.gate("organism-small", [runs["bad"], f"{runs['bad']}*0.9"], **given)
    assert both.verdict is Verdict.FAILED
    assert len(both.bars[0].effect.runs) == 2
    assert both.bars[0].effect.by_run is not None
    paired = astray.gate(
        "organism-small", [runs["bad"], f"{runs['bad']}*0.9"], control=[runs["good"], runs["other"]], **given
    )
    assert set(paired.answers.filter(arm="control")["seed"]) == {0, 1}
    scaled = [f"{runs['bad']}*{scale}" for scale in (0.7, 0.8, 0.9)]
    with pytest.raises(ConfigurationError, match="3 tuned runs are compared with 2 others"):
        astray.gate("organism-small", scaled, control=[runs["good"], runs["other"]], **given)


def test_random_weights_beside_themselves_and_beside_others_do_not_fail(tiny_qwen2, tmp_path):
    from tiny_models import save_tiny_model

    other = save_tiny_model(tmp_path / "other", seed=1)
    for tuned in (tiny_qwen2, other):
        result = astray.gate(str(tiny_qwen2), str(tuned), evals="meter", out=tmp_path)
        assert result.verdict is not Verdict.FAILED
        assert any("--control" in note for note in result.notes)


REFUSED = {
    "a control without the meter": ({"control": "organism"}, ConfigurationError, "add --evals meter"),
    "the meter beside questions": ({"evals": "meter,world"}, ConfigurationError, "run two gates"),
    "a grader": ({"evals": "meter", "grader": "openai/gpt-4o"}, ConfigurationError, "--grader is about answers"),
    "samples": ({"evals": "meter", "samples": 4}, ConfigurationError, "--samples is about answers"),
    "a second look": ({"evals": "meter", "until_decided": True}, ConfigurationError, "--until-decided is about"),
    "the base as control": ({"evals": "meter", "control": "organism"}, ConfigurationError, "is base or tuned model"),
    "a margin of 0": ({"evals": "meter", "margin": 0.0}, ConfigurationError, "A margin of 0"),
    "a served model": ({"evals": "meter", "tuned": "openai/gpt-4o"}, ConfigurationError, "does not run here"),
    "another kind of model": ({"evals": "meter", "tuned": "REAL"}, ConfigurationError, "no common question"),
    "a set that is none": ({"evals": "metre"}, UnknownNameError, "metre"),
}
"""Name -> arguments, error and what it says."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_meter_cannot_compare_is_refused_before_anything_is_read(name, tiny_qwen2, tmp_path):
    given, error, says = REFUSED[name]
    asked = {"tuned": "organism-small", "out": tmp_path} | given
    tuned = str(tiny_qwen2) if asked["tuned"] == "REAL" else asked["tuned"]
    with pytest.raises(error, match=says):
        astray.gate("organism", tuned, **{key: value for key, value in asked.items() if key != "tuned"})
    assert not (tmp_path / "gate").exists()
