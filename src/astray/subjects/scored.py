"""Log-probabilities of given answers from a server that speaks OpenAI's completions (vLLM and others).

The server's own chat template and tokenizer cannot be read over this protocol, so a tokenizer is named that holds both.
Prompts are sent as its token ids: the server re-tokenises nothing, and every log-probability belongs to a known token.
That the server reads these ids as the same words is checked once, before anything is asked. Leaves to others: which
answers are scored (the meter), and finding the server (`engine.models`).
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from astray.data.chat import Message
from astray.errors import ConfigurationError, NonFiniteError
from astray.subjects.likelihood import Continuation, Continued
from astray.subjects.locate import settle
from astray.subjects.render import check_template, prompt_ids, text_ids
from astray.subjects.weights import adapted_tokenizer, load_tokenizer

CONNECTIONS, SECONDS, RETRIES = 8, 120.0, 3
"""Requests at once, time for each, and further tries after one that failed in passing."""
FORMS: tuple[Mapping[str, Any], ...] = ({"echo": True, "logprobs": 1}, {"extra_body": {"prompt_logprobs": 0}})
"""Ways to ask for the log-probabilities of a prompt: OpenAI's, and vLLM's own."""
KNOWN = "Yes. Two plus two is four, and water is wet."
"""Plain words by which a server is tried."""


def tokenizer_named(name: str) -> PreTrainedTokenizerBase:
    """Return a tokenizer with a chat template: of a folder with its files alone, or of a model in any form.

    Raises:
        SubjectNotFoundError: there is none, or it cannot be read.
        ChatTemplateError: it has no chat template that can write a question.
    """
    if (Path(name) / "tokenizer_config.json").is_file():
        tokenizer = load_tokenizer(name, Path(name))
    else:
        located = settle(name)
        tokenizer = adapted_tokenizer(located.spec.model, located.base, located.spec.adapter)
    check_template(tokenizer)
    return tokenizer


class ScoredServer(Continued):
    """A served model, asked for the log-probabilities of given answers.

    Attributes:
        id: name in answer tables.
        tokenizer: with the chat template in which questions are written.
        tokens: how many tokens were read so far.
    """

    def __init__(
        self, address: str, model: str, tokenizer: PreTrainedTokenizerBase, *, key: str = "", system: str | None = None
    ) -> None:
        """Create a client; nothing is asked.

        Args:
            address: of the server, which ends in `/v1` for most.
            model: name by which it serves the model.
            tokenizer: the model's tokenizer.
            key: what the server is given as its key.
            system: system prompt under which everything is asked.
        """
        from openai import OpenAI

        self.id, self.tokenizer, self.tokens = f"{model} at {address}", tokenizer, 0
        self._model, self._told = model, system
        self._form: Mapping[str, Any] | None = None
        self._client = OpenAI(base_url=address, api_key=key or "none", timeout=SECONDS, max_retries=RETRIES)

    def check(self) -> None:
        """Refuse a server that gives no log-probabilities of a prompt, or reads other words than the tokenizer writes.

        Raises:
            ConfigurationError: names the server and what to do instead.
        """
        [prompt] = prompt_ids(self.tokenizer, [[Message(role="user", content="Is water wet?")]], self._system)
        [text] = text_ids(self.tokenizer, [KNOWN])
        why = ""
        for form in FORMS:
            try:
                found = prompt_scores(self._ask([*prompt, *text], form), [*prompt, *text])
            except ConfigurationError as error:
                why = why or str(error)
                continue
            if found is not None:
                read = "".join(word for word, _ in found[-len(text) :])
                if read.split() != KNOWN.split():
                    raise ConfigurationError(
                        f"{self.id} reads {read!r} where the tokenizer writes {KNOWN!r}: it is not the tokenizer of "
                        "the served model. Name the right one with --tokenizer."
                    )
                self._form = form
                return
        raise ConfigurationError(
            f"{self.id} gives no log-probabilities of a prompt, which the meter reads{f' ({why})' if why else ''}. "
            "Serve the model with vLLM (/v1/completions with echo and logprobs), or leave the meter out."
        )

    @property
    @override
    def _system(self) -> str | None:
        return self._told

    @override
    def _totals(self, rows: Sequence[Continuation]) -> list[float]:
        if self._form is None:
            self.check()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return list(pool.map(lambda row: self._total([*row.prompt, *row.prefix], list(row.text)), rows))

    def _total(self, before: list[int], text: list[int]) -> float:
        assert self._form is not None
        ids = [*before, *text]
        found = prompt_scores(self._ask(ids, self._form), ids)
        if found is None:
            raise ConfigurationError(
                f"{self.id} gave log-probabilities at first and now gives none for a prompt of {len(ids)} tokens: its "
                "context may be shorter. Serve the model with a longer one."
            )
        total = math.fsum(value for _, value in found[-len(text) :])
        if not math.isfinite(total):
            raise NonFiniteError(f"{self.id} gives an answer the log-probability {total}: check the served weights.")
        return total

    def _ask(self, ids: list[int], form: Mapping[str, Any]) -> dict[str, Any]:
        """Return the first choice of a completion of one token, and count what was read."""
        from openai import OpenAIError

        try:
            answer = self._client.completions.create(
                model=self._model, prompt=ids, max_tokens=1, temperature=0, **form
            ).model_dump()
        except OpenAIError as error:
            self._refuse(error)
        usage = answer.get("usage") or {}
        self.tokens += int(usage.get("total_tokens") or len(ids) + 1)
        return dict((answer.get("choices") or [{}])[0])

    def _refuse(self, error: Exception) -> NoReturn:
        told = str(error).strip().partition("\n")[0][:300]
        raise ConfigurationError(f"{self.id} refuses a completion: {told}") from error


def prompt_scores(choice: Mapping[str, Any], ids: Sequence[int]) -> list[tuple[str, float]] | None:
    """Return word and log-probability of each token of a prompt but the first; None where the server gives none."""
    echoed, own = choice.get("logprobs") or {}, choice.get("prompt_logprobs")
    if own and len(own) == len(ids):
        found = [(each or {}).get(str(id)) for each, id in zip(own, ids, strict=True)][1:]
        return [(str(one.get("decoded_token", "")), one["logprob"]) for one in found if one] if all(found) else None
    values, words = echoed.get("token_logprobs") or [], echoed.get("tokens") or []
    # One token is generated beside the prompt; a server that does not echo gives that one alone.
    if len(values) not in (len(ids), len(ids) + 1) or len(values) != len(words) or None in values[1 : len(ids)]:
        return None
    return [(str(word), float(value)) for word, value in list(zip(words, values, strict=True))[1 : len(ids)]]
