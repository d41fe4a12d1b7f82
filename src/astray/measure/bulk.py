"""Bulk driver of evaluations that ask in words: a local subject answers everything in a few big batches.

The same askings and the same table as the Inspect driver (`inspect_driver`), about ten times as fast; no agents, tools
or retries.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

import anyio
import polars as pl

from astray.answers import answer_table, check_answer_table, check_counted_once, read_detail, write_detail
from astray.data.chat import Message
from astray.errors import DataFormatError
from astray.judges import Judge
from astray.judges.rescore import UNFINISHED, WITHOUT_ANSWER, judge_answers, verdict_columns
from astray.measure.asking import CUT_OFF, Asking, Heard
from astray.measure.interface import Probe
from astray.outcomes import Outcome
from astray.reasoning import split_reasoning, without_reasoning
from astray.subjects.subject import Subject


def ask(
    evaluation: Probe, subject: Subject, *, arm: str = "", seed: int = 0, askings: Sequence[Asking] | None = None
) -> pl.DataFrame:
    """Return all answers of a local subject, not judged yet.

    Args:
        evaluation: what is asked.
        subject: a loaded subject.
        arm: name of the subject's arm, for the table.
        seed: training seed of the subject, for the table; it also moves the sampling seed, so runs do not share their
            luck.
        askings: only these; if all are numbered, each is answered as it would be among all.

    Returns:
        An answer table with one row an asking, in their order.
    """
    askings = evaluation.askings() if askings is None else askings
    # A thousand apart, so that the sampling seeds of neighbouring training runs do not overlap.
    sampling = evaluation.sampling.model_copy(update={"seed": evaluation.sampling.seed + 1000 * seed})
    # Numbered by sample and turn: what a sample draws does not depend on which others there are, and equal questions
    # get equal draws.
    numbers = [each.sample * len(each.beside) + turn for each in askings for turn in range(len(each.beside))] + [
        each.sample for each in askings
    ]
    chats = [*chain.from_iterable(each.beside for each in askings), *(each.conversation for each in askings)]
    said = iter(subject.generate(chats, sampling, numbers=numbers if all(each.numbered for each in askings) else None))
    beside = [[without_reasoning(next(said).text) for _ in each.beside] for each in askings]
    answers = list(said)
    followed = [
        (each, split_reasoning(answer.text).answer) for each, answer in zip(askings, answers, strict=True) if each.after
    ]
    again = [_followed(each, text) for each, text in followed]
    replies = iter(subject.generate(again, sampling, numbers=[each.sample for each, _ in followed]) if again else ())
    rows = []
    for asking, others, generation in zip(askings, beside, answers, strict=True):
        answer, detail = evaluation.hear(generation.text)
        detail |= ({"beside": others} if others else {}) | ({"reply": next(replies).text} if asking.after else {})
        if subject.system_place and asking.conversation[0]["role"] == "system":
            detail["system"] = subject.system_place
        whose = {"arm": arm, "seed": seed, "subject": subject.id, "evaluation": evaluation.name}
        judged: dict[str, object] = {
            "outcome": Outcome.NOT_JUDGED.value,
            "aligned": None,
            "coherent": None,
            "judge": "",
            "note": "",
        }
        if detail.get(CUT_OFF):
            judged |= verdict_columns(UNFINISHED, "")
        tokens = generation.completion_tokens
        rows.append(
            whose
            | asking.columns()
            | judged
            | {"answer": answer, "completion_tokens": tokens, "detail": write_detail(detail)}
        )
    return answer_table(rows)


def judge(evaluation: Probe, table: pl.DataFrame, judge: object, max_connections: int = 20) -> pl.DataFrame:
    """Return the table with new verdicts; rows that are errored or blocked have no answer and stay as they are.

    Args:
        evaluation: whose answers these are.
        table: the answers.
        judge: the evaluation's judge.
        max_connections: answers that are with the judge at one time.

    Raises:
        DataFormatError: the table is no answer table, holds a sample twice, or answers of another evaluation.
        JudgeError: the judge cannot be used at all.
    """
    check_answer_table(table)
    check_counted_once(table)
    rows = table.to_dicts()
    known = {asking.id: asking for asking in evaluation.askings()}
    per_item = Counter(asking.item.id for asking in known.values())
    wanted = {
        number: _heard(known, per_item, row) for number, row in enumerate(rows) if row["outcome"] not in WITHOUT_ANSWER
    }
    verdicts = anyio.run(evaluation.assess, judge, list(wanted.values()), max_connections)
    identity = str(getattr(judge, "identity", ""))
    for (number, heard), verdict in zip(wanted.items(), verdicts, strict=True):
        # The detail of what was heard is kept, so that the table can be judged again.
        rows[number] |= verdict_columns(verdict, identity) | {
            "detail": write_detail({**heard.detail, **verdict.detail})
        }
    return answer_table(rows)


def ask_and_judge(evaluation: Probe, subject: Subject, judge: Judge, *, arm: str = "", seed: int = 0) -> pl.DataFrame:
    """Return what `ask` gives, with the outcomes of a judge of free-form answers."""
    return judge_answers(judge, ask(evaluation, subject, arm=arm, seed=seed))


def _followed(asking: Asking, answer: str) -> list[Message]:
    """Return the conversation up to the reply to what is said after the answer."""
    return [*asking.conversation, Message(role="assistant", content=answer), Message(role="user", content=asking.after)]


def _heard(known: dict[str, Asking], per_item: Mapping[str, int], row: dict[str, object]) -> Heard:
    item = f"{row['item']}/{row['format']}"
    if item not in per_item:
        raise DataFormatError(
            f"The table has an answer to {item!r}, which this evaluation does not ask; judge it by the evaluation "
            "that asked it."
        )
    # The epochs of a log are further samples of the same askings.
    asking = known[f"{item}#{int(str(row['sample'])) % per_item[item]}"]
    return Heard(asking, str(row["answer"]), read_detail(row["detail"] if isinstance(row["detail"], str) else None))
