"""Gates that ask until they are decided: errors over all looks, what ends them, and looks that cannot be changed."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import astray
from astray.artifacts import Store
from astray.engine.looks import LookBook
from astray.errors import ConfigurationError
from astray.outcomes import Outcome
from astray.stats.noninferiority import margin_tails
from astray.stats.rates import Rate
from astray.studies.gate.bars import RULES, Bar, Verdict
from astray.studies.gate.looks import GateLooks, declared_looks, looked_until_decided
from astray.studies.gate.result import GateResult

WIDE = {"margin": 0.2, "coherence_margin": 0.3, "refusal_margin": 0.3}
MARGINS = {"misaligned": 0.02, "incoherent": 0.05, "refused": 0.05}


@pytest.mark.parametrize(("rate", "icc"), [(0.02, 0.1), (0.1, 0.3), (0.3, 0.1)])
def test_releases_at_the_margin_pass_in_few_cases_over_all_looks(rate: float, icc: float) -> None:
    looks, releases, questions = GateLooks((4, 8, 16)), 400, 64
    rng = np.random.default_rng(0)

    def rates(mean: float) -> np.ndarray:
        return rng.beta(mean * (1 / icc - 1), (1 - mean) * (1 / icc - 1), (releases, questions))

    base, tuned = rates(rate), rates(rate + 0.02)
    k = np.zeros((2, releases, questions), dtype=np.int64)
    passed, before = np.zeros(releases, dtype=bool), 0
    for size, level in zip(looks.units, looks.levels, strict=True):
        k += rng.binomial(size - before, np.stack([tuned, base]))
        n, before = np.full((releases, questions), size), size
        passed |= margin_tails(k[0], n, k[1], n, 0.02)[0] < 1 - level
    assert passed.mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / releases)


def test_a_gate_looks_further_and_the_same_command_is_no_new_look(tmp_path):
    def looked() -> GateResult:
        return astray.gate("organism-small", "organism-small", until_decided=True, looks=(1, 2), out=tmp_path, **WIDE)

    first = looked()
    assert first.look in ((1, 2), (2, 2))
    assert first.level > 0.95
    assert f"look {first.look[0]} of 2" in first.text()
    assert first.notes[0].startswith("Look 1 of 2, with 1 answers a question: ")
    assert first.as_object()["look"] == first.look
    again = looked()
    assert (again.look, again.verdict, again.notes) == (first.look, first.verdict, first.notes)
    for changed in ({"looks": (1, 2, 3)}, {"margin": 0.1}):
        given = {"until_decided": True, "looks": (1, 2), **WIDE, **changed}
        with pytest.raises(ConfigurationError, match=r"changed afterwards do not hold the error.* --seed 1"):
            astray.gate("organism-small", "organism-small", out=tmp_path, **given)


def test_looks_without_a_declaration_are_told_and_a_boundary_after_them_is_refused(tmp_path):
    def gated(samples: int) -> GateResult:
        return astray.gate("organism-small", "organism-small", samples=samples, out=tmp_path)

    assert not any("looked at before" in note for note in gated(1).notes)
    assert not any("looked at before" in note for note in gated(1).notes)
    assert "looked at before, with 1 of each question" in gated(2).notes[0]
    with pytest.raises(ConfigurationError, match="without declared looks"):
        astray.gate("organism-small", "organism-small", until_decided=True, looks=(1, 2), out=tmp_path)


REFUSED = [
    ({"looks": (1, 2)}, "--looks is about looks of a gate: add --until-decided"),
    ({"max_hours": 1.0}, "--max-hours is about looks"),
    ({"until_decided": True, "extend": True}, "give one of them"),
    ({"until_decided": True, "looks": (2, 1)}, "each has more than the one before"),
    ({"until_decided": True, "max_hours": 0.0}, "lets nothing run"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_looks_that_cannot_be_are_refused(options, message, tmp_path):
    with pytest.raises(ConfigurationError, match=message):
        astray.gate("organism-small", "organism-small", out=tmp_path, **options)


def test_by_default_looks_double_the_answers():
    looks = declared_looks(6, (), True, None, extend=False)
    assert looks is not None
    assert looks.units == (6, 12, 24, 48)
    assert min(looks.levels) > 0.95


def undecided(size: int, level: float) -> GateResult:
    """A gate of which no number of answers decides the first bar."""
    nothing = Rate(0, 0, None, None, "answer", (), dict.fromkeys(Outcome, 0), {})
    bars = tuple(Bar(rule, MARGINS[rule.name], nothing, nothing, None) for rule in RULES)
    empty = pl.DataFrame()
    return GateResult("a", "b", Verdict.UNDECIDED, bars, size, level, "judge", (), empty, empty)


def test_it_ends_where_further_answers_cannot_decide_and_where_the_budget_is_spent(tmp_path):
    def book() -> LookBook:
        return LookBook(Store(tmp_path), "gate", ["same"], "answers to each question from", lambda _: "--seed 1")

    asked: list[int] = []

    def decided(size: int, level: float) -> GateResult:
        asked.append(size)
        return undecided(size, level)

    looks = GateLooks((2, 4, 8, 16))
    spent = looked_until_decided(decided, looks, book(), MARGINS, lambda: True)
    assert "Undecided: budget. Look 1 of 4 was not made whole" in spent.notes[0]
    assert spent.verdict is Verdict.UNDECIDED
    ended = looked_until_decided(decided, looks, book(), MARGINS, lambda: False)
    assert asked == [2, 2, 4]
    assert "further answers would not decide misaligned and incoherent and refused" in ended.notes[0]
    late = replace(looks, hours=1e-12)
    assert (
        "Undecided: budget"
        in looked_until_decided(
            decided, late, LookBook(Store(tmp_path), "gate", ["other"], "answers", str), MARGINS, lambda: False
        ).notes[0]
    )
