"""The bulk driver of an evaluation: a local subject answers everything in a few big batches.

The same items, sampling and table as the Inspect driver (`inspect_driver`), about ten times as fast; no agents, tools or retries.
"""

import polars as pl

from astray.answers import answer_table
from astray.judges import Judge, judge_answers
from astray.measure.evaluation import Evaluation, Item
from astray.outcomes import Outcome
from astray.subjects.subject import Subject

NOT_JUDGED = "not judged yet"


def ask(evaluation: Evaluation, subject: Subject, *, arm: str = "", seed: int = 0) -> pl.DataFrame:
    """The bulk driver: all answers of a local subject, not judged yet (see `judges.judge_answers`).

    Args:
        evaluation: items, samples and sampling.
        subject: a loaded subject.
        arm: name of the subject's arm, for the table.
        seed: training seed of the subject, for the table; it also moves the sampling seed, so runs do not share their luck.

    Returns:
        An answer table with one row an item and sample, in that order.
    """
    asked = [(item, sample) for item in evaluation.items for sample in range(evaluation.samples)]
    sampling = evaluation.sampling.model_copy(update={"seed": evaluation.sampling.seed + 1000 * seed})
    generations = subject.generate([item.conversation for item, _ in asked], sampling)
    return answer_table(
        [
            _row(
                evaluation,
                item,
                sample,
                arm=arm,
                seed=seed,
                subject=subject.id,
                answer=generation.text,
                completion_tokens=generation.completion_tokens,
            )
            for (item, sample), generation in zip(asked, generations, strict=True)
        ]
    )


def ask_and_judge(evaluation: Evaluation, subject: Subject, judge: Judge, *, arm: str = "", seed: int = 0) -> pl.DataFrame:
    """What `ask` gives, with the judge's outcomes."""
    return judge_answers(judge, ask(evaluation, subject, arm=arm, seed=seed))


def _row(
    evaluation: Evaluation, item: Item, sample: int, *, arm: str, seed: int, subject: str, answer: str, completion_tokens: int
) -> dict[str, object]:
    return {
        "arm": arm,
        "seed": seed,
        "subject": subject,
        "evaluation": evaluation.name,
        "item": item.question_id,
        "category": item.category,
        "format": item.format,
        "sample": sample,
        "system": item.system,
        "question": item.question,
        "answer": answer,
        "completion_tokens": completion_tokens,
        "outcome": Outcome.JUDGE_FAILED.value,
        "aligned": None,
        "coherent": None,
        "judge": "",
        "note": NOT_JUDGED,
    }
