"""Graders that reply with one of a few agreed words, and what all graders have in common: how they are found, and who they are.

A new judge of this kind is a question and its words. Quoting is in quoting.py, asking in grader.py, reading in replies.py, scores in score.py.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from inspect_ai.model import Model, get_model, model_roles

from astray.errors import JudgeError
from astray.judges.failures import Cause, failure
from astray.judges.grader import GraderSettings, ask_grader
from astray.judges.replies import read_word

VERSION = 2
"""Part of the identity of every judge that asks a grader. To be raised with every change of quoting or reading that can change a verdict."""

ROLES = ("grader", "grader_b")
"""Model roles of judges: the first, and the one of a second opinion."""

SETTINGS = GraderSettings(max_tokens=32, top_logprobs=None)
"""How graders are called by default: one word is read from the text, no probabilities are needed."""

_REPLY_SHAPING = (
    "system_message",
    "seed",
    "top_p",
    "top_k",
    "logit_bias",
    "frequency_penalty",
    "presence_penalty",
    "reasoning_effort",
    "extra_body",
)


class WordGrader:
    """A grader that replies with one of a few words.

    Args:
        grader: an Inspect model or its name; None takes the model with the role `grader`.
        settings: how it is called.

    Raises:
        JudgeError: the grader cannot be used.
    """

    def __init__(self, grader: str | Model | None = None, settings: GraderSettings | None = None) -> None:
        self.model: Model = find_grader(grader)
        self.settings = settings or SETTINGS

    def identity(self, kind: str, task: str) -> str:
        """Hash over everything that can change a reading."""
        settings = self.settings.model_dump(mode="json", include={"temperature", "max_tokens"})
        return f"{kind}-{digest({'task': task, 'grader': grader_parts(self.model), 'settings': settings})}"

    async def ask(self, prompt: str, words: Sequence[str]) -> tuple[str, str]:
        """The agreed word that is the whole reply and "", or "" and why there is none. Never raises for a failing grader."""
        reply, note = await self.say(prompt)
        word = read_word(reply, words)
        return word, "" if word else note or unread(reply)

    async def say(self, prompt: str) -> tuple[str, str]:
        """The whole reply and "", or "" and why there is none; for a form of reply that is no word. Never raises for a failing grader."""
        reply = await ask_grader(self.model, prompt, self.settings.generate_config())
        if reply.cut_off:
            return "", failure(Cause.CUT_OFF, f"the reply was cut off: {reply.text[:80]!r}")
        return reply.text, reply.note


def unread(reply: str) -> str:
    """The note of a reply that is none of those that were agreed on."""
    return failure(Cause.UNREADABLE, f"the reply is none of the agreed words or numbers: {reply[:80]!r}")


def find_grader(grader: str | Model | None) -> Model:
    """The Inspect model that a grader's name (or, for None, the role `grader`) stands for.

    Raises:
        JudgeError: it cannot be used.
    """
    try:
        return get_model(grader) if grader is not None else get_model(role=ROLES[0], required=True)
    except Exception as error:
        given = f"The grader {grader!r}" if grader is not None else f"A model with the role {ROLES[0]!r}"
        told = re.sub(r"\[/?[a-z ]+\]", "", str(error)).strip().rstrip(".")  # without marks for a terminal
        raise JudgeError(
            f"{given} cannot be used: {told}. Write an Inspect model name with its provider, such as 'openai/gpt-4o', and set the provider's key "
            "(OPENAI_API_KEY); within an Inspect evaluation give `--model-role grader=openai/gpt-4o`."
        ) from error


def graders_from_roles() -> list[Model]:
    """The models with the roles of judges, in their order; none where the first is not given.

    A second opinion alone is no panel.
    """
    given = model_roles()
    return [get_model(role=role) for role in ROLES if role in given] if ROLES[0] in given else []


def grader_parts(model: Model) -> dict[str, Any]:
    """What tells one grader from another, for a judge's identity."""
    return {
        "version": VERSION,
        "grader": str(model),
        "server": model.explicit_base_url,
        "arguments": {name: value for name, value in model.model_args.items() if isinstance(value, str | int | float | bool)},
        "config": model.config.model_dump(mode="json", exclude_none=True, include=set(_REPLY_SHAPING)),
    }


def digest(parts: object) -> str:
    """12 hex digits of the SHA-256 over the canonical JSON of what makes a judge."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
