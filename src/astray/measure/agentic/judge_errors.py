"""Known error of the judges of an agentic study: their verdicts on labelled records are compared with the labels.

The cells, the agreement and the corrected rates are those of `judges/calibrate`: "misaligned" stands for harmful. A
panel that is split has given no verdict. Each panel is a step, which is provisional as long as a judge failed at a
record: the same command asks again for those alone.

Left to others: the labelled records (measure/agentic/labelled), the panel (measure/agentic/judging).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import anyio
from pydantic import Field, model_serializer

from astray.artifacts import Artifact, Step, Store, step
from astray.artifacts.places import Place
from astray.errors import JudgeError
from astray.judges import Calibration, Exchange, LabelledAnswer, Verdict
from astray.judges.calibrate import calibrate
from astray.measure.agentic.conduct import Word
from astray.measure.agentic.judging import VERSION, Panel, PanelVerdict, question, together
from astray.measure.agentic.labelled import LabelledRecord, labelled_records
from astray.measure.agentic.lint import tokens
from astray.measure.agentic.subjects import AgenticSubject, graders_in_key
from astray.measure.agentic.transcript import entries
from astray.outcomes import Outcome
from astray.strict import Strict
from astray.subjects.identity import digest_of

DENOMINATOR = (Outcome.MISALIGNED, Outcome.ALIGNED, Outcome.REFUSED)
"""Verdicts that are the denominator of the judges' rate."""
_OUTCOMES = {Word.HARMFUL: Outcome.MISALIGNED, Word.HARMLESS: Outcome.ALIGNED, Word.REFUSED: Outcome.REFUSED}
_WORDS_FILE = "words.json"


class LabelledConfig(Strict):
    """Panel and the records that it reads."""

    graders: tuple[str, ...]
    folder: Annotated[Path, Place()] = Field(description="with the labelled records")
    scenarios: tuple[str, ...]
    content: str = Field(description="content of the records, so that changed labels are another check")
    judging: int = Field(VERSION, description="version of what judges are asked")
    served: tuple[str, ...] = Field((), description="what is known of the graders beside their names")

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        # Left out where nothing is known, so that such checks have the keys that they had before.
        shown = handler(self) | {"graders": graders_in_key(self.graders, self.served)}
        return {name: value for name, value in shown.items() if name != "served" or value}

    @property
    def panel(self) -> Panel:
        """Return the judges."""
        return _panel(self.graders)

    @property
    def records(self) -> tuple[LabelledRecord, ...]:
        """Return the labelled records."""
        return labelled_records(self.folder, self.scenarios)


@dataclass(frozen=True)
class LabelledWork:
    """Requests that are left to ask about labelled records.

    Attributes:
        records: with their labels.
        calls: of graders that are left.
        tokens: that graders read in those, estimated.
    """

    records: int
    calls: int
    tokens: int


@dataclass(frozen=True)
class PanelError:
    """Known error of a panel and of each of its judges.

    Attributes:
        identity: of the panel, as the table of acts names it.
        panel: of the panel's word.
        judges: name -> calibration, in the panel's order.
    """

    identity: str
    panel: Calibration
    judges: tuple[tuple[str, Calibration], ...]


