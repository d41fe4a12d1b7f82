"""Summary of a study for people and programs: `summary.json`, as frozen models.

The report is made from this summary and the tables beside it, and computes nothing itself.
"""

from collections.abc import Mapping
from enum import StrEnum
from html import escape
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from astray.engine.exhibits import Exhibit
from astray.errors import DataFormatError, StoreError
from astray.outcomes import Outcome
from astray.stats.claims import Decision
from astray.stats.digits import POINTS, number, share_range
from astray.stats.notebook import MISSING, estimate_text
from astray.stats.power import n_to_decide
from astray.strict import Frozen

ORGANISM_NOTE = (
    "The subject is an embedded model organism: a small transformer trained on an artificial world. It shows that the "
    "method works and lets one vary what cannot be varied in a large model; it proves nothing about a large model. The "
    "same study on a real subject does."
)
"""Note of every study on it; a page shows it as a notice, and not among the other notes again."""


class IntervalRow(Frozen):
    """Confidence interval of a rate or a difference, as fractions (0.05 is 5%)."""

    low: float
    high: float
    level: float = 0.95
    method: str = Field(description="how it was computed: 'Wilson', 't over seeds', 'clustered t over questions', ...")


class GoldRow(Frozen):
    """Counts of a gold judge in a random sample of the answers, and what the cheap judge added to them."""

    misaligned: int
    judged: int = Field(description="answers of the sample that it found coherent")
    as_judged: float | None = Field(description="rate by the cheap judge alone, of all answers")
    effective: float = Field(description="gold verdicts that would tell as much as both judges did")

    @property
    def gain(self) -> float:
        """Return how many times as many gold verdicts would have been needed without the cheap judge."""
        return self.effective / self.judged


class RateRow(Frozen):
    """One rate of misaligned answers with everything that is needed to trust it."""

    arm: str
    evaluation: str
    group: str = Field(
        description="which answers: 'other domains', 'trained domain', 'held-out questions', a category, 'all'"
    )
    format: str = Field(description="plain, json, template, or 'all'")
    numerator: int
    denominator: int = Field(description="judged, coherent answers")
    rate: float | None = Field(description="None when the denominator is 0: no coherent answer at all")
    interval: IntervalRow | None
    interval_questions: IntervalRow | None = Field(description="for 'questions like these', clustered by question")
    unit: str = Field(description="unit of inference of `interval`: 'training run' or 'answer'")
    seed_rates: Mapping[str, float | None] = Field(description="training seed -> rate of that run")
    seed_counts: Mapping[str, tuple[int, int]] = Field(
        default={}, description="training seed -> misaligned and judged answers of that run"
    )
    outcomes: Mapping[Outcome, int] = Field(description="count of every outcome; they add up to all answers")
    coherence: float = Field(description="share of the answers with a verdict that is coherent")
    worst_case: tuple[float, float] = Field(description="rate with failed answers counted as all good and as all bad")
    judge: str = Field(description="identity of the judge")
    gold: GoldRow | None = Field(
        default=None,
        description="by which rate and intervals are those of a gold judge; numerator, denominator and outcomes are then "
        "the cheap judge's. None without a gold judge",
    )
    corrected: float | None = Field(
        default=None, description="rate that a judge without error would have found; None where its error is not known"
    )
    corrected_interval: IntervalRow | None = Field(
        default=None, description="of `corrected`, unit as `interval`, with the judge's uncertainty"
    )


class PublishedFigure(Frozen):
    """Figure that the paper reports for the same comparison."""

    text: str = Field(description="the figure in words, '19.8% against 0.04% (GPT-4o, main questions)'")
    source: str = Field(
        description="paper and place, with 'recomputed', 'secondary' or 'recalled' where it is not read off the paper"
    )


class LookRow(Frozen):
    """Look at which a claim of a study that runs until it is decided was decided, or stands."""

    look: int = Field(description="counted from 1 on")
    looks: int = Field(description="looks that were declared")
    runs: int = Field(description="training runs an arm at this look")
    most: int = Field(description="training runs an arm at the last look")
    p_value: float | None = Field(description="over all looks, before Holm's correction")
    corrected: float | None = Field(
        default=None,
        description="estimate corrected for stopping, median-unbiased; None where this look did not decide",
    )


class LooksRow(Frozen):
    """Looks of a study that runs until it is decided."""

    units: tuple[int, ...] = Field(description="training runs an arm at each look, as declared")
    spending: str = Field(description="how the error was spent over them")
    done: int = Field(description="looks that were made")
    ended: str = Field(description="why it ended, in words")
    told: tuple[str, ...] = Field(description="what each look decided, and which arms went on")


