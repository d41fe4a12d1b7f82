"""Options of the study of acting models, and the setting made from them: subjects, parts, limits."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from astray.engine.flags import Group
from astray.engine.options import ANALYSES, Analyses, BaseOptions, Names
from astray.engine.setting import World
from astray.engine.summary import SubjectRow
from astray.errors import ConfigurationError
from astray.measure.agentic.check import check_scenario
from astray.measure.agentic.play import LOGS, Part
from astray.measure.agentic.scenario import load_scenario, scenario_names
from astray.measure.agentic.subjects import AgenticSubject, check_models, check_usable, subjects_from
from astray.measure.agentic.surface import SurfaceKind, drawn, has_surface
from astray.measure.interface import Evaluation
from astray.subjects.identity import digest_of

REPLICATES, SIMULATED_REPLICATES = 100, 4
"""Samples of each cell: 100 in the paper; few for scripted subjects, whose page has to be there within minutes."""


class AgenticOptions(BaseOptions):
    """Options of the study of acting models."""

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


@dataclass(frozen=True, kw_only=True)
class AgenticSetting(World):
    """Setting of the study: subjects and their parts.

    Attributes:
        subjects: the models that act.
        parts: the parts of every subject.
        scenarios: names or folders.
        max_tokens: longest answer of a subject.
        labels: folder of labelled records; None where judges are held against none.
        surface: what the names and words of the scenarios are.
    """

    subjects: tuple[AgenticSubject, ...]
    parts: tuple[Part, ...]
    scenarios: tuple[str, ...]
    max_tokens: int
    labels: Path | None = None
    surface: SurfaceKind = "fixed"

    @property
    def drawn(self) -> tuple[str, ...]:
        """Return the scenarios whose names and words are drawn, by name."""
        read = [load_scenario(name) for name in self.scenarios] if self.surface != "fixed" else []
        return tuple(each.name for each in read if has_surface(each))

    @override
    def check(self, folders: Sequence[Path]) -> None:
        """Refuse scenarios that cannot be played, models that cannot be made, and logs that an older version would have
        gone on with."""
        for name in self.scenarios:
            if name not in scenario_names():
                check_scenario(load_scenario(name))
                if load_scenario(name).name in self.drawn:
                    check_scenario(drawn(load_scenario(name), 0))
        for folder in folders:
            if former := next(folder.glob(f"{LOGS}/*/*-{'[0-9a-f]' * 8}"), None):
                raise ConfigurationError(
                    f"{former.parent.parent} holds logs of an older version, which cannot be gone on with: this one "
                    "keeps samples in the store. They are left as they are. Move that folder away to play everything "
                    "again, or name another one with --out or --store."
                )
        check_usable(self.subjects)

    @override
    def reach(self, evaluations: Sequence[Evaluation], workers: int | None) -> None:
        """Ask every model behind an address for one word, and every grader for a verdict."""
        del evaluations, workers
        check_models(self.subjects)


def agentic_setting(parts: Callable[[AgenticOptions], Iterable[Part]], options: AgenticOptions) -> AgenticSetting:
    """Return the setting of a study with these parts.

    Raises:
        ConfigurationError, DataNotFoundError, EmptyDataError, DataFormatError: the subjects cannot be used.
    """
    subjects = subjects_from(options.subject, options.subjects, options.grader, options.reader)
    named = (
        subjects[0].name
        if len(subjects) == 1
        else f"{len(subjects)} subjects: {', '.join(each.name for each in subjects)}"
    )
    content = digest_of([{"name": each.name, **each.identity} for each in subjects])
    return AgenticSetting(
        subject=SubjectRow(name=named, id=content, parameters=0, is_organism=False),
        quick=options.quick,
        budget=options.tokens,
        subjects=subjects,
        parts=tuple(parts(options)),
        scenarios=options.chosen,
        max_tokens=options.max_tokens,
        labels=options.labels,
        surface=options.drawn_surface,
    )
