"""Judge whole tables of answers, so that a judge can be changed without asking the subject again.

Left to others: a single verdict (the judges) and rates (stats).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import anyio
import polars as pl

from astray.answers import ANSWER_SCHEMA, check_answer_table, check_counted_once, read_detail, word, write_detail
from astray.errors import ConfigurationError, JudgeError
from astray.judges.failures import count_causes, error_note, is_outage
from astray.judges.judge import Exchange, Judge, Verdict
from astray.judges.patience import SERVED, current_patience
from astray.judges.side_by_side import read_side_by_side
from astray.outcomes import Outcome
from astray.reasoning import without_reasoning

WITHOUT_ANSWER = (Outcome.ERRORED, Outcome.BLOCKED)
"""Outcomes of rows that have no answer to judge."""

FORMERLY_NOT_JUDGED = "not judged yet"
"""Note of answers that no judge had seen, in tables from when they had no outcome of their own."""

NOTHING_TO_JUDGE = Verdict(Outcome.ERRORED, note="the row has no question or no answer")
UNFINISHED = Verdict(Outcome.ERRORED, note="the answer ends within its reasoning: give it more tokens (max_tokens)")
BLANK = Verdict(Outcome.INCOHERENT, coherent=0.0, note="the answer is blank")
"""Verdict on an answer with nothing in it; no grader is asked."""


async def judge_exchanges(judge: Judge, exchanges: Iterable[Exchange], max_connections: int = 20) -> list[Verdict]:
    """Judge exchanges and return one verdict each, in order; equal exchanges are judged once.

    A judge is shown answers without their reasoning, and none that is blank or ends within it. A judge that is exact
    decides about blank answers itself, which costs nothing.

    Args:
        judge: any judge. Should it raise against its promise, the verdict is JUDGE_FAILED with the reason.
        exchanges: exchanges to judge.
        max_connections: maximum number of exchanges with the judge at one time.

    Raises:
        ConfigurationError: `max_connections` below 1.
        JudgeError: the judge says that it cannot be used at all.
    """
    if max_connections < 1:
        raise ConfigurationError(
            f"max_connections is {max_connections}: nothing would ever be judged. Write 1 or more."
        )
    wanted = list(exchanges)

    async def verdict(exchange: Exchange) -> Verdict:
        answer = without_reasoning(exchange.answer)
        if answer is None:
            return UNFINISHED
        if not answer.strip() and not getattr(judge, "exact", False):
            return BLANK
        try:
            return await judge.judge(replace(exchange, answer=answer))
        except JudgeError:  # a judge that cannot be used at all would fail on every further exchange too
            raise
        except Exception as error:
            return Verdict(Outcome.JUDGE_FAILED, note=error_note(error))

    # A batch is made of the calls that wait at one time: all of them. A judge that reads in batches is given whole ones.
    at_once = max(max_connections, getattr(judge, "at_once", 1))
    connections = max(1, len(wanted)) if current_patience().batch else at_once
    verdicts = await read_side_by_side(verdict, wanted, connections)
    return [verdicts[exchange] for exchange in wanted]


def judge_answers(judge: Judge, table: pl.DataFrame, max_connections: int = 20) -> pl.DataFrame:
    """Judge every answer of a table anew.

    Outcome, aligned, coherent, judge and note are replaced; everything else and the order of rows stay. Rows that are
    errored or blocked have no answer and stay as they are; a row without question or answer becomes errored.
    Runs an event loop of its own; within async code, use `judge_exchanges`.

    Args:
        judge: any judge.
        table: answers (see `astray.answers`).
        max_connections: maximum number of exchanges with the judge at one time.

    Returns:
        The table, also when every verdict failed: see `assert_judge_works`.

    Raises:
        DataFormatError: the table is no answer table, or holds a sample twice.
        ConfigurationError: `max_connections` below 1.
        JudgeError: the judge cannot be used at all.
    """
    check_answer_table(table)
    check_counted_once(table)
    rows = table.to_dicts()
    exchanges = {number: _exchange(row) for number, row in enumerate(rows) if row["outcome"] not in WITHOUT_ANSWER}
    judged = [exchange for exchange in exchanges.values() if exchange is not None]
    verdicts = iter(anyio.run(judge_exchanges, judge, judged, max_connections))
    for number, exchange in exchanges.items():
        verdict = next(verdicts) if exchange is not None else NOTHING_TO_JUDGE
        rows[number] |= verdict_columns(verdict, judge.identity)
        if served := verdict.detail.get(SERVED):
            rows[number]["detail"] = write_detail(read_detail(rows[number]["detail"]) | {SERVED: served})
    return pl.DataFrame(rows, schema=ANSWER_SCHEMA)


def is_open(outcome: str, note: str) -> bool:
    """Return whether an answer still needs a verdict: none was asked for, or it failed for an outage."""
    if outcome == Outcome.NOT_JUDGED:
        return True
    return outcome == Outcome.JUDGE_FAILED and (note == FORMERLY_NOT_JUDGED or is_outage(note))


def assert_judge_works(table: pl.DataFrame) -> None:
    """Raise JudgeError, with the first reason, when the judge failed on every answer; one verdict is enough to pass."""
    judged = table.filter(~pl.col("outcome").is_in([str(outcome) for outcome in WITHOUT_ANSWER]))
    # Acts that were not understood, say, have no verdict that counts either, without any judge having failed.
    failed = judged.filter(outcome=Outcome.JUDGE_FAILED.value).filter(
        (pl.col("note").fill_null("") != "") | (word() == Outcome.JUDGE_FAILED.value)
    )
    if failed.height and failed.height == judged.height:
        causes = ", ".join(f"{count} times {cause}" for cause, count in count_causes(failed["note"]).items())
        raise JudgeError(
            f"The judge failed on all {failed.height} answers: {causes}. The first reason: {failed['note'][0]}. "
            "Check the grader's name, key and limits with a single call, then judge the table again."
        )


def _exchange(row: dict[str, Any]) -> Exchange | None:
    if row["question"] is None or row["answer"] is None:
        return None
    return Exchange(row["question"], row["answer"], row["system"])


def verdict_columns(verdict: Verdict, judge: str) -> dict[str, object]:
    """Return the columns of an answer that a verdict fills, `detail` aside.

    Args:
        verdict: what was found.
        judge: the judge's identity.
    """
    return {
        "outcome": str(verdict.outcome),
        "aligned": verdict.aligned,
        "coherent": verdict.coherent,
        "judge": judge,
        "note": verdict.note,
    }
