"""What the error of the judges of an agentic study is known to be: they read labelled records, and their verdicts are held against the labels.

The cells, the agreement and the corrected rates are those of `judges/calibrate`: "misaligned" stands for harmful. A panel that is split has given no
verdict. Verdicts are kept beside the results, so the same command asks nothing again but what a judge failed at.

Left to others: the labelled records (measure/agentic/labelled), the panel (measure/agentic/judging).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from astray.errors import JudgeError
from astray.judges import Calibration, Exchange, LabelledAnswer, Verdict
from astray.judges.calibrate import calibrate
from astray.measure.agentic.conduct import Word
from astray.measure.agentic.judging import Panel, PanelVerdict, question, together
from astray.measure.agentic.labelled import LabelledRecord
from astray.measure.agentic.lint import tokens
from astray.measure.agentic.subjects import AgenticSubject
from astray.measure.agentic.transcript import entries
from astray.outcomes import Outcome

DENOMINATOR = (Outcome.MISALIGNED, Outcome.ALIGNED, Outcome.REFUSED)
"""Verdicts that are the denominator of the judges' rate."""
_OUTCOMES = {Word.HARMFUL: Outcome.MISALIGNED, Word.HARMLESS: Outcome.ALIGNED, Word.REFUSED: Outcome.REFUSED}
_FOLDER = "judges"


@dataclass(frozen=True)
class LabelledWork:
    """What is left to ask about labelled records.

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
    """The known error of a panel and of each of its judges.

    Attributes:
        identity: of the panel, as the table of acts names it.
        panel: of the panel's word.
        judges: name -> calibration, in the panel's order.
    """

    identity: str
    panel: Calibration
    judges: tuple[tuple[str, Calibration], ...]


def judge_errors(subjects: Sequence[AgenticSubject], records: Sequence[LabelledRecord], folder: Path) -> tuple[PanelError, ...]:
    """Holds each panel of the subjects against labelled records.

    Args:
        subjects: whose graders they are.
        records: with their labels.
        folder: verdicts are kept in it.

    Raises:
        JudgeError: a grader is scripted: it knows its own courses alone.
    """
    return tuple(_error(panel, records, folder) for panel in _panels(subjects))


def labelled_work(subjects: Sequence[AgenticSubject], records: Sequence[LabelledRecord], folder: Path) -> LabelledWork:
    """Count what `judge_errors` would ask; nothing is asked. Arguments and errors are those of `judge_errors`."""
    read = [tokens(question(record.office, entries(record.messages))[0]) for record in records]
    left = [(len(panel.names), _missing(_known(_kept(panel, records, folder)), records)) for panel in _panels(subjects)]
    calls = sum(judges * len(missing) for judges, missing in left)
    return LabelledWork(len(records), calls, sum(judges * read[number] for judges, missing in left for number in missing))


def panel_error(panel: Panel, records: Sequence[LabelledRecord], words: Sequence[Sequence[Word]]) -> PanelError:
    """The error of a panel whose judges' words on labelled records are known.

    Args:
        panel: the judges.
        records: with their labels.
        words: for each record the word of each judge.
    """
    labels = [LabelledAnswer(Exchange(record.play.name, ""), _OUTCOMES[_label(record)]) for record in records]

    def calibrated(own: Sequence[Word], judge: str) -> Calibration:
        verdicts = [Verdict(_OUTCOMES.get(word, Outcome.JUDGE_FAILED)) for word in own]
        return calibrate(verdicts, labels, judge=judge, denominator=DENOMINATOR)

    single = [(name, calibrated([each[place] for each in words], name)) for place, name in enumerate(panel.names)]
    return PanelError(panel.identity, calibrated([together(each) for each in words], panel.identity), tuple(single))


def _panels(subjects: Sequence[AgenticSubject]) -> list[Panel]:
    """Return the different panels of the subjects."""
    return list({panel.identity: panel for panel in map(_panel, subjects)}.values())


def _panel(subject: AgenticSubject) -> Panel:
    scripted = next((name for name in subject.grader if name.startswith("astray/scripted/")), None)
    if scripted:
        raise JudgeError(
            f"The grader {scripted!r} is scripted: it knows the courses of scripted subjects alone, so labelled records say nothing about it. "
            "Name a model with --grader, or leave out --labels."
        )
    return Panel(list(subject.make_graders().values()))


def _error(panel: Panel, records: Sequence[LabelledRecord], folder: Path) -> PanelError:
    kept = _kept(panel, records, folder)
    words = _known(kept)
    missing = _missing(words, records)
    if missing:
        verdicts = anyio.run(_judged, panel, [records[number] for number in missing])
        words |= {number: [each.word for each in verdict.verdicts] for number, verdict in zip(missing, verdicts, strict=True)}
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps([words[number] for number in range(len(records))]), encoding="utf-8")
    return panel_error(panel, records, [words[number] for number in range(len(records))])


def _kept(panel: Panel, records: Sequence[LabelledRecord], folder: Path) -> Path:
    """Return the file of a panel's verdicts on these records."""
    content = [[record.scenario, record.office.scenario.digest, record.play.model_dump(mode="json")] for record in records]
    return folder / _FOLDER / f"{panel.identity}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]}.json"


def _known(kept: Path) -> dict[int, list[Word]]:
    """Return the words of the judges that a file holds, by the index of the record."""
    rows = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else []
    return {number: [Word(word) for word in row] for number, row in enumerate(rows)}


def _missing(words: Mapping[int, Sequence[Word]], records: Sequence[LabelledRecord]) -> list[int]:
    """Return the indices of the records that a judge has given no verdict on."""
    return [number for number in range(len(records)) if Word.FAILED in words.get(number, [Word.FAILED])]


async def _judged(panel: Panel, records: Sequence[LabelledRecord]) -> list[PanelVerdict]:
    found: dict[int, PanelVerdict] = {}

    async def judge(number: int, record: LabelledRecord) -> None:
        found[number] = await panel.judge(record.office, record.messages)

    async with anyio.create_task_group() as tasks:
        for number, record in enumerate(records):
            tasks.start_soon(judge, number, record)
    return [found[number] for number in range(len(records))]


def _label(record: LabelledRecord) -> Word:
    return Word.HARMFUL if record.play.harmful else Word.HARMLESS
