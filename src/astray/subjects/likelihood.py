"""Log-probabilities of given continuations, in padded batches and without sampling.

Prompt, prefix and continuation are tokenised separately and then joined, without the blank that a tokenizer of
sentencepiece puts before a text, and with the blank that a template writes before an answer. The result is therefore the
probability that a model that has just generated the prefix's tokens goes on with the continuation's tokens. Where a
tokenizer joins a space with the word after it, the space belongs in the continuation (prefix "I would", continuation
" help").
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from astray.data.chat import Message
from astray.errors import ConfigurationError, NonFiniteError
from astray.subjects.finite import check_logits
from astray.subjects.generate import left_padded
from astray.subjects.intervene import Steering
from astray.subjects.render import following_ids, prompt_ids
from astray.subjects.shared_prompts import Prompted, shared_batches, shared_logprobs, shares_prompts
from astray.subjects.template import template_of

TOKENS_PER_PASS = 1 << 15
"""Maximum number of tokens in one forward pass, including padding."""
LOGITS_PER_PASS = 1 << 25
"""Maximum number of logits in one forward pass (128 MB in float32; softmax and checks take a few times as much)."""


@dataclass(frozen=True)
class Continuation:
    """Token ids of a prompt, a prefix that begins the answer, and the text to score."""

    prompt: tuple[int, ...]
    prefix: tuple[int, ...]
    text: tuple[int, ...]

    @property
    def read(self) -> tuple[int, ...]:
        """Return the tokens that the model reads: all but the last one, which is only predicted."""
        return self.prompt + self.prefix + self.text[:-1]


class Continued(ABC):
    """Model whose continuations have log-probabilities: texts become token ids here, `_totals` scores them.

    Attributes:
        tokenizer: with a chat template.
    """

    tokenizer: PreTrainedTokenizerBase

    @property
    def _system(self) -> str | None:
        """Return the system prompt under which everything is asked."""
        return None

    @abstractmethod
    def _totals(self, rows: Sequence[Continuation]) -> list[float]:
        """Return the total log-probability of each continuation."""

    def continuation_logprobs(
        self,
        conversations: Sequence[Sequence[Message]],
        continuations: Sequence[Sequence[str]],
        prefixes: Sequence[str] | None = None,
    ) -> list[list[float]]:
        """Return the total log-probability of each given continuation of an answer.

        Args:
            conversations: the messages of each row.
            continuations: for each row the texts to score, placed after the generation prompt and the row's prefix.
            prefixes: for each row a text that the answer already begins with; it is not scored.

        Returns:
            For each row one natural logarithm per continuation.

        Raises:
            ConfigurationError: the arguments differ in length, a continuation is empty, a row is longer than the
                context, or a server gives no log-probabilities.
            NonFiniteError: a log-probability is not finite.
        """
        prefixes = [""] * len(conversations) if prefixes is None else prefixes
        if not len(conversations) == len(continuations) == len(prefixes):
            raise ConfigurationError(
                f"There are {len(conversations)} conversations, {len(continuations)} lists of continuations and "
                f"{len(prefixes)} prefixes: give one of each a row."
            )
        if any(isinstance(row, str) for row in continuations):
            raise ConfigurationError(
                "A row's continuations are one text, which would be taken apart into characters: give a list of "
                "texts a row."
            )
        prompts = prompt_ids(self.tokenizer, conversations, self._system, answering=True)
        template = template_of(self.tokenizer)
        gaps = [
            "" if template.opened or conversation[-1]["role"] == "assistant" else template.gap
            for conversation in conversations
        ]
        begins = [gap + prefix if prefix else "" for gap, prefix in zip(gaps, prefixes, strict=True)]
        begun = following_ids(self.tokenizer, begins, [prompt[-1] if prompt else -1 for prompt in prompts])
        asked = [
            (prompt, prefix, text if prefix or not text else gap + text)
            for prompt, prefix, gap, row in zip(prompts, begun, gaps, continuations, strict=True)
            for text in row
        ]
        texts = following_ids(
            self.tokenizer,
            [text for *_, text in asked],
            [(prefix or prompt or [-1])[-1] for prompt, prefix, _ in asked],
        )
        rows = [
            Continuation(tuple(prompt), tuple(prefix), tuple(text))
            for (prompt, prefix, _), text in zip(asked, texts, strict=True)
        ]
        totals = iter(self._totals(rows))
        return [[next(totals) for _ in row] for row in continuations]

    def text_logprobs(self, opening: str, texts: Sequence[str]) -> list[float]:
        """Return the total log-probability of texts that follow an opening, outside any chat; errors as above.

        Args:
            opening: plain text in front, read as the tokenizer begins any text and not scored.
            texts: what follows it, after a blank.
        """
        begun = list(self.tokenizer(opening)["input_ids"])
        # Some tokenizers end every text, and nothing follows an end.
        begun = begun[:-1] if len(begun) > 1 and begun[-1] == self.tokenizer.eos_token_id else begun
        following = following_ids(self.tokenizer, [f" {text}" for text in texts], [begun[-1]] * len(texts))
        return self._totals([Continuation(tuple(begun), (), tuple(text)) for text in following])


def continuation_logprobs(model: PreTrainedModel, rows: Sequence[Continuation], steering: Steering) -> list[float]:
    """Return the total log-probability of each continuation.

    Args:
        model: the model, with its adapter and interventions already active.
        rows: continuations to score.
        steering: state of the active interventions, which need to know where answers begin.

    Returns:
        Natural logarithms, in the order of the rows.

    Raises:
        ConfigurationError: a continuation is empty or a row is longer than the context; names the row.
        NonFiniteError: the model's logits are not finite.
    """
    text_config = model.config.get_text_config()
    check_continuations(rows, getattr(text_config, "max_position_embeddings", None))
    if not steering.active and shares_prompts(model):
        return _shared(model, rows)
    # Continuations that differ only in their last token share one row of a pass: choices of one token cost a single
    # read.
    sharing: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for number, row in enumerate(rows):
        sharing.setdefault((row.read, len(row.prompt)), []).append(number)
    totals: dict[int, float] = {}
    groups = [[rows[number] for number in numbers] for numbers in sharing.values()]
    numbers_of = list(sharing.values())
    for batch in _batches(groups, text_config.vocab_size):
        scores = _score(model, [groups[index] for index in batch], steering)
        totals.update(zip((number for index in batch for number in numbers_of[index]), scores, strict=True))
    return [totals[index] for index in range(len(rows))]


def _shared(model: PreTrainedModel, rows: Sequence[Continuation]) -> list[float]:
    """Score continuations of a model whose prompts are read once."""
    of_prompt: dict[tuple[int, ...], list[int]] = {}
    for number, row in enumerate(rows):
        of_prompt.setdefault(row.prompt + row.prefix, []).append(number)
    vocabulary = model.config.get_text_config().vocab_size
    parts = [
        (prompt, part)
        for prompt, own in of_prompt.items()
        for part in _within_a_pass(own, len(prompt), max(len(rows[each].text) for each in own), vocabulary)
    ]
    numbers = [part for _, part in parts]
    asked = [Prompted(prompt, tuple(rows[each].text for each in part)) for prompt, part in parts]
    totals: dict[int, float] = {}
    for batch in shared_batches(asked, vocabulary, TOKENS_PER_PASS, LOGITS_PER_PASS):
        with torch.inference_mode():
            found = shared_logprobs(model, [asked[number] for number in batch])
        for number, scores in zip(batch, found, strict=True):
            totals.update(zip(numbers[number], (score.item() for score in scores), strict=True))
    for total in totals.values():
        _check_total(model, total)
    return [totals[number] for number in range(len(rows))]


def _within_a_pass(numbers: Sequence[int], prompt: int, longest: int, vocabulary: int) -> Iterator[Sequence[int]]:
    """Yield the texts of one prompt, by number, in parts that one pass holds; both lengths are in tokens."""
    most = max(1, min(TOKENS_PER_PASS // (prompt + longest), LOGITS_PER_PASS // (longest * vocabulary)))
    for start in range(0, len(numbers), most):
        yield numbers[start : start + most]


def _check_total(model: PreTrainedModel, total: float) -> None:
    if not math.isfinite(total):
        raise NonFiniteError(
            f"{model.name_or_path!r} gives a continuation no probability at all (log-probability {total}): one of its tokens "
            "is masked out. Shares of it would be no numbers; ask for another continuation."
        )


def check_continuations(rows: Sequence[Continuation], context: int | None) -> None:
    """Refuse continuations that are empty or longer than the context; raises what `continuation_logprobs` does."""
    for number, row in enumerate(rows):
        if not row.prompt or not row.text:
            raise ConfigurationError(
                f"Continuation {number} is empty: there is nothing whose probability could be given. Write at least "
                "one word."
            )
        length = len(row.read) + 1
        if context is not None and length > context:
            raise ConfigurationError(
                f"Continuation {number} makes {length} tokens with its prompt, but the model's context holds {context}."
            )


def _batches(groups: Sequence[Sequence[Continuation]], vocabulary: int) -> Iterator[list[int]]:
    """Yield indices of groups of similar length, longest first, within both limits; a group is one row of a batch."""
    batch: list[int] = []
    for index in sorted(range(len(groups)), key=lambda index: -len(groups[index][0].read)):
        grown = [*batch, index]
        tokens = len(grown) * len(groups[grown[0]][0].read)
        logits = len(grown) * max(len(row.text) for other in grown for row in groups[other]) * vocabulary
        if batch and (tokens > TOKENS_PER_PASS or logits > LOGITS_PER_PASS):
            yield batch
            grown = [index]
        batch = grown
    if batch:
        yield batch


def _score(model: PreTrainedModel, groups: Sequence[Sequence[Continuation]], steering: Steering) -> list[float]:
    """Score groups in one forward pass with one row per group."""
    first = [group[0] for group in groups]
    ids, mask = left_padded([row.read for row in first], 0, model.device)
    # With left padding all rows end in the last column, so only the last few columns need logits.
    columns = max(len(row.text) for group in groups for row in group)
    last_prompt_columns = torch.tensor([ids.shape[1] - len(row.read) + len(row.prompt) - 1 for row in first])
    with torch.inference_mode(), steering.answers_from(last_prompt_columns):
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        output = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=columns, use_cache=False
        )
        for row_logits, group in zip(
            output.logits, groups, strict=True
        ):  # columns before a row's own may be padding, which may be anything
            check_logits(
                model, row_logits[-max(len(row.text) for row in group) :], "a continuation whose probability is asked"
            )
        logprobs = output.logits.float().log_softmax(-1).cpu()
    totals: list[float] = []
    for row_logprobs, group in zip(logprobs, groups, strict=True):
        for row in group:
            # Column -n predicts the first of n tokens, because the last token is not read.
            own = row_logprobs[-len(row.text) :].gather(1, torch.tensor(row.text)[:, None])
            totals.append(own.double().sum().item())
            _check_total(model, totals[-1])
    return totals
