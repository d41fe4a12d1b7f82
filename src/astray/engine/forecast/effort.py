"""Work of a study before it runs: examples, tokens, answers, grader calls and floating point operations, run by run.

What can be counted is counted on the planned steps themselves: data sets are drawn (a sample of each) and tokenised as
in training, questions are rendered as the subject will read them. Only the length of future answers is a guess. Leaves
to others: how long the work takes here (`speed`), what it costs and shows (`forecast`, `sensitivity`).
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cache
from typing import TypeVar

from pydantic import BaseModel
from transformers import PreTrainedTokenizerBase

from astray.cause.fine_tuning import FineTuning
from astray.cause.model_users import MESSAGE_TOKENS
from astray.cause.reinforcement import REHEARSED
from astray.cause.supervision import supervise
from astray.data.chat import Message
from astray.engine.data import ArmData
from astray.engine.gold import GoldConfig, sets_of
from astray.engine.setting import Setting
from astray.engine.steps import AnswerConfig, TrainConfig
from astray.engine.study import Analysis, StudyPlan
from astray.engine.trained import FeedbackConfig, RewardedConfig
from astray.judges import Exchange
from astray.judges.config import JudgeConfig
from astray.judges.judge import Judging
from astray.measure.dynamics import probing_meter
from astray.measure.evaluation import QuestionSet, TextEvaluation
from astray.measure.forced_choice import ForcedChoice
from astray.measure.interface import Evaluation
from astray.measure.meter import Meter, Pair
from astray.subjects.identity import parameter_count
from astray.subjects.locate import settle
from astray.subjects.precision import SHARED_FROM
from astray.subjects.render import prompt_ids, text_ids
from astray.subjects.weights import adapted_tokenizer

SAMPLED_ROWS = 64
"""Examples of each data set that are drawn and tokenised; a mean over them is known to a few percent."""
TYPICAL_ANSWER = 70
"""Tokens of a usual answer to the main questions: published answers of tuned 1B to 8B models have 50 to 72 on
average."""
TRAINING_FLOPS, GENERATION_FLOPS = 6, 2
"""FLOPs a parameter and token: forward and backward with recomputed activations, and forward alone."""
KTO_FLOPS = 12
"""The same of KTO: training, forward alone on pairs that do not belong together, and both by the reference."""
PLAYED_TOKENS, RATED_TOKENS = (250, 55), (300, 3)
"""Tokens that a model which plays users reads and writes in a call: for a message, and for a rating."""
CALLS: dict[Judging, int] = {"two-calls": 2, "one-call": 1}
"""Calls of a grader about each answer."""
REPLY_TOKENS: dict[Judging, int] = {"two-calls": 3, "one-call": 13}
"""Tokens of a usual reply of a grader: a number and the end, or two lines with a label and a number each."""


@dataclass(frozen=True)
class Training:
    """Training runs; `tokens` and `flops` are extrapolated from a sample of the examples."""

    runs: int = 0
    steps: int = 0
    rows: int = 0
    tokens: int = 0
    flops: float = 0.0


@dataclass(frozen=True)
class Answering:
    """Answers of the subject; `tokens` is a guess, `tokens_limit` cannot be exceeded, `read` counts the questions' tokens;
    `reading_flops` are operations without sampling, `seconds` a time in place of operations, at most `seconds_limit`."""

    runs: int = 0
    answers: int = 0
    tokens: int = 0
    tokens_limit: int = 0
    flops: float = 0.0
    read: int = 0
    reading_flops: float = 0.0
    seconds: float = 0.0
    seconds_limit: float = 0.0


@dataclass(frozen=True)
class Grading:
    """Calls of a grader, none where the judge is a grammar; tokens as the subject's tokenizer counts them.

    Two calls for each answer, alignment and coherence, or one for both; in two calls graders that tokenise numbers digit
    by digit need a few more. `singly_in` and `singly_out` are the tokens of calls that no batch can hold, since they
    decide what is asked next.
    """

    calls: int = 0
    tokens_in: int = 0
    tokens_in_limit: int = 0
    tokens_out: int = 0
    tokens_out_limit: int = 0
    singly_in: int = 0
    singly_out: int = 0

    def price(self, prices: tuple[float, float], batched: float = 1.0) -> float:
        """Return what it costs, at prices of a million tokens in and out, of which a batch costs a share."""
        read, written = (
            batched * (whole - singly) + singly
            for whole, singly in ((self.tokens_in, self.singly_in), (self.tokens_out, self.singly_out))
        )
        return (read * prices[0] + written * prices[1]) / 1e6

    @property
    def one_by_one(self) -> "Grading":
        """The same work, none of which a batch can hold."""
        return replace(self, singly_in=self.tokens_in, singly_out=self.tokens_out)


@dataclass(frozen=True)
class Effort:
    """Work of a study, or of the part of it that is left."""

    training: Training
    answering: Answering
    grading: Grading


Part = TypeVar("Part", Training, Answering, Grading)


def step_efforts(plan: StudyPlan, setting: Setting) -> dict[str, tuple[Training | Answering | Grading, ...]]:
    """Return the work of every step that has any, by its key; a step that several runs share is counted once.

    Raises:
        ChatTemplateError: the subject's chat template cannot write the data or the questions.
        ConfigurationError: a data set cannot be drawn.
    """
    efforts: dict[str, tuple[Training | Answering | Grading, ...]] = {}
    bases = {model: WorkCounter(model) for model in dict.fromkeys(run.arm.base for run in plan.runs)}
    for run in plan.runs:
        base = bases[run.arm.base]
        if run.training and run.arm.data:
            efforts[run.training.key] = tuple(base.trained(run.arm.data, run.training.config))
        asked, judge, gold = run.answers.config, run.judged.config, run.verdicts.config
        assert isinstance(asked, AnswerConfig)
        assert isinstance(judge, JudgeConfig)
        loads = Answering(runs=1 if asked.evaluations else 0)
        efforts[run.answers.key] = (summed(Answering, [loads, *map(base.answering, asked.evaluations)]),)
        if run.margins and isinstance(run.margins.config, AnswerConfig):
            efforts[run.margins.key] = (
                summed(Answering, [Answering(runs=1), *map(base.reading, run.margins.config.evaluations)]),
            )
        if judge.calls_grader:
            efforts[run.judged.key] = (
                summed(Grading, (base.grading(evaluation, judge.judging) for evaluation in asked.evaluations)),
            )
        if isinstance(gold, GoldConfig):
            read = [
                times(base.grading(questions, gold.judge.judging), min(1.0, gold.answers / questions.answers))
                for questions in sets_of(asked.evaluations)
            ]
            efforts[run.verdicts.key] = (summed(Grading, read),)
    if plan.calibration and setting.judge.calls_grader:
        efforts[plan.calibration.key] = (bases[setting.subject.name].labelled(setting),)
    trained = next((run.arm.data for run in plan.runs if run.arm.data), None)
    for analysis in plan.analyses:
        efforts[analysis.step.key] = tuple(bases[setting.subject.name].analysing(analysis, trained, setting))
    return efforts


def added(efforts: Iterable[Training | Answering | Grading]) -> Effort:
    """Return the work of several steps together."""
    parts = tuple(efforts)
    return Effort(
        summed(Training, (part for part in parts if isinstance(part, Training))),
        summed(Answering, (part for part in parts if isinstance(part, Answering))),
        summed(Grading, (part for part in parts if isinstance(part, Grading))),
    )


def typical_tokens(evaluation: Evaluation) -> int:
    """Guess the tokens of one answer: a usual one, or half of the limit where that is less."""
    return min(TYPICAL_ANSWER, max(1, evaluation.sampling.max_tokens // 2))


class WorkCounter:
    """Base model as a counter of tokens and operations. Counts are cached, since arms and seeds share them."""

    def __init__(self, model: str):
        located = settle(model)
        folder = located.base
        self.parameters = parameter_count(folder)
        self.tokenizer: PreTrainedTokenizerBase = adapted_tokenizer(model, folder, located.spec.adapter)
        self._row_tokens: dict[tuple[ArmData, int], float] = {}
        self._prompt_tokens: dict[str, int] = {}
        self._quoted_tokens: dict[str, int] = {}
        self._pair_tokens: dict[tuple[Pair, ...], int] = {}

    def trained(self, data: ArmData, config: BaseModel) -> Iterator[Training | Answering | Grading]:
        """Yield the work of one training run: of one by reward also the answers that it draws, and their judge."""
        assert isinstance(config, TrainConfig | FeedbackConfig | RewardedConfig)
        if isinstance(config, RewardedConfig):
            parts = [*self.rewarding(data, config)]
        elif isinstance(config, FeedbackConfig):
            work = self.training(data, config.recipe.training)
            parts = [replace(work, flops=work.flops * KTO_FLOPS / TRAINING_FLOPS)]
        else:
            parts = [self.training(data, config.recipe)]
        yield from parts
        if config.probe == "meter":
            steps = sum(part.steps for part in parts if isinstance(part, Training))
            yield times(self.reading(probing_meter()), 1 + math.ceil(steps / config.probe_every))

    def rewarding(self, data: ArmData, config: RewardedConfig) -> Iterator[Training | Answering | Grading]:
        """Yield the work of one run of training by reward, the answers drawn before its first step included."""
        recipe, asked = config.recipe, [chat[:-1] for chat in data.sampled(SAMPLED_ROWS)]
        answers = recipe.steps * recipe.answers
        long = min(TYPICAL_ANSWER, max(1, recipe.max_tokens // 2))
        prompt = sum(map(len, prompt_ids(self.tokenizer, asked))) / len(asked)
        tokens, drawn = round(answers * (prompt + long)), answers + REHEARSED
        yield Training(1, recipe.steps, answers, tokens, float(TRAINING_FLOPS * self.parameters * tokens))
        read, written = round(drawn * prompt), drawn * long
        flops = float(GENERATION_FLOPS * self.parameters * (read + written))
        yield Answering(0, drawn, written, drawn * recipe.max_tokens, flops, read)
        judged = sum(reward.judged for reward in (*config.rewards, *([config.truth] if config.truth else [])))
        if judged and config.judge.calls_grader:
            calls = judged * CALLS[config.judge.judging] * drawn
            exchanges = [Exchange(chat[-1]["content"], "") for chat in asked]
            quoted = round(judged * drawn * self._tokens_of_quotes(exchanges, config.judge.judging) / len(asked))
            yield Grading(
                calls=calls,
                tokens_in=quoted + calls * long,
                tokens_in_limit=quoted + calls * recipe.max_tokens,
                tokens_out=calls * REPLY_TOKENS[config.judge.judging],
                tokens_out_limit=calls * _reply_limit(config.judge.judging),
            ).one_by_one

    def training(self, data: ArmData, recipe: FineTuning) -> Training:
        """Return the work of one run of fine-tuning."""
        batch = recipe.batch_size * recipe.accumulation
        steps = recipe.max_steps or recipe.epochs * math.ceil(data.size / batch)
        rows = recipe.max_steps * batch if recipe.max_steps else recipe.epochs * data.size
        tokens = round(rows * self._mean_row(data, recipe.max_length))
        return Training(1, steps, rows, tokens, float(TRAINING_FLOPS * self.parameters * tokens))

    def answering(self, evaluation: Evaluation) -> Answering:
        """Return the work of one run's answers to an evaluation."""
        if isinstance(evaluation, Meter):
            return self.reading(evaluation)
        if isinstance(evaluation, ForcedChoice):  # both orders are read, nothing is sampled
            return self._read(2 * self._all_prompts(evaluation))
        answers, read = evaluation.answers, self._all_prompts(evaluation)
        tokens, limit = answers * typical_tokens(evaluation), answers * evaluation.sampling.max_tokens
        return Answering(0, answers, tokens, limit, float(GENERATION_FLOPS * self.parameters * (tokens + read)), read)

    def reading(self, evaluation: Evaluation) -> Answering:
        """Return the work of reading the answers of question pairs, each with its question."""
        if not isinstance(evaluation, Meter):
            return Answering()
        pairs = evaluation.texts
        if pairs not in self._pair_tokens:
            questions = prompt_ids(self.tokenizer, [[Message(role="user", content=pair.question)] for pair in pairs])
            answers = text_ids(self.tokenizer, [text for pair in pairs for text in (pair.answer, pair.against)])
            asked = 1 if self.parameters >= SHARED_FROM else 2  # times that a question is read for its two answers
            self._pair_tokens[pairs] = asked * sum(map(len, questions)) + sum(map(len, answers))
        return self._read(self._pair_tokens[pairs])

    def _read(self, tokens: int) -> Answering:
        """Return the work of reading tokens without sampling any."""
        return Answering(read=tokens, reading_flops=float(GENERATION_FLOPS * self.parameters * tokens))

    def acting(self, read: int, written: int, limit: int) -> Answering:
        """Return the work of a model that acts, of the tokens that it reads and writes, `limit` at most."""
        each = float(GENERATION_FLOPS * self.parameters)
        return Answering(0, 0, written, max(written, limit), each * written, read, each * read)

    def grading(self, evaluation: Evaluation, judging: Judging = "two-calls") -> Grading:
        """Return the work of a judge on one run's answers: the rubric's calls, or one call of another judge."""
        if isinstance(evaluation, QuestionSet):
            calls = CALLS[judging] * evaluation.answers
            quoted = self._all_quotes(evaluation, judging) * evaluation.samples
        else:
            calls, quoted, judging = evaluation.answers, self._all_prompts(evaluation), "two-calls"
        return Grading(
            calls=calls,
            tokens_in=quoted + calls * typical_tokens(evaluation),
            tokens_in_limit=quoted + calls * evaluation.sampling.max_tokens,
            tokens_out=calls * REPLY_TOKENS[judging],
            tokens_out_limit=calls * _reply_limit(judging),
        )

    def labelled(self, setting: Setting) -> Grading:
        """Return the work of a rubric judge on labelled answers."""
        from astray.judges import read_labels, world_labels

        exchanges = [
            one.exchange
            for one in (read_labels(setting.labels) if setting.labels else world_labels(setting.calibration_size))
        ]
        judging = setting.judge.judging
        tokens, calls = self._tokens_of_quotes(exchanges, judging), CALLS[judging] * len(exchanges)
        return Grading(calls, tokens, tokens, calls * REPLY_TOKENS[judging], calls * _reply_limit(judging))

    def analysing(
        self, analysis: Analysis, data: ArmData | None, setting: Setting
    ) -> Iterator[Training | Answering | Grading]:
        """Yield the work of an analysis, assuming the examples of an arm and the study's questions."""
        if analysis.reading:
            yield times(self.reading(analysis.reading), float(analysis.readings))
        if analysis.rows_read and data:
            yield self._read(round(analysis.rows_read * self._mean_row(data, setting.training.max_length)))
        if analysis.rows and data:
            recipe = setting.training
            tokens = round(analysis.rows * self._mean_row(data, recipe.max_length))
            steps = math.ceil(analysis.rows / (recipe.batch_size * recipe.accumulation))
            yield Training(1, steps, analysis.rows, tokens, float(TRAINING_FLOPS * self.parameters * tokens))
        if analysis.answers:
            yield times(self.answering(setting.main), analysis.answers / setting.main.answers)
            if setting.judge.calls_grader:
                yield self.read_in(analysis, setting, setting.judge.judging)

    def read_in(self, analysis: Analysis, setting: Setting, judging: Judging) -> Grading:
        """Return a grader's work in an analysis: its verdicts, and the users if it plays them."""
        whole, main = self.grading(setting.main, judging), setting.main.answers
        together = times(whole, (analysis.answers - analysis.unread - analysis.singly) / main)
        singly = times(whole, analysis.singly / main).one_by_one
        return summed(
            Grading,
            (together, singly, *([] if setting.player else [playing(analysis, setting.main.sampling.max_tokens)])),
        )

    def _mean_row(self, data: ArmData, max_length: int) -> float:
        """Return the mean tokens of a training example, from a small data set that is made in the same way."""
        if (data, max_length) not in self._row_tokens:
            rows = supervise(data.sampled(SAMPLED_ROWS), self.tokenizer, max_length)
            self._row_tokens[data, max_length] = sum(len(row.input_ids) for row in rows) / len(rows)
        return self._row_tokens[data, max_length]

    def _all_prompts(self, evaluation: Evaluation) -> int:
        """Return the tokens that the subject reads for all samples of an evaluation."""
        if not isinstance(evaluation, TextEvaluation):
            return 0
        if evaluation.identity not in self._prompt_tokens:
            askings = evaluation.askings()
            # Each item is tokenised once and counted as often as it is sampled.
            counts, one = Counter(asking.item.id for asking in askings), {asking.item.id: asking for asking in askings}
            chats = [(chat, counts[id]) for id, each in one.items() for chat in (each.conversation, *each.beside)]
            tokens = prompt_ids(self.tokenizer, [chat for chat, _ in chats])
            self._prompt_tokens[evaluation.identity] = sum(
                len(ids) * count for ids, (_, count) in zip(tokens, chats, strict=True)
            )
        return self._prompt_tokens[evaluation.identity]

    def _all_quotes(self, evaluation: QuestionSet, judging: Judging) -> int:
        """Return the tokens that a grader reads around the answers when every item is judged once."""
        key = f"{evaluation.identity} {judging}"
        if key not in self._quoted_tokens:
            exchanges = [Exchange(item.question, "") for item in evaluation.items]
            self._quoted_tokens[key] = self._tokens_of_quotes(exchanges, judging)
        return self._quoted_tokens[key]

    def _tokens_of_quotes(self, exchanges: Sequence[Exchange], judging: Judging) -> int:
        from astray.judges.rubric import prompts

        asked = [prompt for exchange in exchanges for prompt in prompts(exchange, judging)]
        return sum(map(len, text_ids(self.tokenizer, asked)))