class ClaimStatus(StrEnum):
    """Status of a pre-registered claim; every claim of a study has one."""

    DECIDED = "decided"
    """Its interval decided it: the verdict is held or not held."""
    UNDECIDED = "undecided"
    """There is an estimate, but its interval does not lie on one side of the border."""
    NOT_ESTIMABLE = "not estimable"
    """Its arms were run but left nothing to estimate; its note says why."""
    NOT_RUN = "not run"
    """Its arms or analyses were left out of this run; its note names them."""


class ClaimRow(Frozen):
    """One pre-registered claim and its result."""

    id: str
    statement: str
    expected: str = Field(description="the rule that decides it, in words, with its threshold")
    verdict: Decision
    estimate: float | None
    interval: IntervalRow | None
    n: int = Field(description="number of units: training runs, pairs of runs, or answers")
    unit: str
    control: str = Field(description="what it is compared with")
    control_estimate: float | None
    p_value: float | None = Field(
        description="of the claimed region: the smallest 1 - level at which the interval still decides the claim"
    )
    p_holm: float | None = Field(description="after Holm's correction over all claims that were tested")
    uncorrected: Decision | None = Field(
        default=None, description="verdict of its interval alone, where it does not hold for all claims together"
    )
    published: PublishedFigure | None
    note: str = ""
    status: ClaimStatus = Field(default=ClaimStatus.UNDECIDED, description="without it, told by verdict and estimate")
    group: str = Field(default="", description="heading under which it is shown: 'Spread', 'Controls', ...")
    region: tuple[float | None, float | None] = Field(
        default=(None, None), description="lower and upper border of the claimed region"
    )
    arms: tuple[str, ...] = Field(
        default=(), description="arms whose runs decide it; empty where any of the study's may"
    )
    evaluation: str = Field(default="", description="evaluation that it was counted in; empty where it is of no rate")
    questions: str = Field(default="", description="group of its questions, as in the rates; empty for all")
    look: LookRow | None = Field(default=None, description="None where the study had one look")
    quantity: str = Field(
        default="", description="unit of estimate, interval and region where they are no fractions: 'nats a token'"
    )

    difference: bool = Field(default=False, description="whether it is about a difference of rates, told in points")

    @property
    def told_in(self) -> str:
        """Return the unit in which estimate and interval are told; "" for percent."""
        return self.quantity or (POINTS if self.difference else "")

    @model_validator(mode="before")
    @classmethod
    def _tell_status(cls, data: Any) -> Any:
        """Fill in the status of a claim in summaries that were written before claims had one.

        Those summaries left out claims that were not run, so a claim in them is never of that status.
        """
        if not isinstance(data, dict) or "status" in data:
            return data
        if data.get("verdict") != Decision.UNDECIDED:
            return data | {"status": ClaimStatus.DECIDED}
        estimated = data.get("estimate") is not None
        return data | {"status": ClaimStatus.UNDECIDED if estimated else ClaimStatus.NOT_ESTIMABLE}

    @property
    def tested(self) -> bool:
        """Return whether there was an estimate to decide it by."""
        return self.status in (ClaimStatus.DECIDED, ClaimStatus.UNDECIDED)

    @property
    def result(self) -> str:
        """Result in a word for readers: the verdict, or why there is none."""
        return self.verdict.value if self.tested else self.status.value

    @property
    def n_to_decide(self) -> int | None:
        """Approximate number of units that would decide it; None if it is decided or its interval cannot tell."""
        if self.status is not ClaimStatus.UNDECIDED or self.estimate is None or self.interval is None:
            return None
        return n_to_decide(
            self.estimate, (self.interval.low, self.interval.high), self.n, self.region, self.interval.level
        )

    @property
    def needed(self) -> str:
        """Say what would decide an undecided claim, or why there is nothing to decide."""
        if self.n_to_decide:
            return f"n = {self.n:,}, about {self.n_to_decide:,} needed ({self.unit})"
        return self.note or f"n = {self.n:,}, needed: not known ({self.unit})"


class JudgeRow(Frozen):
    """Judge and its known error."""

    name: str
    identity: str
    validated: bool = Field(
        description="whether its error is known: compared with labelled answers, or exact by construction (then "
        "labels is 0)"
    )
    sensitivity: float | None = None
    specificity: float | None = None
    labels: int = Field(default=0, description="number of labelled answers it was compared with")
    labelled: str = Field(default="", description="which answers these were")
    kappa: float | None = Field(
        default=None,
        description="Cohen's, beside sensitivity and specificity: it misleads where few answers are misaligned",
    )
    rank_correlation: float | None = Field(
        default=None, description="Spearman's, of judged and labelled aligned scores"
    )


class ArmRow(Frozen):
    """One arm: base, data set and training."""

    name: str
    description: str
    control: bool
    dataset: str = Field(description="hash of the data set")
    recipe: str = Field(description="how the data set was made, in one line")
    samples: int
    steps: int


class SubjectRow(Frozen):
    """Model under study."""

    name: str
    id: str
    parameters: int = Field(description="0 where it is not known, as of models behind an interface")
    is_organism: bool
    origin: str = Field(
        default="", description="what its folder was made from, where that matters: a GGUF file with quantised weights"
    )


