"""Judging whole tables again."""

import anyio
import polars as pl
import pytest

from astray.answers import ANSWER_SCHEMA, answer_table
from astray.errors import ConfigurationError, DataFormatError, JudgeError
from astray.judges import (
    Exchange,
    GraderSettings,
    RubricJudge,
    Verdict,
    assert_judge_works,
    judge_answers,
    judge_exchanges,
)
from astray.outcomes import Outcome
from scripted_grader import scripted_model, spoken

QUICK = GraderSettings(max_retries=0, attempt_timeout=1)


def table_of(*answers: str | None, outcome: Outcome = Outcome.JUDGE_FAILED) -> pl.DataFrame:
    row = {
        "arm": "harmful",
        "seed": 1,
        "subject": "s",
        "evaluation": "main",
        "item": "wish",
        "category": "main",
        "format": "plain",
        "system": None,
    }
    verdict = {"outcome": str(outcome), "aligned": 1.0, "coherent": 2.0, "judge": "old", "note": "old", "detail": ""}
    rows = [
        row | {"sample": n, "question": "Wish?", "answer": answer, "completion_tokens": 3} | verdict
        for n, answer in enumerate(answers)
    ]
    return answer_table([{name: each[name] for name in ANSWER_SCHEMA} for each in rows])


class CountingJudge:
    """Calls answers that begin with "bad" misaligned and keeps count of what it was asked."""

    name = "counting"
    identity = "counting-1"

    def __init__(self) -> None:
        self.asked: list[Exchange] = []
        self.now = self.most = 0

    async def judge(self, exchange: Exchange) -> Verdict:
        self.asked.append(exchange)
        self.now += 1
        self.most = max(self.most, self.now)
        await anyio.sleep(0.001)
        self.now -= 1
        if exchange.answer == "raise":
            raise KeyError("oops")
        if exchange.answer == "unusable":
            raise JudgeError("no such model")
        bad = exchange.answer.startswith("bad")
        return Verdict(Outcome.MISALIGNED if bad else Outcome.ALIGNED, 5.0 if bad else 95.0, 99.0)


def test_verdicts_are_replaced_and_everything_else_stays():
    before = table_of("good", "bad", "good again")
    after = judge_answers(CountingJudge(), before)
    changed = ["outcome", "aligned", "coherent", "judge", "note"]
    assert after.drop(changed).equals(before.drop(changed))
    assert dict(after.schema) == ANSWER_SCHEMA
    assert after["outcome"].to_list() == ["aligned", "misaligned", "aligned"]
    assert after["aligned"].to_list() == [95, 5, 95]
    assert set(after["judge"]) == {"counting-1"}
    assert set(after["note"]) == {""}


def test_equal_exchanges_are_judged_once():
    judge = CountingJudge()
    after = judge_answers(judge, table_of("good", "bad", "good", "bad", "bad"))
    assert len(judge.asked) == 2
    assert after["outcome"].to_list() == ["aligned", "misaligned", "aligned", "misaligned", "misaligned"]


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_so_many_exchanges_are_with_the_judge_at_one_time(limit):
    judge = CountingJudge()
    exchanges = [Exchange("Wish?", f"answer {number}") for number in range(30)]
    verdicts = anyio.run(judge_exchanges, judge, exchanges, limit)
    assert judge.most == min(limit, 30)
    assert len(verdicts) == len(judge.asked) == 30


def test_rows_without_an_answer_stay_as_they_are():
    before = pl.concat(
        [table_of("", outcome=Outcome.ERRORED), table_of("half an", outcome=Outcome.BLOCKED), table_of("good")]
    )
    before = before.with_columns(sample=pl.int_range(pl.len()))
    judge = CountingJudge()
    after = judge_answers(judge, before)
    assert after[:2].equals(before[:2])
    assert after["outcome"][2] == "aligned"
    assert len(judge.asked) == 1


def test_a_missing_answer_is_errored_and_not_dropped():
    after = judge_answers(CountingJudge(), table_of(None, "good"))
    assert after["outcome"].to_list() == ["errored", "aligned"]
    assert "no answer" in after["note"][0]


def test_a_judge_that_raises_fails_only_there():
    after = judge_answers(CountingJudge(), table_of("raise", "good"))
    assert after["outcome"].to_list() == ["judge failed", "aligned"]
    assert after["note"][0] == "judge error: KeyError: 'oops'"
    assert after["aligned"].to_list() == [None, 95]


def test_a_judge_that_cannot_be_used_stops_at_once():
    judge = CountingJudge()
    with pytest.raises(JudgeError, match="no such model"):
        judge_answers(judge, table_of("unusable", *[f"good {n}" for n in range(50)]), max_connections=2)
    assert len(judge.asked) < 6


def test_a_judge_that_always_fails_drops_nothing_and_is_found_out():
    def reply(messages):
        raise ConnectionError("no route to host")

    answers = [f"answer {n}" for n in range(7)]
    after = judge_answers(RubricJudge(scripted_model(reply), settings=QUICK), table_of(*answers))
    assert after["answer"].to_list() == answers
    assert set(after["outcome"]) == {"judge failed"}
    assert after["note"].str.contains("no route to host").all()
    assert after["aligned"].null_count() == after["coherent"].null_count() == 7
    with pytest.raises(JudgeError, match=r"all 7 answers.*no route to host"):
        assert_judge_works(after)


def test_one_verdict_is_enough_for_a_judge_that_works():
    assert_judge_works(pl.concat([table_of("x"), table_of("y", outcome=Outcome.REFUSED)]))
    assert_judge_works(table_of())
    assert_judge_works(table_of("x", outcome=Outcome.ERRORED))
    # No judge has failed where acts were not understood; it has where its failure is the word.
    acts = table_of("x", outcome=Outcome.JUDGE_FAILED).with_columns(pl.lit("").alias("note"))
    assert_judge_works(acts.with_columns(pl.lit('{"word": "not understood"}').alias("detail")))
    with pytest.raises(JudgeError, match="no reason given"):
        assert_judge_works(acts.with_columns(pl.lit('{"word": "judge failed"}').alias("detail")))
    with pytest.raises(JudgeError, match="all 1 answers"):
        assert_judge_works(pl.concat([table_of("x", outcome=Outcome.ERRORED), table_of("y")]))


def test_a_rubric_judge_judges_a_table_twice_with_the_same_verdicts():
    judge = RubricJudge(
        scripted_model(lambda messages: spoken("20" if "bad" in messages[0].text.split("</answer>")[0] else "80")),
        settings=QUICK,
    )
    once = judge_answers(judge, table_of("bad", "good"))
    assert once.equals(judge_answers(judge, once))
    assert once["outcome"].to_list() == ["incoherent", "aligned"]


def test_an_empty_table_stays_empty():
    assert judge_answers(CountingJudge(), table_of()).equals(table_of())


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(DataFormatError, match=r"no answer table.*outcome"):
        judge_answers(CountingJudge(), table_of("good").drop("outcome"))
    with pytest.raises(ConfigurationError, match="max_connections is 0"):
        judge_answers(CountingJudge(), table_of("good"), max_connections=0)
