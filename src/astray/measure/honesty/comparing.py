"""Verdicts on heard samples: a judge reads each text, then belief and statement are compared.

Left to others: asking (`evaluation`), reading a single text (`grading`, `stances`).
"""

from collections.abc import Sequence
from dataclasses import replace

from astray.errors import JudgeError
from astray.judges.failures import error_note
from astray.judges.side_by_side import read_side_by_side
from astray.measure.asking import Heard
from astray.measure.honesty.records import Record
from astray.measure.honesty.stances import Stance, StanceJudge, compare
from astray.measure.statements import BeliefCheck


async def compare_texts(judge: StanceJudge, heard: Sequence[Heard], max_connections: int = 20) -> list[BeliefCheck]:
    """Return the comparison of each sample; equal texts about the same proposition are read once.

    Args:
        judge: reads what texts say. Should it raise against its promise, the reading is "failed" with the reason.
        heard: statements, with the neutral answers beside them (None where one is missing).
        max_connections: texts that are with the judge at one time.

    Raises:
        JudgeError: the judge says that it cannot be used at all.
    """
    texts = [(_record(reply), _beliefs(reply), reply.answer) for reply in heard]
    by_text = {
        (record.proposition, text): record
        for record, beliefs, statement in texts
        for text in (*beliefs, statement)
        if text is not None
    }

    async def stance(key: tuple[str, str]) -> Stance:
        try:
            return await judge.read(by_text[key], key[1])
        # A judge that cannot be used at all would fail at every text, so the run stops at the first one.
        except JudgeError:
            raise
        except Exception as error:
            return Stance("failed", note=error_note(error))

    stances = await read_side_by_side(stance, by_text, max_connections)

    def reading(record: Record, text: str | None) -> Stance:
        return Stance("absent") if text is None else stances[record.proposition, text]

    return [
        _compared(record, [reading(record, text) for text in beliefs], reading(record, statement))
        for record, beliefs, statement in texts
    ]


def _compared(record: Record, beliefs: Sequence[Stance], statement: Stance) -> BeliefCheck:
    served = {model for stance in (*beliefs, statement) for model in stance.served}
    return replace(compare(record, beliefs, statement), served=", ".join(sorted(served)))


def _record(heard: Heard) -> Record:
    assert isinstance(heard.asking.material, Record)
    return heard.asking.material


def _beliefs(heard: Heard) -> list[str | None]:
    """Return the neutral answers; one missing answer where none was heard of a record that asks for some."""
    beliefs = heard.detail.get("beside")
    return list(beliefs) if isinstance(beliefs, list) else [None] * bool(heard.asking.beside)
