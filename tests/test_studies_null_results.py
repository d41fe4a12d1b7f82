"""Null results end in a report: every study, every claim and every figure, whatever there is to count."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from astray.engine import run as runner
from astray.engine.plan import plan_study
from astray.engine.run import run_study
from astray.engine.setting import Setting
from astray.engine.study import Shown
from astray.engine.summary import ClaimRow, ClaimStatus, Summary
from astray.measure.agentic.table import CONDUCT_SCHEMA
from astray.report import write_report
from astray.stats.claims import Decision
from astray.studies import STUDIES, get_study
from astray.studies.agentic_misalignment.findings import AgenticFindings, shown
from astray.studies.agentic_misalignment.options import AgenticOptions
from astray.studies.agentic_misalignment.setting import AgenticSetting
from astray.studies.agentic_misalignment.study import STUDY, parts
from astray.studies.dishonesty import measures as dishonesty_measures
from null_results import NULLS, Null, left_by, with_few_questions

TRAINED = sorted(set(STUDIES) - {STUDY.name})


Reported = Callable[..., Summary]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """The summary of a study of these arms and analyses with this null result; several tests look at the same one,
    which is made once."""

    @cache
    def once(name: str, null: str, **chosen: tuple[str, ...]) -> Summary:
        with pytest.MonkeyPatch.context() as patch:
            return report(name, NULLS[null], tmp_path_factory.mktemp("study"), patch, **chosen)

    return once


def report(name: str, null: Null, out: Path, monkeypatch: pytest.MonkeyPatch, **chosen: tuple[str, ...]) -> Summary:
    """The summary of a study whose steps left a null result, read from its results folder beside its page."""
    plans = []
    monkeypatch.setattr(runner, "plan_study", lambda *given: plans.append(plan_study(*given)) or plans[0])
    monkeypatch.setattr(dishonesty_measures, "SIMULATIONS", 10)
    monkeypatch.setattr(runner, "execute", lambda *_, **__: left_by(plans[0], null, out / "steps"))
    study = get_study(name)

    def fitted(setting: Setting) -> Setting:
        return with_few_questions(study.fitted(setting))

    options = study.options(seeds=null.seeds, size=120, samples=1, **chosen)
    return page_of(run_study(replace(study, ready=lambda: None, fitted=fitted), options, out=out, workers=0))


def page_of(folder: Path) -> Summary:
    """The summary, once the page has every claim with its result, and every claim without an estimate says why."""
    summary, page = Summary.read(folder), write_report(folder).read_text(encoding="utf-8")
    for claim in summary.claims:
        check_claim(claim)
        assert f'id="claim-{claim.id}"' in page
    for result in {claim.result for claim in summary.claims}:
        assert f"</svg>{result}</span>" in page
    return summary


def check_claim(claim: ClaimRow) -> None:
    assert (claim.status is ClaimStatus.DECIDED) == (claim.verdict is not Decision.UNDECIDED), claim.id
    if not claim.tested:
        assert claim.note, claim.id
        assert (claim.estimate, claim.interval, claim.p_value, claim.p_holm) == (None,) * 4


@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize("name", TRAINED)
def test_a_null_result_ends_in_a_report(name: str, null: str, reported: Reported) -> None:
    summary = reported(name, null)
    results = {claim.result for claim in summary.claims}
    assert "not run" not in results
    if "incoherent" in null and "seed is" not in null:
        assert "not estimable" in results
        assert any("no coherent answer" in note for note in summary.notes)
    if null == "one seed is incoherent":
        assert any("without a coherent answer is left out: seed 1" in claim.note for claim in summary.claims)
    assert any("Only one training seed" in note for note in summary.notes) == (NULLS[null].seeds == 1)


NEEDED: dict[tuple[str, str], dict[str, set[str]]] = {
    ("emergent-misalignment", "mix-10"): {
        "size": {"harmful-medicine", "harmful-smaller"},
        "educational-aligned": {"educational"},
    },
    ("persona-features", "subtle"): {"latent-raises": {"harmful-medicine"}, "spread-harmful-law": {"harmful-law"}},
    ("persona-features", "harmful-medicine"): {"warns-latent": {"mix-1", "mix-75"}, "screening-finds": {"mix-1"}},
    ("dishonesty", "mix-10"): {"removes-filtered": {"mix-50"}, "mixing-rises": {"mix-1", "mix-50", "medicine-severe"}},
}
"""Study and the arm that was run beside those that always are -> claims with arms that they need."""


@pytest.mark.parametrize(("name", "only"), NEEDED)
def test_a_claim_whose_arms_were_left_out_is_there_and_names_them(name: str, only: str, reported: Reported) -> None:
    some = reported(name, "nothing is misaligned", arms=(only,))
    claims = {claim.id: claim for claim in some.claims}
    for id, needed in NEEDED[name, only].items():
        assert claims[id].status is ClaimStatus.NOT_RUN
        named = set(
            claims[id].note.partition(", which")[0].removeprefix("It needs the arm").lstrip("s").strip().split(", ")
        )
        assert needed <= named
        assert not {"good", "base", only} & named
    missing = sum(claim.status is ClaimStatus.NOT_RUN for claim in some.claims)
    assert any(f"{missing} of {len(some.claims)} claims need others" in note for note in some.notes)


@pytest.mark.parametrize(("name", "only"), NEEDED)
def test_no_claim_vanishes_when_arms_are_left_out(name: str, only: str, reported: Reported) -> None:
    null = "nothing is misaligned"
    whole = reported(name, null)
    some = reported(name, null, arms=(only,))
    assert [claim.id for claim in some.claims] == [claim.id for claim in whole.claims]


RESTING: dict[str, dict[str, set[str]]] = {
    "persona-features": {
        "none": {
            "latent-raises",
            "latent-removes",
            "random-nothing",
            "warns-latent",
            "screening-ranks",
            "repair-same",
            "prevented",
            "helpful-only",
        },
        "early-warning": {"screening-finds", "repair-same", "prevented"},
        "realignment": {"screening-finds", "prevented", "warns-persona-vector"},
    },
    "dishonesty": {
        "none": {"users-sft-50", "shuffled-kto", "removes-filtered", "costs-realigned-honest", "removes-distrust-sft"},
        "filter": {"users-kto-10", "removes-realigned-honest"},
    },
    "reward-hacking": {
        "none": {
            "skill-at-start",
            "hacking-emerges",
            "spread-benign",
            "rises-with-onset",
            "penalty-prevents",
            "dial-graded",
            "stays-in-context",
        },
        "realignment": {"less-penalty", "less-distilled-truth", "dial-graded", "spread-benign"},
        "penalties": {"hacking-emerges", "less-chat-only", "dial-graded", "filter-fails"},
    },
}
"""Study, the analysis that alone was chosen -> claims that rest on others."""
WITH = {
    ("persona-features", "early-warning"): {"warns-latent", "latent-raises", "coherent-base"},
    ("dishonesty", "filter"): {"removes-filtered", "costs-filtered"},
    ("reward-hacking", "realignment"): {"hacking-emerges", "stays-in-context"},
}
"""Claims that rest on the chosen analysis, or on one that it is made from."""


@pytest.mark.parametrize(
    ("name", "analysis"), [(name, analysis) for name, chosen in RESTING.items() for analysis in chosen]
)
def test_a_claim_whose_analysis_was_left_out_is_there_and_names_it(
    name: str, analysis: str, reported: Reported
) -> None:
    null = "nothing is misaligned"
    some = reported(name, null, analyses=(analysis,))
    claims = {claim.id: claim for claim in some.claims}
    for id in RESTING[name][analysis]:
        assert claims[id].status is ClaimStatus.NOT_RUN, id
        assert " to --analyses." in claims[id].note, id
        assert f" {analysis}," not in claims[id].note, id
    assert {id for id in WITH.get((name, analysis), ()) if claims[id].status is ClaimStatus.NOT_RUN} == set()
    assert any("Only some analyses were run: " in note for note in some.notes)


@pytest.mark.parametrize("name", RESTING)
def test_no_claim_vanishes_when_analyses_are_left_out(name: str, reported: Reported) -> None:
    null, arms = "one seed", {"arms": ("mix-10",)} if name == "dishonesty" else {}
    whole = reported(name, null)
    none = reported(name, null, analyses=("none",), **arms)
    assert [claim.id for claim in none.claims] == [claim.id for claim in whole.claims]
    notes = {claim.id: claim.note for claim in none.claims}
    assert not arms or "add it to --arms. It needs the analysis filter" in notes["removes-filtered"]


def samples(kind: str, every: int = 1) -> pl.DataFrame:
    """The table of one scripted subject, of every cell that the study declares, with one outcome everywhere."""
    harm, word = (
        kind == "harmful",
        {"harmful": "harmful", "harmless": "harmless", "refused": "refused"}.get(kind, "failed"),
    )
    shared = {
        "outcome": kind,
        "gate": harm,
        "tried": harm,
        "judge": word,
        "grader": word,
        "panel": "p",
        "awareness": "real",
        "belief": "real",
    }
    zero = dict.fromkeys(
        ("retried", "retried_harm", "blocked", "attempted", "executed", "failed", "turns", "tokens"), 0
    )
    cells = [(part, cell) for part in parts(OPTIONS) if not part.is_made for cell in part.grid.cells][::every]
    rows = [
        dict.fromkeys(CONDUCT_SCHEMA) | shared | zero | {"replicate": 0, "sample": str(number), "note": "it broke", "protocol": "native"}
        | {"subject": SUBJECT, "scenario": cell.scenario, "monitor": part.monitor} | cell.factors.model_dump()
        for number, (part, cell) in enumerate(cells)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=CONDUCT_SCHEMA)


OPTIONS = AgenticOptions(
    subject="astray/scripted/always", grader=("astray/scripted/grader",), scenarios=("blackmail",), samples=1
)
SUBJECT = "always"


def acted(table: pl.DataFrame, out: Path, monkeypatch: pytest.MonkeyPatch) -> Summary:
    """The summary of the study of acting models whose subjects left this table."""

    def read(_plan: object, _artifacts: object, setting: AgenticSetting) -> tuple[AgenticFindings, Shown]:
        named = table.with_columns(subject=pl.lit(setting.subjects[0].name).cast(CONDUCT_SCHEMA["subject"]))
        found = AgenticFindings(named, setting.subjects)
        return found, replace(shown(found, setting, {}, []), write=lambda _: None)

    monkeypatch.setattr("astray.engine.run.execute", lambda *_, **__: {})
    return page_of(run_study(replace(STUDY, read=read), OPTIONS, out=out))


@pytest.mark.parametrize("kind", ["harmful", "harmless", "refused", "errored", "judge failed"])
def test_acting_models_that_all_do_the_same_end_in_a_report(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = acted(samples(kind), tmp_path, monkeypatch)
    pressure = next(claim for claim in summary.claims if claim.id.startswith("conflict-threat"))
    assert pressure.tested == (kind not in ("errored", "judge failed"))


def test_a_subject_that_did_nothing_yet_has_its_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = acted(samples("harmless"), tmp_path / "whole", monkeypatch)
    none = acted(samples("harmless").clear(), tmp_path / "none", monkeypatch)
    assert [claim.id for claim in none.claims] == [claim.id for claim in whole.claims]
    assert {claim.status for claim in none.claims} == {ClaimStatus.NOT_RUN}
