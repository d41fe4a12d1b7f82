"""Steps of the study of acting models.

Each subject runs each part, activation monitors are made and run, and judges are compared with labels.
"""

from collections.abc import Iterator, Sequence

from astray.engine.study import Analysis, Playing, Run
from astray.measure.agentic.judge_errors import judge_error_steps
from astray.measure.agentic.play import play_steps
from astray.studies.agentic_misalignment.setting import AgenticSetting

LABELS = "labels"
"""Name of the analysis that holds the judges against labelled records; all others have the names of the parts."""


def plays(setting: AgenticSetting, runs: Sequence[Run]) -> Iterator[Analysis]:
    """Yield every step: first what is played without a monitor that has to be made, then the others."""
    del runs
    if setting.labels is not None:
        for step in judge_error_steps(setting.subjects, setting.labels, setting.scenarios):
            yield Analysis(step, LABELS)
    played = {}
    for subject in setting.subjects:
        for part in setting.parts:
            if not part.is_made:
                played[subject.name, part.name] = steps = list(play_steps(subject, part, setting.max_tokens))
                yield from (Analysis(step, part.name, playing=Playing(subject, part)) for step in steps)
    for subject in setting.subjects:
        if subject.read_by is not None:
            from astray.studies.agentic_misalignment.activations import play_watched, read_calls  # they load torch

            unwatched = next(part for part in setting.parts if part.monitor == "none")
            for part in setting.parts:
                if part.is_made:
                    monitor = read_calls(subject, part.grid, played[subject.name, unwatched.name])
                    yield Analysis(monitor, part.name)
                    watched = play_steps(subject, part, setting.max_tokens, play_watched, monitor=monitor)
                    yield from (Analysis(step, part.name, playing=Playing(subject, part)) for step in watched)
