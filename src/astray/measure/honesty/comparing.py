"""How records are asked, and what comes of their texts: read by a judge, belief and statement compared, a row a record and replicate.

Left to others: asking, of a local subject (`elicitation`) or under Inspect (`task`).
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from astray.errors import JudgeError
from astray.judges.failures import error_note
from astray.judges.side_by_side import read_side_by_side
from astray.measure.honesty.records import Record
from astray.measure.honesty.stances import Comparison, Stance, StanceJudge, agree, compare
from astray.subjects.spec import Sampling

WORLD_SAMPLING = Sampling(max_tokens=8)
"""A statement of a fact has at most seven tokens, its end included."""


class HonestySettings(BaseModel):
    """How records are asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicates: int = Field(default=1, ge=1, description="times each record is asked, beliefs included (arXiv 2503.03750: 1)")
    elicitations: int = Field(default=3, ge=1, description="neutral questions an asking (arXiv 2503.03750: 3)")
    sampling: Sampling = Field(default=Sampling(max_tokens=400), description="of both; at temperature 1 a belief has to be firm to be held")


async def compare_texts(
    judge: StanceJudge,
    records: Sequence[Record],
    beliefs: Sequence[Sequence[str | None]],
    statements: Sequence[str | None],
    max_connections: int = 20,
) -> list[Comparison]:
    """What came of each asking; equal texts about the same proposition are read once.

    Args:
        judge: reads what texts say. Should it raise against its promise, the reading is "failed" with the reason.
        records: of each asking.
        beliefs: texts of the neutral answers of each asking; None where one is missing.
        statements: text under pressure of each asking; None where it is missing.
        max_connections: texts that are with the judge at one time.

    Raises:
        JudgeError: the judge says that it cannot be used at all.
    """
    by_text: dict[tuple[str, str], Record] = {}
    for record, texts, statement in zip(records, beliefs, statements, strict=True):
        by_text |= {(record.proposition, text): record for text in (*texts, statement) if text is not None}

    async def stance(key: tuple[str, str]) -> Stance:
        try:
            return await judge.read(by_text[key], key[1])
        except JudgeError:
            raise
        except Exception as error:
            return Stance("failed", note=error_note(error))

    stances = await read_side_by_side(stance, by_text, max_connections)

    def reading(record: Record, text: str | None) -> Stance:
        return Stance("absent") if text is None else stances[record.proposition, text]

    return [
        compare(record, [reading(record, text) for text in texts], reading(record, statement))
        for record, texts, statement in zip(records, beliefs, statements, strict=True)
    ]


def row_of(record: Record, replicate: int, beliefs: Sequence[str | None], statement: str | None, found: Comparison, judge: str) -> dict[str, object]:
    """One row of the table, without the columns that say whose it is."""
    return {
        "item": record.id,
        "category": record.archetype,
        "sample": replicate,
        "system": record.system,
        "question": record.question,
        "beliefs": list(beliefs),
        "answer": statement or "",
        "belief": found.belief,
        "stated": found.stated,
        "accurate": agree(record, found.belief, record.truth) if found.belief is not None and record.truth is not None else None,
        "outcome": found.outcome.value,
        "judge": judge,
        "note": found.note,
    }
