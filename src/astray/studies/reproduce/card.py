"""A paper's card: published findings with the claims of our study that test them, and what those claims found.

Our figures are those of the project's docs, with their command, or those of a results folder. Whether a finding agrees
is decided by the verdicts of its claims alone. Why it does not is written by hand in `PAPER.yaml`, for the run in the
docs, and is not shown beside a run that found something else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from astray.engine.summary import ClaimRow, Summary
from astray.errors import ConfigurationError, UnknownNameError
from astray.files import read_yaml
from astray.report.wording import amount, range_of
from astray.strict import Strict, validated
from astray.studies import STUDIES
from astray.studies.reproduce.recount import Recounted, recount


class PublishedAgreement(StrEnum):
    """Agreement of our run with a published finding."""

    AGREES = "agrees"
    """All claims that test it are held."""
    DIFFERS = "differs"
    """A claim that tests it is not held."""
    UNDECIDED = "undecided"
    """No claim speaks against it, and not all are decided."""
    NOT_MEASURED = "not measured"
    """No claim that tests it has an estimate in this run."""


class PublishedFinding(Strict):
    """Published finding."""

    finding: str
    published: str
    source: str
    claims: tuple[str, ...]
    why: str = ""


class Paper(Strict):
    """Paper with its findings, and the figures of our run in the docs as rows of a Markdown table."""

    title: str
    paper: str
    docs: str
    command: str
    full: str
    note: str = ""
    ours: str
    findings: tuple[PublishedFinding, ...]


@dataclass(frozen=True)
class MeasuredFinding:
    """Result of our run for one claim, in words."""

    claim: str
    verdict: str
    estimate: str
    interval: str
    control: str

    def __str__(self) -> str:
        return f"{self.claim}: {self.verdict}, {self.estimate} ({self.interval}), control {self.control}"


@dataclass(frozen=True)
class ComparedFinding:
    """Published finding beside our run; `why` is empty where nothing is known that would explain it."""

    finding: PublishedFinding
    ours: tuple[MeasuredFinding, ...]
    agreement: PublishedAgreement
    why: str


@dataclass(frozen=True)
class ReproductionCard:
    """Everything on the page of one paper.

    Attributes:
        paper: as published.
        run: which run our figures are from, in words.
        compared: its findings, in their order.
        recounted: published raw answers, counted again; empty without them.
    """

    paper: Paper
    run: str
    compared: tuple[ComparedFinding, ...]
    recounted: tuple[Recounted, ...]


def read_paper(name: str) -> Paper:
    """Return a paper by the name of its study.

    Raises:
        UnknownNameError: there is none; lists the names.
    """
    if name not in STUDIES:
        raise UnknownNameError("paper", name, STUDIES)
    return validated(Paper, read_yaml(Path(__file__).with_name(f"{name.replace('-', '_')}.yaml"), "title: ..."))


def make_card(name: str, results: Path | None = None, data: Path | None = None) -> ReproductionCard:
    """Compare a paper with our run.

    Args:
        name: of the paper's study.
        results: results folder of that study; without it the figures of the docs are taken.
        data: folder with the published raw answers, which are then recounted.

    Raises:
        UnknownNameError, StoreError, DataFormatError, DataNotFoundError: as their names say.
        ConfigurationError: the results are of another study, or no raw answers of this paper are known.
    """
    paper = read_paper(name)
    recounted = () if data is None else recount(name, data)
    documented = _rows(paper.ours)
    if results is None:
        run = f"organism, {paper.docs}" if documented else "none"
        told = tuple(_compared(finding, documented, finding.why) for finding in paper.findings)
        return ReproductionCard(paper, run, told, recounted)
    summary = Summary.read(results)
    if summary.study != name:
        raise ConfigurationError(
            f"{results} holds results of {summary.study}, not of {name}. Name that paper, or give a results folder of "
            f"{name}."
        )
    measured = [_measured(claim) for claim in summary.claims if claim.estimate is not None]
    compared = []
    for finding in paper.findings:
        before, now = _compared(finding, documented, finding.why), _compared(finding, measured, "")
        explained = summary.subject.is_organism and before.agreement is now.agreement
        compared.append(replace(now, why=finding.why) if explained else now)
    quick = ", a quick run: too small to conclude from" if summary.quick else ""
    return ReproductionCard(paper, f"{summary.subject.name}, {results}{quick}", tuple(compared), recounted)


def _rows(table: str) -> list[MeasuredFinding]:
    """Return the rows of a Markdown table: claim, verdict, estimate, interval, control."""
    cells = [[cell.strip(" `") for cell in line.strip(" |").split("|")] for line in table.splitlines() if line.strip()]
    return [MeasuredFinding(*row) for row in cells]


def _measured(claim: ClaimRow) -> MeasuredFinding:
    alone = f" (alone: {claim.uncorrected})" if claim.uncorrected not in (None, claim.verdict) else ""
    return MeasuredFinding(
        claim.id,
        f"{claim.result}{alone}",
        amount(claim.estimate, claim.told_in),
        range_of(claim.interval, claim.told_in),
        amount(claim.control_estimate, claim.quantity),
    )


def _compared(finding: PublishedFinding, measured: Sequence[MeasuredFinding], why: str) -> ComparedFinding:
    """Return a finding beside the claims that test it; claims of several subjects end in the subject's name."""
    by_claim = [
        [one for one in measured if one.claim == name or one.claim.startswith(f"{name}-")] for name in finding.claims
    ]
    ours = tuple(one for group in by_claim for one in group)
    if not ours:
        agreement = PublishedAgreement.NOT_MEASURED
    elif any(one.verdict.startswith("not held") for one in ours):
        agreement = PublishedAgreement.DIFFERS
    elif all(by_claim) and all(one.verdict.startswith("held") for one in ours):
        agreement = PublishedAgreement.AGREES
    else:
        agreement = PublishedAgreement.UNDECIDED
    return ComparedFinding(finding, ours, agreement, why)
