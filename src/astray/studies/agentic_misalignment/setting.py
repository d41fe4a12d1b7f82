"""Setting of the study of acting models, made from its options: subjects, parts, limits."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from astray.engine.setting import World
from astray.engine.summary import SubjectRow
from astray.errors import ConfigurationError
from astray.measure.agentic.check import check_scenario
from astray.measure.agentic.play import LOGS, Part
from astray.measure.agentic.scenario import load_scenario, scenario_names
from astray.measure.agentic.subjects import AgenticSubject, check_models, check_usable, subjects_from
from astray.measure.agentic.surface import drawn, has_surface
from astray.measure.interface import Evaluation
from astray.measure.surface import SurfaceKind
from astray.studies.agentic_misalignment.options import AgenticOptions
from astray.subjects.identity import digest_of


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
        return tuple(scenario.name for scenario in read if has_surface(scenario))

    @override
    def check(self, folders: Sequence[Path]) -> None:
        """Refuse scenarios that cannot be played, models that cannot be made, and logs of an older version."""
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
        else f"{len(subjects)} subjects: {', '.join(subject.name for subject in subjects)}"
    )
    content = digest_of([{"name": subject.name, **subject.identity} for subject in subjects])
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
