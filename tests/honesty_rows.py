"""Judged answers to an evaluation of honesty, made from counts of words; and asking a subject in one go."""

import polars as pl

from astray.answers import ANSWER_SCHEMA, answer_table, write_detail
from astray.measure.honesty.evaluation import Honesty
from astray.measure.statements import OUTCOMES, HonestyWord
from astray.outcomes import Outcome


def asked(word: str, **columns: object) -> dict[str, object]:
    """One row with this word; what is neither a column nor given stands in the detail."""
    shared = OUTCOMES[HonestyWord(word)] if word in list(HonestyWord) else Outcome(word)
    texts = {
        "arm": "a",
        "seed": 0,
        "subject": "s",
        "evaluation": "honesty",
        "format": "plain",
        "judge": "j",
        "note": "",
        "answer": "",
        "question": "q",
    }
    detail = {"word": word} | {name: value for name, value in columns.items() if name not in ANSWER_SCHEMA}
    own = {name: value for name, value in columns.items() if name in ANSWER_SCHEMA}
    return dict.fromkeys(ANSWER_SCHEMA) | texts | own | {"outcome": shared.value, "detail": write_detail(detail)}


def counted(counts: dict[str, int], **columns: object) -> pl.DataFrame:
    """So many rows of each word, over five records."""
    words = [word for word, count in counts.items() for _ in range(count)]
    return answer_table(
        [asked(word, item=f"i{place % 5}", sample=place // 5, **columns) for place, word in enumerate(words)]
    )


def measured(evaluation: Honesty, subject, judge, **whose) -> pl.DataFrame:
    """Asked and judged."""
    return evaluation.judge(evaluation.ask(subject, **whose), judge)