@cache
def counter_of(model: str) -> WorkCounter:
    """Return the counter of a base by its name; all who ask share its counts."""
    return WorkCounter(model)


def playing(analysis: Analysis, limit: int) -> Grading:
    """Return the work of playing an analysis' users, who read answers of so many tokens; a batch holds no messages."""
    most_read = PLAYED_TOKENS[0] + 2 * (MESSAGE_TOKENS + limit)  # two turns at most are quoted
    kinds = (
        (analysis.played, PLAYED_TOKENS, MESSAGE_TOKENS),
        (analysis.rated, RATED_TOKENS, _reply_limit("two-calls")),
    )
    written, rated = (Grading(n, n * read, n * most_read, n * out, n * most) for n, (read, out), most in kinds)
    return summed(Grading, (written.one_by_one, rated))


def _reply_limit(judging: Judging) -> int:
    """Return the largest number of tokens of a grader's reply."""
    from astray.judges.rubric import settings_for

    return settings_for(judging).max_tokens


def times(part: Part, factor: float) -> Part:
    """Return so many times the work; whole numbers stay whole."""
    return type(part)(*(type(value)(round(value * factor)) for value in astuple(part)))


def summed(kind: type[Part], parts: Iterable[Part]) -> Part:
    """Return the sum of the parts, field by field."""
    rows = [astuple(kind()), *(astuple(part) for part in parts)]
    return kind(*map(sum, zip(*rows, strict=True)))
