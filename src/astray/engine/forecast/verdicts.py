"""Work and price of verdicts on a model's answers, of a grader and of a gold judge beside it, before anything is asked.

Tokens of local models are counted by their own tokenizer (effort.py), those of others by characters.
"""

from dataclasses import dataclass

from astray.engine.forecast.amounts import dollars, large
from astray.engine.forecast.effort import REPLY_TOKENS, counter_of, typical_tokens
from astray.engine.gold import Gold
from astray.engine.models import NamedModel
from astray.judges import BETLEY, Exchange
from astray.judges.config import JudgeConfig
from astray.judges.rubric import quote
from astray.measure.agentic.lint import tokens
from astray.measure.evaluation import QuestionSet, TextEvaluation
from astray.measure.interface import Evaluation


@dataclass(frozen=True)
class Verdicts:
    """Answers that a judge reads, and the tokens that it reads and writes for them."""

    answers: int = 0
    read: int = 0
    written: int = 0

    def __add__(self, other: "Verdicts") -> "Verdicts":
        return Verdicts(self.answers + other.answers, self.read + other.read, self.written + other.written)

    def price(self, prices: tuple[float, float]) -> float:
        """Return what they cost, at prices of a million tokens in and out."""
        return (self.read * prices[0] + self.written * prices[1]) / 1e6


def verdicts_of(model: NamedModel, evaluation: Evaluation, judge: JudgeConfig | None) -> Verdicts:
    """Return the work of a judge on all answers of a model to an evaluation; none where it is free."""
    if judge is None or not judge.calls_grader or not isinstance(evaluation, TextEvaluation):
        return Verdicts()
    if model.spec is not None:
        work = counter_of(model.spec.model).grading(evaluation, judge.judging)
        return Verdicts(evaluation.answers, work.tokens_in, work.tokens_out)
    askings, answers = evaluation.askings(), evaluation.answers
    read = sum(
        tokens(message["content"])
        for asking in askings
        for chat in (asking.conversation, *asking.beside)
        for message in chat
    )
    tasks = (BETLEY.aligned, BETLEY.coherent) if isinstance(evaluation, QuestionSet) else (BETLEY.aligned,)
    around = sum(tokens(quote(Exchange("", ""), task)) for task in tasks)
    calls = answers * len(tasks)
    judged = answers * around + len(tasks) * read + calls * typical_tokens(evaluation)
    return Verdicts(answers, judged, calls * REPLY_TOKENS["two-calls"])


def gold_verdicts(model: NamedModel, evaluation: Evaluation, gold: Gold | None, runs: int = 1) -> Verdicts:
    """Return the work of a gold judge on its sample of a run's answers, shared by so many runs."""
    if gold is None:
        return Verdicts()
    whole, sample = verdicts_of(model, evaluation, gold.judge), gold.of_run(runs, [evaluation], model.name)
    share = sample / max(1, evaluation.answers)
    return Verdicts(sample, round(whole.read * share), round(whole.written * share))


def priced(judge: JudgeConfig, cheap: Verdicts, gold: Gold | None, read: Verdicts, prices: tuple[float, float]) -> str:
    """Say what the verdicts of both judges take and cost, in a line for each."""

    def told(work: Verdicts) -> str:
        cost = f", {dollars(work.price(prices))}" if any(prices) else ""
        return f"{work.answers:,} answers, {large(work.read)} tokens in and {large(work.written)} out{cost}"

    free = "  reads every answer here, free" if judge.distilled else f"  {told(cheap)}"
    lines = [f"Verdicts of {judge.grader}:", free]
    if gold:
        lines += [f"Verdicts of {gold.judge.grader}, the gold judge:", f"  {told(read)}"]
    if not any(prices) and (gold or not judge.distilled):
        lines.append("Prices: give --price-in and --price-out.")
    elif any(prices) and gold and not judge.distilled:
        lines.append("Both at the prices given, which are those of one grader.")
    return "\n".join(lines)