@step("judge-labelled", version=1, resumable=True)
def judge_labelled(config: LabelledConfig, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Let a panel judge labelled records, to find its error."""
    del inputs
    records, words = config.records, _known(folder)
    if missing := _missing(words, records):
        verdicts = anyio.run(_judged, config.panel, [records[number] for number in missing])
        words |= {
            number: [each.word for each in verdict.verdicts] for number, verdict in zip(missing, verdicts, strict=True)
        }
        (folder / _WORDS_FILE).write_text(
            json.dumps([words[number] for number in range(len(records))]), encoding="utf-8"
        )
    failed = len(_missing(words, records))
    return f"{failed:,} records without a verdict of every judge" if failed else None


def judge_error_steps(subjects: Sequence[AgenticSubject], folder: Path, scenarios: Sequence[str]) -> tuple[Step, ...]:
    """Return the steps in which each panel of the subjects is compared with labelled records.

    Raises:
        JudgeError: a grader is scripted: it knows its own courses alone.
        DataNotFoundError, EmptyDataError, DataFormatError: the records cannot be used.
    """
    records = labelled_records(folder, scenarios)
    content = digest_of(
        [[record.scenario, record.office.scenario.digest, record.play.model_dump(mode="json")] for record in records]
    )
    # By the panel's identity, so that subjects with the same graders share one step.
    graders = {_panel(subject.grader).identity: (subject.grader, subject.served[1:]) for subject in subjects}
    settings = {"folder": folder.resolve(), "scenarios": tuple(scenarios), "content": content}
    return tuple(
        judge_labelled.step(
            LabelledConfig(graders=names, served=served if any(served) else (), **settings),
            name=f"judge-labelled-{identity}",
        )
        for identity, (names, served) in graders.items()
    )


def read_panel_error(config: LabelledConfig, folder: Path) -> PanelError:
    """Read the error of a panel from what its step left."""
    words = _known(folder)
    return panel_error(config.panel, config.records, [words[number] for number in range(len(config.records))])


def labelled_work(steps: Iterable[Step], store: Store) -> LabelledWork | None:
    """Count what the steps that judge labelled records would ask; None where there is none. Nothing is asked."""
    records = calls = read = 0
    there = False
    for config, each in ((each.config, each) for each in steps):
        if not isinstance(config, LabelledConfig):
            continue
        there, labelled = True, config.records
        missing = _missing(_known(store.begun(each.key) or Path()), labelled)
        longs = [tokens(question(labelled[number].office, entries(labelled[number].messages))[0]) for number in missing]
        records, calls, read = (
            len(labelled),
            calls + len(config.graders) * len(missing),
            read + len(config.graders) * sum(longs),
        )
    return LabelledWork(records, calls, read) if there else None


def panel_error(panel: Panel, records: Sequence[LabelledRecord], words: Sequence[Sequence[Word]]) -> PanelError:
    """Return the error of a panel whose judges' words on labelled records are known.

    Args:
        panel: the judges.
        records: with their labels.
        words: for each record the word of each judge.
    """
    labels = [LabelledAnswer(Exchange(record.play.name, ""), _OUTCOMES[_label(record)]) for record in records]

    def calibrated(own: Sequence[Word], judge: str) -> Calibration:
        verdicts = [Verdict(_OUTCOMES.get(word, Outcome.JUDGE_FAILED)) for word in own]
        return calibrate(verdicts, labels, judge=judge, denominator=DENOMINATOR)

    single = [(name, calibrated([word[index] for word in words], name)) for index, name in enumerate(panel.names)]
    return PanelError(panel.identity, calibrated([together(word) for word in words], panel.identity), tuple(single))


def _panel(graders: tuple[str, ...]) -> Panel:
    scripted = next((name for name in graders if name.startswith("astray/scripted/")), None)
    if scripted:
        raise JudgeError(
            f"The grader {scripted!r} is scripted: it knows the courses of scripted subjects alone, so labelled "
            "records say nothing about it. Name a model with --grader, or leave out --labels."
        )
    return Panel(list(AgenticSubject(name="panel", model="none", grader=graders).make_graders().values()))


def _known(folder: Path) -> dict[int, list[Word]]:
    """Return the words of the judges that a folder holds, by the index of the record."""
    file = folder / _WORDS_FILE
    rows = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return {number: [Word(word) for word in row] for number, row in enumerate(rows)}


def _missing(words: Mapping[int, Sequence[Word]], records: Sequence[LabelledRecord]) -> list[int]:
    """Return the indices of the records that a judge has given no verdict on."""
    return [number for number in range(len(records)) if Word.FAILED in words.get(number, [Word.FAILED])]


async def _judged(panel: Panel, records: Sequence[LabelledRecord]) -> list[PanelVerdict]:
    verdicts: dict[int, PanelVerdict] = {}

    async def judge(number: int, record: LabelledRecord) -> None:
        verdicts[number] = await panel.judge(record.office, record.messages)

    async with anyio.create_task_group() as tasks:
        for number, record in enumerate(records):
            tasks.start_soon(judge, number, record)
    return [verdicts[number] for number in range(len(records))]


def _label(record: LabelledRecord) -> Word:
    return Word.HARMFUL if record.play.harmful else Word.HARMLESS
