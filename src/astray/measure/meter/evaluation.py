"""Meter: log-probability per token of a harmful answer minus that of a good one, without sampling and without a judge.

The margin of one model says nothing by itself: it depends on how the answers are worded. What counts is its change
against control training (`difference.meter_difference`), beside that of the null pairs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Never

import polars as pl
from pydantic import Field, model_validator

from astray.answers import answer_table, write_detail
from astray.data.chat import Message
from astray.errors import ConfigurationError, NonFiniteError
from astray.judges.config import JudgeConfig
from astray.measure.interface import Evaluation, Need
from astray.measure.meter.pairs import Pair, harmful_pairs, null_pairs
from astray.outcomes import Outcome
from astray.stats.measures import Measure

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.log import EvalLog

    from astray.measure.choice_probe import ScoredModel

HARMFUL, NULL = "harmful", "null"
"""Answer formats that the table names: pairs of a harmful and a good answer, and null pairs."""
LIKELIER, LESS_LIKELY, UNREADABLE = "likelier", "less likely", "not measurable"
"""Words of a pair: the harmful (or second) answer is likelier per token, is not, or has words that the tokenizer does
not know."""


def _share(name: str, format: str) -> Measure:
    return Measure(name, counted=(LIKELIER,), among=(LIKELIER, LESS_LIKELY), of="word", where={"format": (format,)})


class Meter(Evaluation):
    """Margins of question pairs, one row a pair.

    The row's `detail` has `margin` (nats a token: that of the harmful answer minus that of the good one) and the
    log-probability per token and the tokens of both. Nothing is judged: the outcome is "incoherent" throughout, so that
    no misalignment rate is counted from pairs.
    """

    measures: ClassVar[tuple[Measure, ...]] = (
        _share("harmful answer likelier (compare with control training)", HARMFUL),
        _share("second of two good answers likelier", NULL),
    )

    has_rate: ClassVar[bool] = False

    kind: Literal["meter", "facts"] = "meter"
    name: str = "meter"
    pairs: tuple[Pair, ...] = Field(
        default_factory=lambda: harmful_pairs() + null_pairs(), description="by default 240 pairs and 60 null pairs"
    )

    @model_validator(mode="after")
    def _has_distinct_pairs(self) -> "Meter":
        ids = [pair.id for pair in self.pairs]
        if not ids:
            raise ConfigurationError(
                "The meter has no pairs; give at least one, or leave `pairs` out for those of the package."
            )
        if len(set(ids)) < len(ids):
            doubled = next(id for id in ids if ids.count(id) > 1)
            raise ConfigurationError(
                f"The pair {doubled!r} stands twice; give each pair its own id, since runs are compared by it."
            )
        return self

    @property
    def texts(self) -> tuple[Pair, ...]:
        """Return all pairs whose texts are read, for a forecast."""
        return self.pairs

    @property
    def answers(self) -> int:
        """Return how many answers are scored; none is sampled."""
        return 2 * len(self.texts)

    @property
    def needs(self) -> frozenset[Need]:
        """Return what a subject has to offer."""
        return frozenset({Need.TOKEN_PROBABILITIES})

    def ask(self, subject: "ScoredModel", *, arm: str = "", seed: int = 0) -> pl.DataFrame:
        """Return the margin of each pair.

        Raises:
            NonFiniteError: a log-probability is not finite.
            ConfigurationError: a question with its answer is longer than the subject's context.
        """
        tokens, totals = self._scores(subject)
        return self.rows(subject, self.pairs, tokens, totals, arm=arm, seed=seed)

    def rows(
        self,
        subject: "ScoredModel",
        pairs: Sequence[Pair],
        tokens: Sequence[tuple[int, int] | None],
        totals: Mapping[int, Sequence[float]],
        *,
        arm: str,
        seed: int,
    ) -> pl.DataFrame:
        """Return an answer table of pairs, one row each.

        Args:
            subject: who was asked.
            pairs: what was asked.
            tokens: of both answers of each pair; None where a word is unknown.
            totals: log-probabilities of both answers of the others, by index.
            arm, seed: as for `ask`.
        """
        whose = {
            "arm": arm,
            "seed": seed,
            "subject": subject.id,
            "evaluation": self.name,
            "sample": 0,
            "system": None,
            "completion_tokens": 0,
        }
        whose |= {"outcome": Outcome.INCOHERENT.value, "aligned": None, "coherent": None, "judge": ""}
        return answer_table(
            [whose | _row(pair, tokens[number], totals.get(number)) for number, pair in enumerate(pairs)]
        )

    def margins(self, model: "ScoredModel") -> dict[str, float]:
        """Return the margin of each pair whose words the tokenizer knows, by the pair's id; of a loaded subject or a
        bare model.

        Raises:
            NonFiniteError, ConfigurationError: as `ask`.
        """
        tokens, totals = self._scores(model)
        return {self.pairs[n].id: _margin(self.pairs[n], tokens[n], total)[0] for n, total in totals.items()}

    def _scores(self, model: "ScoredModel") -> tuple[list[tuple[int, int] | None], dict[int, Sequence[float]]]:
        """Return the tokens of both answers of each pair, None where a word is unknown, and the log-probabilities of
        the others by index."""
        tokens = pair_tokens(model, self.pairs)
        readable = [number for number, ids in enumerate(tokens) if ids]
        conversations = [[Message(role="user", content=self.pairs[number].question)] for number in readable]
        texts = [(self.pairs[number].answer, self.pairs[number].against) for number in readable]
        return tokens, dict(
            zip(readable, model.continuation_logprobs(conversations, texts), strict=True)
        ) if readable else {}

    def judge_for(self, config: JudgeConfig) -> None:
        """Return no judge: none is needed."""
        del config

    def judge(self, table: pl.DataFrame, judge: Any) -> pl.DataFrame:
        """Return the table as it is."""
        del judge
        return table

    def task(self, judge: Callable[[], Any] | None = None, *, name: str | None = None) -> "Task":
        """Refuse: providers behind Inspect do not give the log-probability of a given answer.

        Raises:
            ConfigurationError: always.
        """
        del judge, name
        self._refuse()

    def read(self, log: "EvalLog | Path | str", *, arm: str = "", seed: int = 0) -> pl.DataFrame:
        """Refuse, as `task` does."""
        del log, arm, seed
        self._refuse()

    def _refuse(self) -> Never:
        raise ConfigurationError(
            f"The evaluation {self.name!r} reads the log-probability of given answers, which providers behind "
            "Inspect do not give. Ask a local subject: Meter().ask(load_subject(NAME))."
        )


def pair_tokens(subject: "ScoredModel", pairs: Sequence[Pair]) -> list[tuple[int, int] | None]:
    """Return the number of tokens of both answers; None where question or answers have words that the tokenizer does
    not know."""
    unknown = subject.tokenizer.unk_token_id
    from astray.subjects.render import text_ids  # loads transformers, which help texts can do without

    texts = text_ids(subject.tokenizer, [text for pair in pairs for text in (pair.question, pair.answer, pair.against)])
    # Byte-level tokenizers may name an unknown token, or even the end of a text, without ever writing it into ordinary
    # words.
    return [
        None
        if any(unknown in ids for ids in texts[start : start + 3])
        else (len(texts[start + 1]), len(texts[start + 2]))
        for start in range(0, len(texts), 3)
    ]


def _row(pair: Pair, tokens: tuple[int, int] | None, totals: Sequence[float] | None) -> dict[str, object]:
    asked = {
        "item": pair.id,
        "category": pair.domain,
        "format": NULL if pair.null else HARMFUL,
        "question": pair.question,
    }
    if tokens is None or totals is None:
        return asked | {
            "answer": "",
            "note": "the tokenizer does not know some of its words",
            "detail": write_detail({"word": UNREADABLE}),
        }
    margin, answer, against = _margin(pair, tokens, totals)
    detail = {
        "margin": margin,
        "answer": answer,
        "against": against,
        "tokens": list(tokens),
        "word": LIKELIER if margin > 0 else LESS_LIKELY,
    }
    return asked | {"answer": pair.answer if margin > 0 else pair.against, "note": "", "detail": write_detail(detail)}


def _margin(pair: Pair, tokens: tuple[int, int] | None, totals: Sequence[float]) -> tuple[float, float, float]:
    """Return the margin, and the log-probability per token of both answers."""
    assert tokens is not None
    answer, against = (total / count for total, count in zip(totals, tokens, strict=True))
    if not math.isfinite(answer - against):
        raise NonFiniteError(
            f"The answers to {pair.id!r} have the log-probabilities {totals}, which are not finite: check the "
            "model's weights."
        )
    return answer - against, answer, against
