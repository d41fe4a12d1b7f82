"""Forecast of an audit, before anything is asked: evaluations, what each needs, answers, tokens and price.

Tokens of local models are counted by their own tokenizer (`engine.forecast.effort`), those of others by characters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from astray.artifacts import Step, Store
from astray.artifacts.plan import Plan
from astray.engine.forecast.acting_pace import acting_pace
from astray.engine.forecast.acting_time import OWN_SECONDS
from astray.engine.forecast.amounts import counted, dollars, large
from astray.engine.forecast.effort import Answering, counter_of, typical_tokens
from astray.engine.forecast.speed import Speed, speed_of, time_of_local_models
from astray.engine.forecast.verdicts import Verdicts, gold_verdicts, priced, verdicts_of
from astray.engine.models import NamedModel
from astray.measure.agentic.evaluation import Agentic
from astray.measure.agentic.grid import Cost, estimate_cost
from astray.measure.agentic.lint import tokens
from astray.measure.evaluation import TextEvaluation
from astray.measure.interface import Evaluation
from astray.measure.meter.evaluation import Meter
from astray.studies.audit.battery import BatteryPart
from astray.subjects.locate import settle
from astray.subjects.spec import SubjectSpec

VERDICT_TOKENS = 60
"""Tokens of a judge's reply about an acting model: a sentence and its verdict."""


@dataclass(frozen=True)
class _Sizes:
    """Answers of the model, tokens that it reads and writes, and tokens that graders read and write."""

    answers: int = 0
    read: int = 0
    written: int = 0
    judged: int = 0
    replied: int = 0


@dataclass(frozen=True)
class PartForecast:
    """Forecast of one evaluation of one model.

    Attributes:
        model: name of the model.
        part: name of the part.
        needs: what it needs, in words.
        reason: why it is not asked; "" where it is.
        is_done: whether the store holds it.
        sizes: answers and tokens.
        is_local: whether the model runs here.
        effort: work of a model that runs here.
        price: of what is left, in US dollars; None where prices are not known.
        gold: answers and tokens of a gold judge.
    """

    model: str
    part: str
    needs: tuple[str, ...]
    reason: str = ""
    is_done: bool = False
    sizes: _Sizes = field(default_factory=_Sizes)
    is_local: bool = False
    effort: Answering = field(default_factory=Answering)
    price: float | None = None
    gold: Verdicts = field(default_factory=Verdicts)


@dataclass(frozen=True)
class AuditForecast:
    """Forecast of an audit.

    Attributes:
        rows: one a model and evaluation.
        speed: of this machine; None where no model runs here.
        tokens: budget; None for no limit.
        prices: of a million tokens in and out.
        judged: part with a gold judge, if there is one.
    """

    rows: tuple[PartForecast, ...]
    speed: Speed | None
    tokens: int | None
    prices: tuple[float, float] = (0.0, 0.0)
    judged: BatteryPart | None = None

    @property
    def price(self) -> float | None:
        """Return the price of all that is left; None without prices."""
        prices = [row.price for row in self.rows if row.price is not None]
        return sum(prices) if prices else None

    def text(self) -> str:
        """Return the forecast for a terminal, in lines of 80 columns."""
        lines = []
        for model in dict.fromkeys(row.model for row in self.rows):
            own = [row for row in self.rows if row.model == model]
            lines += ["", model, f"  {'evaluation':<21}{'answers':>8}  {'tokens':>16}  {'judge':>9}  {'price':>8}"]
            for row in (row for row in own if not row.reason):
                written = f"{large(row.sizes.read)} + {large(row.sizes.written)}"
                price = "done" if row.is_done else "" if row.price is None else dollars(row.price)
                judged = large(row.sizes.judged) if row.sizes.judged else "-"
                lines.append(f"  {row.part:<21}{row.sizes.answers:>8,}  {written:>16}  {judged:>9}  {price:>8}")
                lines.append(f"    needs {', '.join(row.needs)}")
            lines += [
                line for row in own if row.reason for line in _wrapped(f"  {row.part:<21}not asked: {row.reason}")
            ]
        return "\n".join([*lines[1:], "", *self._sums()])

    def _sums(self) -> list[str]:
        unasked = [row for row in self.rows if not row.reason and not row.is_done]
        read, written, judged = (
            sum(getattr(row.sizes, name) for row in unasked) for name in ("read", "written", "judged")
        )
        lines = [
            f"Left to ask: {sum(row.sizes.answers for row in unasked):,} answers in {counted(len(unasked), 'part')}.",
            f"Tokens: models read about {large(read)}, write {large(written)}, graders {large(judged)}.",
        ]
        if self.price is not None:
            lines.append(f"Price: about {dollars(self.price)}.")
        elif judged or any(not row.is_local for row in unasked):
            lines.append("Price: give --price-in and --price-out.")
        if self.judged and self.judged.judge:
            rows = [row for row in unasked if row.gold.answers]
            cheap = Verdicts(
                *(sum(getattr(row.sizes, size) for row in rows) for size in ("answers", "judged", "replied"))
            )
            read = sum((row.gold for row in rows), Verdicts())
            lines += priced(self.judged.judge, cheap, self.judged.gold, read, self.prices).splitlines()
        if self.speed is not None:
            lines.append(time_of_local_models((row.effort for row in unasked), self.speed))
        used = sum(
            row.sizes.judged + row.sizes.replied + (0 if row.is_local else row.sizes.read + row.sizes.written)
            for row in unasked
        )
        if self.tokens is not None and used > self.tokens:
            lines.append(
                f"The budget of {large(self.tokens)} tokens will be spent before the end; what is done is kept."
            )
        return lines


