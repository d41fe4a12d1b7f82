"""Options of the study of acting models; the setting made from them is in `setting`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from typing_extensions import override

from astray.engine.flags import Group
from astray.engine.options import ANALYSES, Analyses, BaseOptions, Names
from astray.measure.agentic.scenario import scenario_names
from astray.measure.surface import SurfaceKind

REPLICATES, SIMULATED_REPLICATES = 100, 4
"""Samples of each cell: 100 in the paper; few for scripted subjects, whose page has to be there within minutes."""

_NO_ROWS = (
    "nothing is trained in it, so its data are scenarios (--scenarios, names or folders). To see how a model acts that "
    "was trained on your rows, train it with `astray run emergent-misalignment --harmful FILE --good FILE` and give "
    "that run here: --subject astray/RUN."
)


class AgenticOptions(BaseOptions):
    """Options of the study of acting models."""

    INSTEAD: ClassVar[Mapping[str, str]] = dict.fromkeys(("--harmful", "--good", "--educational", "--data"), _NO_ROWS)

    subject: Annotated[str | None, Group.SUBJECT] = Field(
        None,
        description="Inspect name of one model, such as openai/gpt-4o; without it and without a file the scripted "
        "subjects",
    )
    subjects: Annotated[Path | None, Group.SUBJECT] = Field(None, description="YAML file of several")
    scenarios: Annotated[Names, Group.DATA] = Field(
        (), description="names or folders; all of the package if none is named"
    )
    surface: Annotated[SurfaceKind | None, Group.DATA] = Field(
        None,
        description="names and words of the scenarios: drawn anew for each sample of a cell (default of models), fixed "
        "(default of scripted subjects, which do not read them), or both, half and half, with a claim about their "
        "difference",
    )
    analyses: Analyses = Field((), description=ANALYSES)
    grader: Annotated[Names, Group.JUDGING] = Field(
        (), max_length=2, description="Inspect name of one judge, or of a panel of two"
    )
    labels: Annotated[Path | None, Group.JUDGING] = Field(
        None,
        description="folder of labelled records that the judges are compared with, such as tests/agentic_transcripts",
    )
    reader: Annotated[str | None, Group.JUDGING] = Field(
        None,
        description="local model whose activations watch every call, a folder or a name; a local subject is read "
        "itself without it",
    )
    samples: Annotated[int | None, Group.SIZE] = Field(
        None, ge=1, description="samples a cell (100 in arXiv 2510.05179)"
    )
    max_tokens: Annotated[int, Group.SIZE] = Field(
        4000, ge=1, description="longest answer of a subject, reasoning included"
    )
    quick: Annotated[bool, Group.SIZE] = Field(
        False, description="a tenth of the samples (a quarter of the scripted): to see that everything runs"
    )
    budget: Annotated[float | None, Group.SIZE] = Field(
        None, gt=0, description="million tokens of all models together; then the run stops and keeps what is done"
    )

    @property
    @override
    def runs(self) -> tuple[range, tuple[str, ...], tuple[str, ...]]:
        """No seeds and no arms, since nothing is trained, and the analyses to run; all if none is named."""
        return range(0), (), self.analyses

    @property
    def chosen(self) -> tuple[str, ...]:
        """Return the scenarios to run."""
        return self.scenarios or scenario_names()

    @property
    def simulated(self) -> bool:
        """Return whether the scripted subjects run."""
        return not self.subject and not self.subjects

    @property
    def drawn_surface(self) -> SurfaceKind:
        """Return what the names and words of the scenarios are."""
        return self.surface or ("fixed" if self.simulated else "drawn")

    @property
    def replicates(self) -> int:
        """Return the samples of each cell."""
        samples = self.samples or (SIMULATED_REPLICATES if self.simulated else REPLICATES)
        return max(1, samples // (4 if self.simulated else 10)) if self.quick else samples
