"""Asks a local subject in bulk: every neutral question and every pressured one in a few big batches, then reads and compares.

The same records, rules and table as the Inspect task (`task`), many times as fast; with the world's judge it is exact.
"""

from collections.abc import Sequence

import anyio
import polars as pl

from astray.measure.honesty.comparing import HonestySettings, compare_texts, row_of
from astray.measure.honesty.records import Record, check_records
from astray.measure.honesty.stances import StanceJudge
from astray.measure.honesty.table import honesty_table
from astray.subjects.subject import Subject


def measure_honesty(
    subject: Subject,
    records: Sequence[Record],
    judge: StanceJudge,
    settings: HonestySettings | None = None,
    *,
    evaluation: str = "honesty",
    arm: str = "",
    seed: int = 0,
    max_connections: int = 20,
) -> pl.DataFrame:
    """Beliefs and statements of a local subject, read and compared.

    Args:
        subject: a loaded subject.
        records: what is asked.
        judge: reads what texts say; `WorldStanceJudge` for records of the world, `GraderStanceJudge` for others.
        settings: replicates, elicitations and sampling.
        evaluation: the evaluation's name in the table.
        arm: name of the subject's arm, for the table.
        seed: training seed of the subject, for the table; it also moves the sampling seed, so runs do not share their luck.
        max_connections: texts that are with the judge at one time.

    Returns:
        A table with one row a record and replicate, in that order (see `table`).

    Raises:
        ConfigurationError: there are no records, or an id stands twice.
        JudgeError: the judge cannot be used at all.
    """
    settings = settings or HonestySettings()
    askings = [(record, replicate) for record in check_records(records) for replicate in range(settings.replicates)]
    sampling = settings.sampling.model_copy(update={"seed": settings.sampling.seed + 1000 * seed})
    neutral = [record.beliefs_asked(settings.elicitations) for record, _ in askings]
    # Numbered by replicate and turn: what a record gets does not hang on which others are asked, and equal questions get equal draws.
    numbers = [replicate * settings.elicitations + turn for (_, replicate), chats in zip(askings, neutral, strict=True) for turn in range(len(chats))]
    numbers += [replicate for _, replicate in askings]
    asked = [*(chat for chats in neutral for chat in chats), *(record.pressured for record, _ in askings)]
    said = iter(answer.text for answer in subject.generate(asked, sampling, numbers=numbers))
    beliefs = [[next(said) for _ in chats] for chats in neutral]
    statements = list(said)
    compared = anyio.run(compare_texts, judge, [record for record, _ in askings], beliefs, statements, max_connections)
    return honesty_table(
        [
            row_of(record, replicate, texts, statement, found, judge.identity)
            | {"arm": arm, "seed": seed, "subject": subject.id, "evaluation": evaluation}
            for (record, replicate), texts, statement, found in zip(askings, beliefs, statements, compared, strict=True)
        ]
    )