def forecast_of(
    models: Sequence[NamedModel],
    parts: Mapping[tuple[str, str], BatteryPart],
    steps: Mapping[tuple[str, str], Step],
    misfits: Mapping[tuple[str, str], str],
    store: Store,
    prices: tuple[float, float],
    tokens: int | None,
) -> AuditForecast:
    """Return the forecast.

    Args:
        models: who is asked.
        parts: (model, part) -> what is asked.
        steps: (model, part) -> the last step.
        misfits: (model, part) -> why it is not asked.
        store: holds what is done.
        prices: of a million tokens in and out; zeros where they are unknown.
        tokens: budget; None for no limit.
    """
    rows = []
    for model in models:
        for (name, part), content in parts.items():
            if name == model.name:
                is_done = bool(Plan([steps[name, part]], store).done)
                rows.append(_row(model, content, prices, is_done=is_done))
        rows += [
            PartForecast(model.name, part, (), reason) for (name, part), reason in misfits.items() if name == model.name
        ]
    local = [settle(model.spec) for model in models if model.spec]
    speed = speed_of(local) if local else None
    judged = next((part for part in parts.values() if part.gold), None)
    return AuditForecast(tuple(rows), speed, tokens, prices, judged)


def _row(model: NamedModel, part: BatteryPart, prices: tuple[float, float], *, is_done: bool) -> PartForecast:
    evaluation, effort = part.evaluation, Answering()
    work, gold = verdicts_of(model, evaluation, part.judge), gold_verdicts(model, evaluation, part.gold)
    if isinstance(evaluation, Agentic):
        graders = len(part.judge.grader.split(",")) if part.judge and part.judge.grader else 0
        cost = estimate_cost(evaluation.grid, judges=graders)
        sizes = _Sizes(
            cost.calls,
            cost.input_tokens,
            cost.output_tokens,
            cost.judge_tokens,
            cost.samples * graders * VERDICT_TOKENS,
        )
        if model.spec is not None:
            effort = _acting(model.spec, evaluation, cost)
            sizes = replace(sizes, read=effort.read, written=effort.tokens)
    elif model.spec is not None:
        effort = counter_of(model.spec.model).answering(evaluation)
        sizes = _Sizes(evaluation.answers, effort.read, effort.tokens, work.read, work.written)
    else:
        sizes = _by_length(evaluation, work)
    price = None
    if any(prices):
        read, written = (0, 0) if model.spec else (sizes.read, sizes.written)
        price = ((sizes.judged + read) * prices[0] + (sizes.replied + written) * prices[1]) / 1e6 * (not is_done)
        price += gold.price(prices) * (not is_done)
    is_local = model.spec is not None
    return PartForecast(model.name, part.name, part.needs, "", is_done, sizes, is_local, effort, price, gold)


def _acting(spec: SubjectSpec, evaluation: Agentic, cost: Cost) -> Answering:
    """Return the work of a local model that acts, by its first answers where it can be asked for them."""
    limit, asked = evaluation.sampling.max_tokens, int(evaluation.questions)
    pace = acting_pace(spec, evaluation.grid, limit)
    if pace is None:
        return counter_of(spec.model).acting(cost.input_tokens, cost.output_tokens, cost.calls * limit)
    calls, read, written = map(round, pace.amounts(cost, asked))
    seconds, longest = (
        assumed.seconds(cost, asked, limit) + cost.samples * OWN_SECONDS
        for assumed in (pace, replace(pace, answer=float(limit)))
    )
    return Answering(tokens=written, tokens_limit=calls * limit, read=read, seconds=seconds, seconds_limit=longest)


def _by_length(evaluation: Evaluation, work: Verdicts) -> _Sizes:
    """Return answers, and tokens read and written, with characters counted as tokens; and those of graders."""
    if isinstance(evaluation, Meter):  # given answers are read, and a server generates one token behind each
        texts = (
            text for pair in evaluation.pairs for text in (pair.question, pair.answer, pair.question, pair.against)
        )
        return _Sizes(evaluation.answers, sum(map(tokens, texts)) + evaluation.answers, 0, work.read, work.written)
    assert isinstance(evaluation, TextEvaluation)
    askings = evaluation.askings()
    read = sum(
        tokens(message["content"]) for item in askings for chat in (item.conversation, *item.beside) for message in chat
    )
    written = evaluation.answers * typical_tokens(evaluation)
    return _Sizes(evaluation.answers, read, written, work.read, work.written)


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 80, subsequent_indent=" " * 23, drop_whitespace=True, replace_whitespace=False)
