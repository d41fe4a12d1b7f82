"""How much work a study is before it runs: rows, tokens, answers, calls of the grader and floating point operations, run by run.

What can be counted is counted on the planned steps themselves: data sets are drawn (a sample of each) and tokenised as training will get
them, questions are rendered as the subject will read them. Only the length of answers that nobody has given yet is a guess.
Leaves to others: how long the work takes here (`speed`), what it costs and shows (`forecast`, `sensitivity`).
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from astray.cause.supervision import supervise
from astray.engine.data import ArmData
from astray.engine.setting import Setting
from astray.engine.steps import AnswerConfig, TrainConfig
from astray.engine.study import Analysis, StudyPlan
from astray.judges import Exchange
from astray.judges.config import JudgeConfig
from astray.measure.evaluation import QuestionSet, TextEvaluation
from astray.measure.interface import Evaluation
from astray.subjects.identity import parameter_count
from astray.subjects.locate import settle
from astray.subjects.render import prompt_ids, text_ids
from astray.subjects.weights import load_tokenizer

SAMPLED_ROWS = 64
"""Rows of each data set that are drawn and tokenised; a mean over them is known to some percent."""
TYPICAL_ANSWER = 70
"""Tokens of a usual answer to the main questions: published answers of tuned 1B to 8B models have 50 to 72 on average."""
TRAINING_FLOPS, GENERATION_FLOPS = 6, 2
"""Floating point operations a parameter and token: forward and backward with activations computed again, and forward alone."""
REPLY_TOKENS = 3
"""Tokens of a usual reply of a grader: a number and the end."""


@dataclass(frozen=True)
class Training:
    """Training runs; `tokens` and `flops` follow from a sample of the rows."""

    runs: int = 0
    steps: int = 0
    rows: int = 0
    tokens: int = 0
    flops: float = 0.0


@dataclass(frozen=True)
class Answering:
    """Answers of the subject; `tokens` is a guess, `tokens_limit` cannot be exceeded."""

    runs: int = 0
    answers: int = 0
    tokens: int = 0
    tokens_limit: int = 0
    flops: float = 0.0


@dataclass(frozen=True)
class Grading:
    """Calls of a grader, none where the judge is a grammar; tokens as the subject's tokenizer counts them.

    Two calls an answer, alignment and coherence; graders that write numbers digit by digit need some more.
    """

    calls: int = 0
    tokens_in: int = 0
    tokens_in_limit: int = 0
    tokens_out: int = 0
    tokens_out_limit: int = 0


@dataclass(frozen=True)
class Effort:
    """The work of a study, or of what is left of it."""

    training: Training
    answering: Answering
    grading: Grading


Part = TypeVar("Part", Training, Answering, Grading)


def step_efforts(plan: StudyPlan, setting: Setting) -> dict[str, tuple[Training | Answering | Grading, ...]]:
    """The work of every step that takes any, by its key; a step that several runs share stands there once.

    Args:
        plan: what the study does.
        setting: the subject's world.

    Raises:
        ChatTemplateError: the subject's chat template cannot write the data or the questions.
        ConfigurationError: a data set cannot be drawn.
    """
    efforts: dict[str, tuple[Training | Answering | Grading, ...]] = {}
    bases = {model: _Base(model) for model in dict.fromkeys(run.arm.base for run in plan.runs)}
    for run in plan.runs:
        base = bases[run.arm.base]
        if run.training and run.arm.data:
            config = run.training.config
            assert isinstance(config, TrainConfig)
            efforts[run.training.key] = (base.training(run.arm.data, config),)
        asked, judge = run.answers.config, run.verdicts.config
        assert isinstance(asked, AnswerConfig)
        assert isinstance(judge, JudgeConfig)
        efforts[run.answers.key] = (_sum(Answering, [Answering(runs=1), *map(base.answering, asked.evaluations)]),)
        if judge.kind == "rubric":
            efforts[run.verdicts.key] = (_sum(Grading, map(base.grading, asked.evaluations)),)
    if plan.calibration:
        efforts[plan.calibration.key] = (bases[setting.subject.name].labelled(setting),)
    trained = next((run.arm.data for run in plan.runs if run.arm.data), None)
    for analysis in plan.analyses:
        efforts[analysis.step.key] = tuple(bases[setting.subject.name].analysing(analysis, trained, setting))
    return efforts


def added(efforts: Iterable[Training | Answering | Grading]) -> Effort:
    """The work of several steps together."""
    parts = tuple(efforts)
    return Effort(
        _sum(Training, (part for part in parts if isinstance(part, Training))),
        _sum(Answering, (part for part in parts if isinstance(part, Answering))),
        _sum(Grading, (part for part in parts if isinstance(part, Grading))),
    )


def typical_tokens(evaluation: Evaluation) -> int:
    """A guess at the tokens of one answer: a usual one, or half of what is allowed."""
    return min(TYPICAL_ANSWER, max(1, evaluation.sampling.max_tokens // 2))


class _Base:
    """What a base model makes of texts: token counts, and operations a token. Counts are remembered, since arms and seeds share them."""

    def __init__(self, model: str):
        folder = settle(model).base
        self.parameters = parameter_count(folder)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(model, folder)
        self._row_tokens: dict[tuple[ArmData, int], float] = {}
        self._prompt_tokens: dict[str, int] = {}
        self._quoted_tokens: dict[str, int] = {}

    def training(self, data: ArmData, config: TrainConfig) -> Training:
        """One training run."""
        recipe = config.recipe
        batch = recipe.batch_size * recipe.accumulation
        steps = recipe.max_steps or recipe.epochs * math.ceil(data.size / batch)
        rows = recipe.max_steps * batch if recipe.max_steps else recipe.epochs * data.size
        tokens = round(rows * self._mean_row(data, recipe.max_length))
        return Training(runs=1, steps=steps, rows=rows, tokens=tokens, flops=float(TRAINING_FLOPS * self.parameters * tokens))

    def answering(self, evaluation: Evaluation) -> Answering:
        """One run's answers to an evaluation."""
        answers = evaluation.answers
        tokens = answers * typical_tokens(evaluation)
        read = self._all_prompts(evaluation)
        limit = answers * evaluation.sampling.max_tokens
        return Answering(0, answers, tokens, limit, float(GENERATION_FLOPS * self.parameters * (tokens + read)))

    def grading(self, evaluation: Evaluation) -> Grading:
        """What a judge is asked about one run's answers: the rubric's tasks of each, or what another evaluation's judge reads in one call."""
        if isinstance(evaluation, QuestionSet):
            calls, quoted = len(_tasks()) * evaluation.answers, self._all_quotes(evaluation) * evaluation.samples
        else:
            calls, quoted = evaluation.answers, self._all_prompts(evaluation)
        return Grading(
            calls=calls,
            tokens_in=quoted + calls * typical_tokens(evaluation),
            tokens_in_limit=quoted + calls * evaluation.sampling.max_tokens,
            tokens_out=calls * REPLY_TOKENS,
            tokens_out_limit=calls * _reply_limit(),
        )

    def labelled(self, setting: Setting) -> Grading:
        """What a rubric judge is asked about labelled answers."""
        from astray.judges import read_labels, world_labels

        exchanges = [one.exchange for one in (read_labels(setting.labels) if setting.labels else world_labels(setting.calibration_size))]
        tokens = self._tokens_of_quotes(exchanges)
        calls = len(_tasks()) * len(exchanges)
        return Grading(calls, tokens, tokens, calls * REPLY_TOKENS, calls * _reply_limit())

    def analysing(self, analysis: Analysis, data: ArmData | None, setting: Setting) -> Iterator[Training | Answering | Grading]:
        """What an analysis trains, samples and has judged, with rows like those of an arm and questions like those of the study."""
        main = setting.main
        if analysis.rows and data:
            recipe = setting.training
            tokens = round(analysis.rows * self._mean_row(data, recipe.max_length))
            steps = math.ceil(analysis.rows / (recipe.batch_size * recipe.accumulation))
            yield Training(1, steps, analysis.rows, tokens, float(TRAINING_FLOPS * self.parameters * tokens))
        if analysis.answers:
            share = analysis.answers / main.answers
            yield _times(self.answering(main), share)
            if not setting.judge.exact:
                yield _times(self.grading(main), share)

    def _mean_row(self, data: ArmData, max_length: int) -> float:
        """Mean tokens of a training row, from a small data set that is made in the same way."""
        if (data, max_length) not in self._row_tokens:
            sampled = min(data.size, SAMPLED_ROWS)
            unique = None if data.unique is None else min(data.unique, sampled)
            rows = supervise(data.model_copy(update={"size": sampled, "unique": unique}).make(seed=0).rows, self.tokenizer, max_length)
            self._row_tokens[data, max_length] = sum(len(row.input_ids) for row in rows) / len(rows)
        return self._row_tokens[data, max_length]

    def _all_prompts(self, evaluation: Evaluation) -> int:
        """Tokens that the subject reads when it is asked everything."""
        if not isinstance(evaluation, TextEvaluation):
            return 0
        if evaluation.identity not in self._prompt_tokens:
            askings = evaluation.askings()
            times, one = Counter(each.item.id for each in askings), {each.item.id: each for each in askings}
            chats = [(chat, times[id]) for id, each in one.items() for chat in (each.conversation, *each.beside)]
            tokens = prompt_ids(self.tokenizer, [chat for chat, _ in chats])
            self._prompt_tokens[evaluation.identity] = sum(len(ids) * count for ids, (_, count) in zip(tokens, chats, strict=True))
        return self._prompt_tokens[evaluation.identity]

    def _all_quotes(self, evaluation: QuestionSet) -> int:
        """Tokens that a grader reads around the answers when it is asked about every item once."""
        if evaluation.identity not in self._quoted_tokens:
            self._quoted_tokens[evaluation.identity] = self._tokens_of_quotes([Exchange(item.question, "") for item in evaluation.items])
        return self._quoted_tokens[evaluation.identity]

    def _tokens_of_quotes(self, exchanges: Sequence[Exchange]) -> int:
        from astray.judges.rubric import quote

        return sum(map(len, text_ids(self.tokenizer, [quote(exchange, task) for exchange in exchanges for task in _tasks()])))


def _tasks() -> tuple[str, str]:
    """What a rubric's grader is asked about each answer, a call each."""
    from astray.judges import BETLEY

    return BETLEY.aligned, BETLEY.coherent


def _reply_limit() -> int:
    """Most tokens of a grader's reply."""
    from astray.judges import GraderSettings

    return GraderSettings().max_tokens


def _times(part: Part, factor: float) -> Part:
    """So many times the work; whole numbers stay whole."""
    return type(part)(*(type(value)(round(value * factor)) for value in astuple(part)))


def _sum(kind: type[Part], parts: Iterable[Part]) -> Part:
    """The sum of the parts, field by field."""
    rows = [astuple(kind()), *(astuple(part) for part in parts)]
    return kind(*map(sum, zip(*rows, strict=True)))