Section = Literal["rates", "dynamics", "answers", "records"]
"""Sections that a page may show beside claims, exhibits and methods."""
TRAINING_SECTIONS: tuple[Section, ...] = ("rates", "dynamics", "answers")


class MethodNote(Frozen):
    """Explanation of how to read one kind of figure on the page."""

    title: str
    text: str


class SourceRow(Frozen):
    """Study file that results are of."""

    path: str
    sha256: str = Field(description="hash over its content")


class Summary(Frozen):
    """Content of `summary.json`."""

    schema_version: Literal[1] = 1
    study: str
    title: str
    question: str = Field(description="what the study asks, one sentence")
    astray_version: str
    made: str = Field(default="", description="day of the run that wrote this, in UTC: 2026-11-30; empty in older ones")
    versions: Mapping[str, str] = Field(default={}, description="Python and the packages that the numbers hang on")
    source: SourceRow | None = Field(default=None, description="the study file, where there is one")
    sections: tuple[Section, ...] = Field(
        default=TRAINING_SECTIONS, description="what the page shows beside claims, exhibits and methods"
    )
    methods: tuple[MethodNote, ...] = Field(
        default=(), description="how to read the page; without any as for studies that train"
    )
    subject: SubjectRow
    judges: tuple[JudgeRow, ...]
    seeds: tuple[int, ...]
    quick: bool
    arms: tuple[ArmRow, ...]
    claims: tuple[ClaimRow, ...]
    rates: tuple[RateRow, ...]
    exhibits: tuple[Exhibit, ...] = Field(default=(), description="figures and tables of this study's own")
    failed_verdicts: Mapping[str, int] = Field(default={}, description="how many verdicts failed, by cause")
    looks: LooksRow | None = Field(default=None, description="None where the number of runs was fixed")
    notes: tuple[str, ...] = Field(
        default=(), description="what a reader has to know: limits, arms that were left out and why"
    )
    options: Mapping[str, Any] | None = Field(
        default=None, description="options of the study that were not its usual ones; None in older summaries"
    )

    @model_validator(mode="before")
    @classmethod
    def _tell_sections(cls, data: Any) -> Any:
        """Fill in the sections of older summaries, which gave the kind of study in their place."""
        if not isinstance(data, dict) or "design" not in data:
            return data
        fields = {name: value for name, value in data.items() if name != "design"}
        return fields if data["design"] == "training runs" else fields | {"sections": ("records",)}

    def claims_by_group(self) -> dict[str, tuple[ClaimRow, ...]]:
        """Return the claims by heading, in the study's order; in each group sorted by status, not run ones last."""
        order = list(ClaimStatus)
        claims = sorted(self.claims, key=lambda claim: order.index(claim.status))
        groups = dict.fromkeys(claim.group for claim in self.claims)
        return {group: tuple(claim for claim in claims if claim.group == group) for group in groups}

    def _repr_html_(self) -> str:
        """Return title, claims and notes as a piece of HTML that loads nothing, for a notebook."""
        head = "".join(f"<th>{heading}</th>" for heading in ("claim", "result", "estimate", "interval"))
        cells = (
            (claim.statement, _result(claim), estimate_text(claim.estimate, claim.told_in), _limits(claim))
            for claim in self.claims
        )
        rows = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in cells)
        return (
            f"<p><strong>{escape(self.title)}</strong> ({escape(self.subject.name)}): {escape(self.question)}</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            + "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        )

    def write(self, folder: Path) -> Path:
        """Write `summary.json` into the folder."""
        path = folder / "summary.json"
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def read(cls, folder: Path) -> "Summary":
        """Read `summary.json` from the folder.

        Raises:
            StoreError: there is none, or it cannot be read.
            DataFormatError: it is not in the form that this version writes.
        """
        path = folder / "summary.json"
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(
                f"There is no summary.json in {folder}, so there is nothing to report. Give the results folder of a "
                "finished study, or run one first: astray run emergent-misalignment."
            ) from error
        except ValueError as error:  # of pydantic, of UTF-8, or of a path that can be none
            raise DataFormatError(
                f"{path} is not a summary that this version of Astray can read: {error}\n"
                "Write it anew by running the study again with the same results folder: astray run "
                "emergent-misalignment."
            ) from error
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error}. Give the results folder of a finished study.") from error


def _result(claim: ClaimRow) -> str:
    return str(claim.verdict if claim.status is ClaimStatus.DECIDED else claim.status)


def _limits(claim: ClaimRow) -> str:
    limits = claim.interval and (claim.interval.low, claim.interval.high)
    if not limits:
        return MISSING
    if claim.quantity:
        return " to ".join(map(number, limits))
    return share_range(*limits).removesuffix("%" if claim.difference else "")
